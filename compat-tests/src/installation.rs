//! Where the programs of each server series are: on this machine, or in a Debian tree of their
//! own made by `cargo xtask test`.
//!
//! Programs of a tree are run by that tree's own dynamic linker, with its libraries. So they need
//! no root rights, no mount and no chroot, see the same paths as everybody else, and leave nothing
//! behind when they are killed.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A series of the server, with what is used to test it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Series {
    /// MariaDB 10.5 of Debian bullseye.
    V10_5,
    /// MariaDB 10.11 of Debian bookworm; where that is this machine's release, its own package.
    V10_11,
    /// MariaDB 11.8 of Debian trixie.
    V11_8,
}

impl Series {
    /// The series whose redo log format is that of 10.8 and later.
    pub const CURRENT: [Self; 2] = [Self::V10_11, Self::V11_8];

    /// The name of the Debian release whose packages are used; absent: the machine's own.
    pub fn debian_release(self) -> Option<&'static str> {
        match self {
            Self::V10_5 => Some("bullseye"),
            Self::V10_11 => (!runs_bookworm()).then_some("bookworm"),
            Self::V11_8 => Some("trixie"),
        }
    }

    /// The two numbers with which the server's version begins.
    pub fn number(self) -> &'static str {
        match self {
            Self::V10_5 => "10.5",
            Self::V10_11 => "10.11",
            Self::V11_8 => "11.8",
        }
    }

    /// The folder under which this series is installed.
    pub fn root(self) -> PathBuf {
        self.debian_release()
            .map_or_else(|| PathBuf::from("/"), |release| servers_dir().join(release))
    }

    /// A program of this series, with nothing in its environment that changes its behaviour.
    ///
    /// `folder` is the one below the root, such as `usr/sbin`.
    pub fn command(self, folder: &str, program: impl AsRef<OsStr>) -> Command {
        let root = self.root();
        let program = root.join(folder).join(program.as_ref());
        assert!(
            program.is_file(),
            "{} is missing; install MariaDB {self} with: cargo xtask install",
            program.display()
        );
        let mut command = if self.debian_release().is_some() {
            // Not the link in `lib64`: up to bullseye it is absolute and leads out of the tree.
            let libraries = root.join("usr/lib/x86_64-linux-gnu");
            let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
            command.arg("--library-path").arg(libraries).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.env_remove("MYSQL_HOME").env_remove("MYSQL_PWD").env("LC_ALL", "C");
        command
    }

    /// The server program, with the options that tell it where it is installed.
    pub fn server_command(self) -> Command {
        let root = self.root();
        let mut command = self.command("usr/sbin", "mariadbd");
        command.arg("--no-defaults");
        // A tree's server must not look for its messages and plugins on the machine itself.
        if self.debian_release().is_some() {
            command.arg(prefixed("--basedir=", &root.join("usr")));
            command.arg(prefixed("--plugin-dir=", &root.join("usr/lib/mysql/plugin")));
            command.arg(prefixed("--lc-messages-dir=", &self.share_dir()));
            command.arg(prefixed("--character-sets-dir=", &self.share_dir().join("charsets")));
        }
        command
    }

    /// The statements that make a new data directory's system tables, for `--bootstrap`. The
    /// account root@localhost has no password.
    pub fn bootstrap_sql(self) -> String {
        let dir = self.share_dir();
        let mut sql =
            "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n".to_owned();
        for name in ["system_tables", "performance_tables", "system_tables_data"] {
            let path = ["mysql", "mariadb"]
                .map(|prefix| dir.join(format!("{prefix}_{name}.sql")))
                .into_iter()
                .find(|path| path.is_file())
                .unwrap_or_else(|| panic!("no {name}.sql in {}", dir.display()));
            sql += &fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
            sql.push('\n');
        }
        sql + "CREATE DATABASE test;\n"
    }

    fn share_dir(self) -> PathBuf {
        let root = self.root();
        let dirs = ["usr/share/mariadb", "usr/share/mysql"].map(|dir| root.join(dir));
        let found = dirs.into_iter().find(|dir| dir.join("charsets").is_dir());
        found.unwrap_or_else(|| {
            panic!("MariaDB {self} is missing; install it with: cargo xtask install")
        })
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}

/// Tells whether this machine's own packages are those of Debian bookworm.
fn runs_bookworm() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == "VERSION_CODENAME=bookworm")
}

/// The folder of the Debian trees: `MARIABACKUP_SERVERS`, or `target/servers` of the workspace.
pub fn servers_dir() -> PathBuf {
    std::env::var_os("MARIABACKUP_SERVERS")
        .map_or_else(|| workspace_dir().join("target/servers"), PathBuf::from)
}

/// The folder of the workspace.
pub fn workspace_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of a workspace").to_owned()
}

/// An option and its path as one argument.
pub fn prefixed(option: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(option);
    argument.push(path);
    argument
}
