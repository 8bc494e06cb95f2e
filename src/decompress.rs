//! `--decompress`: unpacks the files of a backup that was taken with `--compress`, by whatever.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::compression;
use crate::durable::{self, FileSystem};
use crate::options::DecompressOptions;
use crate::report::{AlreadyTold, Report};
use crate::sink::HoleWriter;
use crate::threads::in_threads;

/// Unpacks every compressed file in `options.target_dir`. All is on stable storage before the first
/// original is removed.
///
/// # Errors
///
/// A file that is damaged, one that exists with other contents, what the system reports. The
/// originals stay; what was unpacked does so too, and is checked by the next run.
pub fn run(options: &DecompressOptions, report: &Report) -> anyhow::Result<()> {
    let dir = &options.target_dir;
    let mut files = Vec::new();
    find(dir, &mut files)?;
    if let Some(file) =
        files.iter().find(|file| !is_harmless(file.strip_prefix(dir).unwrap_or(file)))
    {
        // Scripts know these lines, each followed by an empty one.
        let name = file.strip_prefix(dir).unwrap_or(file);
        report.say(format_args!("decompressing ./{}\n", name.display()));
        report.say("Error: invalid file name\n");
        report.say("Error: thread 0 failed.");
        return Err(AlreadyTold.into());
    }
    let file_system = FileSystem::of(dir).with_context(|| format!("open {}", dir.display()))?;
    let threads = options.parallel.map_or(1, NonZeroUsize::get);
    in_threads(threads, &files, |thread, file| {
        let name = file.strip_prefix(dir).unwrap_or(file);
        report.say_as(thread, format_args!("decompressing ./{}", name.display()));
        unpack(file).with_context(|| format!("decompress {}", file.display()))
    })?;
    file_system.sync().with_context(|| format!("sync {}", dir.display()))?;
    if options.remove_original {
        for file in &files {
            report.say(format_args!("Removing {}", file.display()));
            fs::remove_file(file).with_context(|| format!("remove {}", file.display()))?;
        }
        file_system.sync().with_context(|| format!("sync {}", dir.display()))?;
    }
    Ok(())
}

/// All compressed files below `dir`.
fn find(dir: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let context = || format!("list {}", dir.display());
    for entry in fs::read_dir(dir).with_context(context)? {
        let entry = entry.with_context(context)?;
        let (path, kind) = (entry.path(), entry.file_type().with_context(context)?);
        if kind.is_dir() {
            find(&path, files)?;
        } else if kind.is_file() && compression::is_compressed(&entry.file_name()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// Whether `name` is one that the server gives to files. Where a file is unpacked by a shell, any
/// other could be a command.
fn is_harmless(name: &Path) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-.@/_#".contains(byte);
    name.as_os_str().as_bytes().iter().all(is_plain)
}

/// Unpacks `file` to the same name without the extension.
fn unpack(file: &Path) -> anyhow::Result<()> {
    let target = file.with_extension("");
    let temporary = durable::temporary_beside(&target)?;
    durable::remove_leftover(&temporary)?;
    let input = File::open(file)?;
    let output = durable::create_exclusive(&temporary, durable::file_mode())?;
    let unpacked = || -> anyhow::Result<()> {
        let mut output = HoleWriter::new(output);
        compression::unpack(input, file, &mut output)?;
        output.finish().context("write what is unpacked")?;
        match durable::rename_new(&temporary, &target) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                // An earlier run came as far as this.
                ensure!(
                    durable::same_contents(&temporary, &target)?,
                    "{} exists already, with other contents",
                    target.display()
                );
                Ok(fs::remove_file(&temporary)?)
            }
            other => Ok(other?),
        }
    };
    let result = unpacked();
    if result.is_err() {
        // The first error is the one to tell of.
        let _ = fs::remove_file(&temporary);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::Compression;

    fn pack(path: &Path, bytes: &[u8]) {
        let compression = match path.extension().unwrap().to_str().unwrap() {
            "qp" => Compression::QuickLz(4096),
            "zst" => Compression::Zstd(1),
            _ => Compression::Lz4,
        };
        let mut output = compression.head(path);
        let mut at = 0;
        for piece in bytes.chunks(compression.piece_len()) {
            output.extend(compression.piece(at, piece).unwrap());
            at += piece.len() as u64;
        }
        output.extend(compression.end(at));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, output).unwrap();
    }

    fn decompress(dir: &Path, remove_original: bool) -> anyhow::Result<()> {
        let options = DecompressOptions {
            target_dir: dir.to_path_buf(),
            parallel: NonZeroUsize::new(3),
            remove_original,
            verbose: false,
        };
        run(&options, &Report::to_stderr(false))
    }

    #[test]
    fn files_are_unpacked_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let big = vec![7; 100_000];
        let files = [
            ("ibdata1.qp", &big[..]),
            ("db/t.frm.zst", b"x"),
            ("db/empty.lz4", b""),
            ("db/u.lz4", &big),
        ];
        for (name, bytes) in files {
            pack(&dir.path().join(name), bytes);
        }
        fs::write(dir.path().join("xtrabackup_checkpoints"), b"plain").unwrap();
        decompress(dir.path(), false).unwrap();
        // Once more, after it was interrupted.
        decompress(dir.path(), true).unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            assert!(fs::read(path.with_extension("")).unwrap() == bytes, "{name}");
            assert!(!path.exists(), "{name}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn nothing_is_overwritten_and_no_original_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ibdata1.qp");
        pack(&path, b"new");
        fs::write(dir.path().join("ibdata1"), b"old").unwrap();
        let error = decompress(dir.path(), true).unwrap_err();
        assert!(format!("{error:#}").contains("exists already, with other contents"), "{error:#}");
        assert_eq!(fs::read(dir.path().join("ibdata1")).unwrap(), b"old");

        fs::remove_file(dir.path().join("ibdata1")).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let error = decompress(dir.path(), true).unwrap_err();
        assert!(format!("{error:#}").contains("cut"), "{error:#}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_that_a_shell_would_run() {
        let dir = tempfile::tempdir().unwrap();
        pack(&dir.path().join("x;reboot.qp"), b"");
        let error = decompress(dir.path(), false).unwrap_err();
        assert!(error.is::<AlreadyTold>(), "{error}");
        assert!(!dir.path().join("x;reboot").exists());
    }
}
