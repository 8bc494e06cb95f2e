//! Command lines of programs that call mariadb-backup, as they stand in those programs: our program
//! is found by its name on the PATH, and nobody tells it how to behave.

#![cfg(test)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use compat_tests::compare::State;
use compat_tests::installation::Series;
use compat_tests::server::TestServer;
use compat_tests::tool::Tool;

/// A server with an account for backups, and a place where scripts find our program.
struct Site {
    server: TestServer,
    state: State,
    /// `bin`, the home directory `home`, and room for the scripts.
    dir: PathBuf,
}

impl Site {
    fn new() -> Self {
        let server = TestServer::start(&["--skip-networking=0"]);
        server.execute_all(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.t (id INT PRIMARY KEY, v TEXT) ENGINE=InnoDB \
             SELECT seq id, MD5(seq) v FROM d.seq_1_to_5000",
            "CREATE TABLE d.m (id INT PRIMARY KEY) ENGINE=MyISAM SELECT seq id FROM d.seq_1_to_50",
            "CREATE USER backup@localhost IDENTIFIED BY 'it''s secret'",
            "GRANT RELOAD, PROCESS, BINLOG MONITOR, REPLICA MONITOR ON *.* TO backup@localhost",
            "CREATE USER backup@'127.0.0.1' IDENTIFIED BY 'it''s secret'",
            "GRANT RELOAD, PROCESS, BINLOG MONITOR, REPLICA MONITOR ON *.* TO backup@'127.0.0.1'",
        ]);
        let state = State::of(&server);
        let dir = server.dir().join("site");
        fs::create_dir_all(dir.join("bin")).unwrap();
        fs::create_dir(dir.join("home")).unwrap();
        let program = Tool::Ours.command().get_program().to_owned();
        for name in ["mariabackup", "mariadb-backup", "mbstream"] {
            symlink(&program, dir.join("bin").join(name)).unwrap();
        }
        Self { server, state, dir }
    }

    /// Runs the shell script `text` in a new folder `name`; `D` is the data directory of `restored`.
    fn run(&self, name: &str, restored: &TestServer, text: &str) -> PathBuf {
        let dir = self.dir.join(name);
        fs::create_dir(&dir).unwrap();
        let datadir = restored.datadir();
        let client = format!(
            "[client]\nuser=backup\npassword=\"it's secret\"\nsocket={}\n[mysqld]\ndatadir={}\n",
            self.server.socket().display(),
            datadir.display()
        );
        fs::write(self.dir.join("home/.my.cnf"), &client).unwrap();
        fs::write(dir.join("my.cnf"), &client).unwrap();
        let path = format!("{}:/usr/bin:/bin", self.dir.join("bin").display());
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", text])
            .current_dir(&dir)
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.dir.join("home"))
            .env("H", "127.0.0.1")
            .env("N", self.server.port().to_string())
            .env("U", "backup")
            .env("P", "it's secret")
            .env("D", &datadir)
            .env("FREE", free.to_string())
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {}\n{said}", output.status);
        assert!(said.contains("completed OK!"), "{name}\n{said}");
        assert!(!said.contains("secret"), "{name}\n{said}");
        dir
    }

    /// As [`run`](Self::run); what is then in the data directory is the backed up server.
    fn check(&self, name: &str, text: &str) {
        let mut restored = TestServer::prepare(Series::V10_11, &[]);
        self.run(name, &restored, text);
        restored.launch();
        self.state.assert_same_as(&State::of(&restored));
    }
}

