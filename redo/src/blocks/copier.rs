//! Copying a log of blocks while a server writes it.

use innodb::Lsn;

use super::{BlockCipher, Blocks, BlocksEnd, Cut, Payload, block_of, first_payload};
use crate::mtr::{Layout, Mtr, Stored, Unfinished};

/// Why a log cannot be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The log cannot be cut at the limit: a mini-transaction goes over it.
    #[error("the mini-transaction from LSN {start} to {end} goes over LSN {limit}")]
    LimitInside {
        /// Where the copy was to end.
        limit: Lsn,
        /// Start of the mini-transaction.
        start: Lsn,
        /// Its end.
        end: Lsn,
    },
    /// No mini-transaction can begin with what is there, though the checksums of the blocks are
    /// right: a fault of the server, or a wrong key.
    #[error("there is no mini-transaction at LSN {lsn}")]
    Malformed {
        /// Where.
        lsn: Lsn,
    },
}

/// Copies whole blocks up to the one in which the last complete mini-transaction ends; that one is
/// held back, since the server writes it again, and since the copy may have to end within it.
///
/// The caller reads the log from [`Self::window_start`] on, gives what it read to [`Self::take`],
/// and appends what that returns to the copy, over and over.
#[derive(Debug)]
pub struct BlockCopier {
    /// End of the last complete mini-transaction.
    position: Lsn,
    cipher: Option<BlockCipher>,
    payload: Vec<u8>,
}

/// What a look at the log brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken<'w> {
    /// Blocks to append to the copy.
    pub blocks: &'w [u8],
    /// The last block of the copy, to be appended after them: the limit was reached.
    pub last: Option<Cut>,
    /// Why there were no more blocks in the window.
    ///
    /// Behind the window's first block none of them is an error while a server writes. The first
    /// block was readable before, or holds the checkpoint: if it lasts, whatever is not
    /// [`BlocksEnd::NeedMore`] is an error there, and [`BlocksEnd::Overwritten`] is one at once.
    pub end: BlocksEnd,
    /// Whether that was in the window's first block.
    pub is_at_start: bool,
}

impl BlockCopier {
    /// Begins at a checkpoint. `cipher`: of an encrypted log.
    pub fn new(checkpoint: Lsn, cipher: Option<BlockCipher>) -> Self {
        Self { position: first_payload(checkpoint), cipher, payload: Vec::new() }
    }

    /// End of the last complete mini-transaction that was seen.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// LSN of the block from which on the log is to be read.
    pub fn window_start(&self) -> Lsn {
        block_of(self.position)
    }

    /// Replaces the key, when another version is needed.
    pub fn set_cipher(&mut self, cipher: BlockCipher) {
        self.cipher = Some(cipher);
    }

    /// Takes complete mini-transactions up to `limit` from `window`, the blocks from
    /// [`Self::window_start`] on, and shows them to `each`, in the clear.
    ///
    /// Nothing but the window's length limits a mini-transaction: if nothing was taken and
    /// [`Taken::end`] is [`BlocksEnd::NeedMore`], a larger window is needed.
    ///
    /// # Errors
    ///
    /// What `each` returns; [`CopyError`].
    pub fn take<'w, E: From<CopyError>>(
        &mut self,
        window: &'w [u8],
        limit: Option<Lsn>,
        each: impl FnMut(&Mtr<'_>) -> Result<(), E>,
    ) -> Result<Taken<'w>, E> {
        let limit = limit.map(first_payload);
        let start = self.window_start();
        let mut blocks = Blocks::new(self.position, self.cipher.take());
        self.payload.clear();
        let end = blocks.take(window, &mut self.payload);
        let is_at_start = blocks.next_block() == start && end != BlocksEnd::Partial;
        let advanced = self.advance(blocks.payload(), limit, each);
        let before = usize::try_from(self.window_start().since(start)).unwrap_or(window.len());
        let (whole, held) = window.split_at_checked(before).unwrap_or((window, &[]));
        let mut last = None;
        if limit == Some(self.position) {
            last = blocks.cut(held, self.window_start(), self.position).ok();
        }
        self.cipher = blocks.into_cipher();
        advanced.map(|()| Taken { blocks: whole, last, end, is_at_start })
    }

    /// Goes over the complete mini-transactions in the payload, which begins at the position.
    fn advance<E: From<CopyError>>(
        &mut self,
        layout: Payload,
        limit: Option<Lsn>,
        mut each: impl FnMut(&Mtr<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = self.payload.as_slice();
        while limit.is_none_or(|limit| self.position < limit) {
            let stored = match Stored::parse(rest, self.position, Layout::Blocks(layout)) {
                Ok(stored) => stored,
                Err(Unfinished::NeedMore) => break,
                Err(_) => return Err(CopyError::Malformed { lsn: self.position }.into()),
            };
            let (start, end) = (stored.start(), stored.end());
            if let Some(limit) = limit.filter(|&limit| end > limit) {
                return Err(CopyError::LimitInside { limit, start, end }.into());
            }
            if let Some(mtr) = stored.plain() {
                each(&mtr)?;
            }
            rest = rest.get(stored.stored_len()..).unwrap_or_default();
            self.position = end;
        }
        Ok(())
    }
}
