//! Whether a page is what the server wrote last, on whatever can be known of it.

use innodb::encrypted::{KeyError, KeySource};
use innodb::page::{self, CodecError, PageCodec, SpaceContext};

/// Judges the pages of one tablespace, in one thread.
pub struct PageCheck<'k> {
    context: SpaceContext,
    keys: Option<&'k dyn KeySource>,
    /// Where a page is decrypted or decompressed.
    plain: Vec<u8>,
}

impl<'k> PageCheck<'k> {
    /// With the server's keys, if it has any.
    pub fn new(context: SpaceContext, keys: Option<&'k dyn KeySource>) -> Self {
        Self { context, keys, plain: Vec::new() }
    }

    /// What is known of the tablespace.
    pub fn context(&self) -> &SpaceContext {
        &self.context
    }

    /// Goes on with what is known of the tablespace now.
    pub fn set_context(&mut self, context: SpaceContext) {
        self.context = context;
    }

    /// Checks page `page_no`: by its checksum as it stands in the file, and, where it is encrypted
    /// or hides its checksum, in its plain form. Encrypted pages of a server that has no keys
    /// itself are judged by the first alone.
    ///
    /// # Errors
    ///
    /// [`CodecError`]
    pub fn check(&mut self, bytes: &[u8], page_no: u32) -> Result<(), CodecError> {
        // What may be encrypted is judged by its plain form, which takes all that `verify` does.
        if self.keys.is_none() || !self.context.may_be_encrypted() {
            match page::verify(bytes, page_no, &self.context) {
                Err(error) if error.is_undecided() => {}
                decided => return decided.map_err(CodecError::from),
            }
        }
        self.plain.resize(bytes.len(), 0);
        let codec = PageCodec::new(self.context, self.keys);
        codec.decode(bytes, page_no, &mut self.plain).map(drop)
    }

    /// Id and version of the key with which the page is encrypted, if it is.
    pub fn key_of(&self, bytes: &[u8]) -> Option<(u32, u32)> {
        PageCodec::new(self.context, self.keys).key_of(bytes)
    }
}

/// Whether reading the page again cannot help: its key is not to be had.
pub fn is_final(error: &CodecError) -> bool {
    use KeyError::{Missing, Unavailable};
    let no_key = matches!(error, CodecError::Key(Missing { .. } | Unavailable { .. }));
    no_key || matches!(error, CodecError::NoKeys { .. })
}

/// Whether the page may be as the server wrote it, but not the key.
pub fn is_about_keys(error: &CodecError) -> bool {
    !matches!(error, CodecError::Page(_))
}