#[test]
fn operators_and_images() {
    let site = Site::new();
    site.check(
        "mariadb-operator",
        "mariadb-backup --user=$U --password=\"$P\" --host=$H --port=$N --backup \
         --stream=xbstream --databases-exclude='lost+found' > backup.xb
         mkdir full
         mbstream -x -C full < backup.xb
         mariadb-backup --prepare --target-dir=full
         mariadb-backup --copy-back --target-dir=full --force-non-empty-directories",
    );
    site.check(
        "mariadb-operator with compression",
        "mariadb-backup --user=$U --password=\"$P\" --host=$H --port=$N --backup \
         --stream=xbstream --databases-exclude='lost+found' --compress --parallel=2 | gzip > b.gz
         mkdir full
         gunzip -c b.gz | mbstream -x -C full
         mariadb-backup --decompress --target-dir=full
         mariadb-backup --prepare --target-dir=full
         mariadb-backup --copy-back --target-dir=full --force-non-empty-directories",
    );
    site.check(
        "docker-entrypoint",
        "mariadb-backup --backup --target-dir=made
         mariadb-backup --prepare --target-dir=made
         tar --create --zstd --file backup.tar.zst --directory made .
         mkdir $D/.init
         tar --auto-compress --extract --file backup.tar.zst --directory $D/.init
         grep -q '^\\[mysqld\\]' $D/.init/backup-my.cnf
         mariadb-backup --target-dir=$D/.init --datadir=$D/.restore --move-back
         mv $D/.restore/* $D/
         rm -r $D/.init $D/.restore",
    );
    let restored = TestServer::prepare(Series::V10_11, &[]);
    site.run(
        "kubeblocks",
        &restored,
        "mariadb-backup --backup --stream=mbstream --host=$H --port=$N --user=$U \
         --password=\"$P\" --datadir=$D --skip-ssl > backup.mb
         mkdir base
         mbstream -x -C base < backup.mb
         test -s base/mariadb_backup_binlog_info || test -s base/xtrabackup_binlog_info
         mariadb-backup --prepare --target-dir=base
         mariadb-backup --copy-back --target-dir=base --datadir=$D",
    );
}

#[test]
fn streams_through_other_programs() {
    let site = Site::new();
    site.check(
        "wal-g",
        "mariabackup --backup --stream=xbstream --datadir=/var/lib/mysql --extra-lsndir=lsn > stream
         grep -q '^to_lsn = ' lsn/xtrabackup_checkpoints
         mbstream -x -C $D < stream
         mariabackup --prepare --target-dir=$D",
    );
    site.check(
        "rebuild_slave",
        "mariabackup --backup --target-dir=/tmp --stream=xbstream --parallel=2 | pigz -c \
         | socat - TCP-LISTEN:$FREE,reuseaddr &
         cd $D
         socat -u TCP:$H:$FREE,retry=200,interval=0.1 STDOUT | pigz -dc | mbstream -x
         wait $!
         mariabackup --use-memory=1G --prepare --target-dir=$D/
         test -n \"$(awk '{print $3}' xtrabackup_binlog_info)\"",
    );
    let restored = TestServer::prepare(Series::V10_11, &[]);
    site.run(
        "kolla",
        &restored,
        "mariabackup --defaults-file=$PWD/my.cnf --backup --stream=mbstream | gzip > full.gz
         mkdir restore
         gunzip -c full.gz | mbstream -x -C restore
         mariabackup --prepare --target-dir restore",
    );
    site.run(
        "replication-manager",
        &restored,
        "socat -u TCP-LISTEN:$FREE,reuseaddr OPEN:stream,creat &
         mariabackup --innobackupex --defaults-file=$PWD/my.cnf --databases-exclude=.system \
         --protocol=TCP --user=$U --host=$H --password=\"$P\" --port=$N --stream=xbstream /tmp \
         | socat -u stdio TCP:$H:$FREE,retry=200,interval=0.1
         wait $!
         mkdir out
         mbstream -p 4 -x -C out < stream
         mariabackup --prepare --target-dir=out",
    );
}

#[test]
fn scripts() {
    let site = Site::new();
    site.check(
        "packetfence",
        "mariabackup --innobackupex --no-timestamp backup
         mariabackup --innobackupex --apply-log --use-memory=1GB backup
         cd backup
         mariabackup --innobackupex --defaults-file=$PWD/../my.cnf --move-back \
         --force-non-empty-directories ./",
    );
    site.check(
        "mailcow",
        "mariabackup --host=$H --port=$N --user=$U --password=\"$P\" --backup --rsync \
         --target-dir=backup
         mariabackup --prepare --target-dir=backup
         mariabackup --copy-back --target-dir backup",
    );
    let restored = TestServer::prepare(Series::V10_11, &[]);
    let dir = site.run(
        "others",
        &restored,
        "mariabackup --backup --target_dir=a -u $U --lock-ddl-per-table \
         --kill-long-queries-timeout=300 --extended-validation --parallel=4
         mariabackup --backup --no-lock --stream=mbstream --extra-lsndir=l | gzip > b.gz
         mariabackup --help | grep -qw -F -- '--version-check'
         ! mariabackup --prepare --apply-log-only --target-dir=a
         mariabackup --prepare --target-dir=a",
    );
    assert!(Path::new(&dir).join("a/xtrabackup_checkpoints").is_file());
}
