//! A small file system, in memory, to be filled up. Only what runs inside its own mount namespace
//! sees it at its path, so that nothing is left of it after a test.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const FILLER: &str = "filler";

/// What a full disk is out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Of space, but for so many bytes, a multiple of 4 KiB, as far as there are so many.
    Space(u64),
    /// Of names: all but so many files that it can hold are there.
    Names(usize),
}

/// A file system of its own.
pub struct TinyDisk {
    keeper: Child,
    path: PathBuf,
}

impl TinyDisk {
    /// Mounts `mib` MiB at `path`, which becomes a folder.
    pub fn mount(path: &Path, mib: u64) -> Self {
        fs::create_dir(path).expect("make a folder");
        let mut command = Command::new("unshare");
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        // It lives until its standard input is closed, so that it never outlives the test.
        let script = format!(
            "mount -t tmpfs -o size={mib}M,nr_inodes=4000 none '{}'; echo mounted; exec cat",
            path.display()
        );
        command.args(["--mount", "--propagation=private", "sh", "-euc", &script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
        let mut line = String::new();
        let said = keeper.stdout.as_mut().expect("a pipe");
        BufReader::new(said).read_line(&mut line).expect("read what the shell said");
        assert_eq!(line, "mounted\n", "{command:?}");
        Self { keeper, path: path.to_owned() }
    }

    /// `inner`, to be run where the disk is seen, as one process.
    pub fn command(&self, inner: &Command) -> Command {
        let mut command = Command::new("nsenter");
        let of_keeper = |kind| format!("/proc/{}/ns/{kind}", self.keeper.id());
        if !is_root() {
            command.arg(format!("--user={}", of_keeper("user"))).arg("--preserve-credentials");
        }
        command.arg(format!("--mount={}", of_keeper("mnt"))).arg("--").arg(inner.get_program());
        command.args(inner.get_args()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Where a file of the disk is seen by the test.
    pub fn view(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.keeper.id()));
        root.join(self.path.strip_prefix("/").expect("an absolute path")).join(name)
    }

    /// Fills the disk.
    pub fn fill(&self, lack: Lack) {
        match lack {
            Lack::Space(room) => {
                let mut file = File::create_new(self.view(FILLER)).expect("make a file");
                let full = loop {
                    if let Err(error) = file.write_all(&[1; 4096]) {
                        break error;
                    }
                };
                assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
                let len = file.metadata().expect("look at a file").len();
                file.set_len(len.saturating_sub(room)).expect("cut a file");
            }
            Lack::Names(room) => {
                let dir = self.view(FILLER);
                fs::create_dir(&dir).expect("make a folder");
                let mut names = (0..).map(|number| dir.join(number.to_string()));
                let made: Vec<PathBuf> =
                    names.by_ref().take_while(|name| File::create_new(name).is_ok()).collect();
                for name in made.iter().take(room) {
                    fs::remove_file(name).expect("remove a file");
                }
            }
        }
    }

    /// Removes what filled the disk.
    pub fn make_space(&self) {
        let filler = self.view(FILLER);
        let removed =
            if filler.is_dir() { fs::remove_dir_all(&filler) } else { fs::remove_file(&filler) };
        removed.expect("remove what fills the disk");
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("a process").uid() == 0
}
