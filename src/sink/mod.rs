//! Where a backup goes.
//!
//! A sink takes files by relative path. A local directory takes their bytes at any offset, so
//! that several threads fill one file; sinks that need files in order (streams, object stores)
//! say so in [`Sink::takes_any_offset`], and the copy engine gives each file to one thread.

use std::io;
use std::path::{Path, PathBuf};

mod archive;
mod compressed;
mod holes;
mod local;
mod sequence;
mod spool;
mod stream;

pub use archive::Archive;
pub use compressed::Compressed;
pub use holes::{HoleWriter, hole_size, write_nonzero};
pub use local::LocalDir;
pub use spool::Spool;
pub use stream::Stream;

/// A destination of a whole backup. Paths are relative, without `..`.
pub trait Sink: Send + Sync {
    /// Creates a file, and the folder it lies in.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is a file of that name: nothing is ever overwritten.
    fn create(&self, path: &Path) -> io::Result<Box<dyn SinkFile>>;

    /// As [`create`](Self::create), for a file whose writer must not wait for the destination. It
    /// may be written anywhere, and again after it was finished, until [`sync`](Self::sync). Sinks
    /// that cannot do so are behind a [`Spool`].
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    fn create_urgent(&self, path: &Path) -> io::Result<Box<dyn SinkFile>> {
        self.create(path)
    }

    /// Creates a file in the place of one that this backup wrote before.
    ///
    /// # Errors
    ///
    /// `NotFound` when this backup has not written that file.
    fn replace(&self, path: &Path) -> io::Result<Box<dyn SinkFile>>;

    /// Takes a file that nobody changes any more, without copying it; false where that cannot be.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is a file of that name.
    fn link(&self, source: &Path, path: &Path) -> io::Result<bool>;

    /// Removes a file that this backup wrote before.
    ///
    /// # Errors
    ///
    /// `NotFound` when this backup has not written that file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Whether this backup has written a file of that name, and not removed it.
    fn has(&self, path: &Path) -> bool;

    /// Creates a folder, unless it is there.
    ///
    /// # Errors
    ///
    /// Those of the destination.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder that this backup made, if it is empty.
    ///
    /// # Errors
    ///
    /// Those of the destination, but not that the folder is not empty or not there.
    fn remove_empty_dir(&self, path: &Path) -> io::Result<()>;

    /// Whether a file's bytes may come in any order, from several threads.
    fn takes_any_offset(&self) -> bool;

    /// What happens to a file that is copied here, for messages.
    fn verb(&self) -> &'static str {
        "Copying"
    }

    /// The name by which the backup has the file `path`.
    fn stored_as(&self, path: &Path) -> PathBuf {
        path.to_path_buf()
    }

    /// While it holds, no call waits for whoever reads the destination: the server waits for the
    /// caller.
    fn hold(&self, _holds: bool) {}

    /// May be called from time to time: brings to stable storage what would make one sync at the
    /// end hold up others.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync).
    fn sync_some(&self) -> io::Result<()>;

    /// Returns when everything written so far is on stable storage.
    ///
    /// # Errors
    ///
    /// Any failure means that the backup is not durable and must not be called complete.
    fn sync(&self) -> io::Result<()>;

    /// As [`sync`](Self::sync), when nothing more will come.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync).
    fn complete(&self) -> io::Result<()> {
        self.sync()
    }
}

/// What to say when the file `source` is copied to `target` of the backup.
pub fn announcement(sink: &dyn Sink, source: &Path, target: &Path) -> String {
    let stored = sink.stored_as(target);
    format!("{} {} to {}", sink.verb(), source.display(), stored.display())
}

/// Creates a file, in the place of one that this backup wrote before if there is one.
///
/// # Errors
///
/// As [`Sink::create`].
pub fn create_or_replace(sink: &dyn Sink, path: &Path) -> io::Result<Box<dyn SinkFile>> {
    match sink.replace(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => sink.create(path),
        other => other,
    }
}

/// Creates a file as [`Sink::create_urgent`], in the place of one that this backup wrote before if
/// there is one.
///
/// # Errors
///
/// As [`Sink::create_urgent`].
pub fn create_or_replace_urgent(sink: &dyn Sink, path: &Path) -> io::Result<Box<dyn SinkFile>> {
    match sink.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sink.create_urgent(path),
    }
}

/// One file of a backup while it is written.
pub trait SinkFile: Send + Sync {
    /// Writes `bytes` at `offset` from the start of the file.
    ///
    /// # Errors
    ///
    /// Those of the destination; the file is then unusable.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Ends the file, which has `len` bytes; what was not written reads as zeros.
    ///
    /// # Errors
    ///
    /// Those of the destination.
    fn finish(&self, len: u64) -> io::Result<()>;
}
