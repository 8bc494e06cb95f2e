//! What a backup or a preparation cannot work with: the message says what is wrong, the exit code
//! is not 0, and nothing else is touched.

#![cfg(test)]

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use compat_tests::compare::{Allowed, assert_same_files, metadata_name};
use compat_tests::installation::{Series, prefixed};
use compat_tests::server::{TestServer, copy_tree, wait_until};
use compat_tests::tool::{Running, Tool, run};
use compat_tests::workload::{Workload, create_tables};

const PASSWORD: &str = "verySecret-4711";

/// A backup as `user`, with the password given as an option.
fn backup_as(server: &TestServer, user: &str, password: &str, target: &Path) -> Command {
    let mut command = Tool::Ours.command();
    command
        .args(["--backup", &format!("--user={user}"), &format!("--password={password}")])
        .arg(prefixed("--socket=", &server.socket()))
        .arg(prefixed("--target-dir=", target));
    command
}

#[test]
fn a_wrong_password_is_named_and_not_shown() {
    let server = TestServer::start(&[]);
    server.execute(format!("CREATE USER bob@localhost IDENTIFIED BY '{PASSWORD}'"));
    let target = server.dir().join("backup");
    let stderr = run(&mut backup_as(&server, "bob", "wrong-0815", &target))
        .expect_failure(&["Access denied", "bob"]);
    assert!(!stderr.contains("wrong-0815"), "{stderr}");
    assert!(!target.exists(), "a folder was made before the connection");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("backup");
    let mut command = Tool::Ours.command();
    command
        .args(["--backup", "--user=root", "--socket=/nowhere/mariadb.sock"])
        .arg(prefixed("--target-dir=", &target));
    run(&mut command).expect_failure(&["/nowhere/mariadb.sock"]);
    assert!(!target.exists());

    // Nobody listens on a port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Tool::Ours.command();
    command
        .args(["--backup", "--user=root", "--host=127.0.0.1", &format!("--port={port}")])
        .arg(prefixed("--target-dir=", &target));
    run(&mut command).expect_failure(&["127.0.0.1", &port.to_string()]);
    assert!(!target.exists());
}

#[test]
fn a_missing_privilege_is_named_with_its_grant() {
    let server = TestServer::start(&[]);
    server.execute(format!("CREATE USER bob@localhost IDENTIFIED BY '{PASSWORD}'"));
    let target = server.dir().join("backup");
    let backup = || run(&mut backup_as(&server, "bob", PASSWORD, &target));
    backup().expect_failure(&["RELOAD", "PROCESS", "GRANT"]);
    server.execute("GRANT PROCESS ON *.* TO bob@localhost");
    backup().expect_failure(&["missing required privilege RELOAD on *.*", "GRANT"]);
    server.execute("GRANT RELOAD ON *.* TO bob@localhost");
    // The position of the binary log takes one more; this is found out before anything is copied.
    backup().expect_failure(&["BINLOG MONITOR", "GRANT"]);
    assert!(!target.join("ibdata1").exists());
    server.execute("GRANT BINLOG MONITOR ON *.* TO bob@localhost");
    let _ = fs::remove_dir_all(&target);
    backup().expect_success();
}

/// Waits until the tool waits for its first lock.
fn wait_for_backup_stage(server: &TestServer, tool: &mut Running) {
    wait_until("BACKUP STAGE START", || {
        assert!(tool.child().try_wait().unwrap().is_none(), "the tool has ended");
        server.query_u64(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'BACKUP STAGE%'",
        ) > 0
    });
}

#[test]
fn the_password_is_not_shown() {
    let server = TestServer::start(&[]);
    server.execute(format!("CREATE USER bob@localhost IDENTIFIED BY '{PASSWORD}'"));
    server.execute("GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO bob@localhost");
    server.execute("CREATE TABLE test.t (id INT) ENGINE=MyISAM");
    // With this lock held the backup waits, and we have time to look.
    let mut lock = server.connect();
    mysql::prelude::Queryable::query_drop(&mut lock, "LOCK TABLES test.t WRITE").unwrap();
    let target = server.dir().join("backup");
    let mut tool = Running::start(&mut backup_as(&server, "bob", PASSWORD, &target));
    wait_for_backup_stage(&server, &mut tool);
    let process = PathBuf::from(format!("/proc/{}", tool.child().id()));
    let command_line = fs::read(process.join("cmdline")).unwrap();
    drop(lock);
    let stderr = tool.wait().expect_success();
    let command_line = String::from_utf8_lossy(&command_line);
    assert!(command_line.contains("--backup"), "{command_line}");
    assert!(!command_line.contains(PASSWORD), "{command_line}");
    assert!(!stderr.contains(PASSWORD), "{stderr}");
    for entry in fs::read_dir(&target).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes());
            assert!(!found, "the password is in {}", path.display());
        }
    }
    let info = fs::read_to_string(target.join(metadata_name(Series::V10_11, "info"))).unwrap();
    assert!(info.contains("tool_command"), "{info}");
}

#[test]
fn a_used_target_is_refused_and_stays_as_it_is() {
    let server = TestServer::start(&[]);
    let target = server.dir().join("backup");
    Tool::Ours.backup(&server, &target, &[]);
    let before = server.dir().join("before");
    copy_tree(&target, &before);
    let outcome = run(&mut Tool::Ours.backup_command(&server, &target, &[]));
    outcome.expect_failure(&[target.to_str().unwrap()]);
    assert_same_files(&before, &target, Allowed::Nothing);
}

#[test]
fn a_target_that_cannot_be_written_is_named() {
    let server = TestServer::start(&[]);
    let file = server.dir().join("file");
    fs::write(&file, "").unwrap();
    for target in [
        // No parent.
        server.dir().join("missing/backup"),
        // A file.
        file.clone(),
        // Below a file.
        file.join("backup"),
        // Nobody makes a folder here.
        PathBuf::from("/proc/mariabackup-test"),
    ] {
        let outcome = run(&mut Tool::Ours.backup_command(&server, &target, &[]));
        outcome.expect_failure(&[target.to_str().unwrap()]);
    }
    assert_eq!(fs::metadata(&file).unwrap().len(), 0);
}

#[test]
fn a_damaged_page_is_named_with_file_number_and_offset() {
    const PAGE_LEN: u64 = 16384;
    let server = TestServer::start(&[]);
    create_tables(&server);
    // So the server has written all pages and does not write them again.
    server.execute_all(&["FLUSH TABLES busy.t_dynamic FOR EXPORT", "UNLOCK TABLES"]);
    let path = server.datadir().join("busy/t_dynamic.ibd");
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut bytes = [0; 4];
    let place = 4 * PAGE_LEN + 5000;
    file.read_exact_at(&mut bytes, place).unwrap();
    let damaged = bytes.map(|byte| !byte);
    file.write_all_at(&damaged, place).unwrap();

    let target = server.dir().join("backup");
    let stderr = run(&mut Tool::Ours.backup_command(&server, &target, &[])).expect_failure(&[
        "busy/t_dynamic.ibd",
        "page 4",
        &(4 * PAGE_LEN).to_string(),
    ]);
    assert!(!stderr.contains("test.counter"), "{stderr}");
    // The source is only read.
    file.read_exact_at(&mut bytes, place).unwrap();
    assert_eq!(bytes, damaged);
    server.execute("CREATE TABLE test.t (id INT)");
}

/// A backup under load, not prepared. The reference takes it, so that a failure here is one of
/// the preparation.
fn busy_backup() -> (TestServer, PathBuf) {
    let server = TestServer::start(&[]);
    create_tables(&server);
    let load = Workload::start(&server, 5, 2);
    load.wait_for(500);
    let backup = server.dir().join("backup");
    Tool::Reference(Series::V10_11).backup(&server, &backup, &[]);
    load.stop();
    (server, backup)
}

#[test]
fn a_truncated_or_damaged_redo_log_is_refused_before_anything_is_written() {
    type Spoil<'a> = (&'a str, &'a dyn Fn(&File));
    let (server, backup) = busy_backup();
    let log_len = fs::metadata(backup.join("ib_logfile0")).unwrap().len();
    assert!(log_len > 100_000, "{log_len} bytes of redo are too few");
    let copy = server.dir().join("copy");
    let broken = server.dir().join("broken");
    let spoil: [Spoil; 5] = [
        ("half of it", &|log| log.set_len(log_len / 2).unwrap()),
        ("without its last byte", &|log| log.set_len(log_len - 1).unwrap()),
        ("nothing but a part of the header", &|log| log.set_len(100).unwrap()),
        ("empty", &|log| log.set_len(0).unwrap()),
        ("zeros in the middle", &|log| log.write_all_at(&[0; 512], log_len / 2).unwrap()),
    ];
    for (what, spoil) in spoil {
        println!("log: {what}");
        copy_tree(&backup, &copy);
        spoil(&OpenOptions::new().write(true).open(copy.join("ib_logfile0")).unwrap());
        copy_tree(&copy, &broken);
        run(&mut Tool::Ours.prepare_command(&copy, &[])).expect_failure(&["log"]);
        assert_same_files(&broken, &copy, Allowed::Nothing);
        fs::remove_dir_all(&copy).unwrap();
        fs::remove_dir_all(&broken).unwrap();
    }
    fs::remove_file(backup.join("ib_logfile0")).unwrap();
    run(&mut Tool::Ours.prepare_command(&backup, &[])).expect_failure(&["ib_logfile0"]);
}

#[test]
fn a_directory_that_is_no_backup_is_not_prepared() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    run(&mut Tool::Ours.prepare_command(&missing, &[]))
        .expect_failure(&[missing.to_str().unwrap()]);
    assert!(!missing.exists());
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    run(&mut Tool::Ours.prepare_command(&other, &[])).expect_failure(&[other.to_str().unwrap()]);
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    fs::write(other.join("notes.txt"), "mine").unwrap();
    run(&mut Tool::Ours.prepare_command(&other, &[])).expect_failure(&[other.to_str().unwrap()]);
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
}

/// A data directory is no backup, and preparing one would destroy it.
#[test]
fn a_data_directory_is_not_prepared() {
    let mut server = TestServer::start(&[]);
    create_tables(&server);
    server.kill();
    let before = server.dir().join("before");
    copy_tree(&server.datadir(), &before);
    run(&mut Tool::Ours.prepare_command(&server.datadir(), &[]))
        .expect_failure(&[server.datadir().to_str().unwrap()]);
    assert_same_files(&before, &server.datadir(), Allowed::Nothing);
}

#[test]
fn a_second_preparation_changes_nothing() {
    let (server, backup) = busy_backup();
    Tool::Ours.prepare(&backup, &[]);
    let before = server.dir().join("before");
    copy_tree(&backup, &before);
    Tool::Ours.prepare(&backup, &[]);
    assert_same_files(&before, &backup, Allowed::Nothing);
    // Whoever prepared it: neither tool minds the other one's work.
    Tool::Reference(Series::V10_11).prepare(&backup, &[]);
    assert_same_files(&before, &backup, Allowed::Aria);
}

#[test]
fn a_target_inside_the_data_directory_is_refused() {
    let server = TestServer::start(&[]);
    let names = || -> std::collections::BTreeSet<_> {
        fs::read_dir(server.datadir()).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    let before = names();
    for target in [server.datadir(), server.datadir().join("backup")] {
        run(&mut Tool::Ours.backup_command(&server, &target, &[]))
            .expect_failure(&[target.to_str().unwrap()]);
    }
    assert_eq!(names(), before);
}

#[test]
fn a_backup_fails_when_its_server_dies() {
    let mut server = TestServer::start(&[]);
    create_tables(&server);
    let mut lock = server.connect();
    mysql::prelude::Queryable::query_drop(&mut lock, "LOCK TABLES busy.m_plain WRITE").unwrap();
    let target = server.dir().join("backup");
    let mut tool = Running::start(&mut Tool::Ours.backup_command(&server, &target, &[]));
    wait_for_backup_stage(&server, &mut tool);
    server.kill();
    tool.wait().expect_failure(&["BACKUP STAGE"]);
    assert!(!target.join(metadata_name(Series::V10_11, "checkpoints")).exists());
}

/// The first packet of a server of the given version, as bytes.
fn handshake(version: &str) -> Vec<u8> {
    let mut packet = vec![10];
    packet.extend(version.as_bytes());
    packet.push(0);
    // Connection 7; the first part of the scramble; protocol 4.1, secure connection, plugins.
    packet.extend([7, 0, 0, 0]);
    packet.extend(*b"abcdefgh\0");
    packet.extend([0xff, 0xf7, 33, 2, 0, 0xff, 0x81, 21]);
    packet.extend([0; 10]);
    packet.extend(*b"ijklmnopqrst\0");
    packet.extend(*b"mysql_native_password\0");
    let len = u8::try_from(packet.len()).unwrap();
    [vec![len, 0, 0, 0], packet].concat()
}

#[test]
fn other_servers_are_refused() {
    for version in ["8.0.36", "5.7.44-log", "5.5.5-10.4.32-MariaDB", "5.5.5-10.3.39-MariaDB-log"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&handshake(version)).unwrap();
            // Whatever is said is welcome: OK, until the client goes.
            let mut header = [0; 4];
            while stream.read_exact(&mut header).is_ok() {
                let len = u32::from_le_bytes([header[0], header[1], header[2], 0]);
                let mut body = vec![0; usize::try_from(len).unwrap()];
                let sequence = header[3].wrapping_add(1);
                let ok = [7, 0, 0, sequence, 0, 0, 0, 2, 0, 0, 0];
                if stream.read_exact(&mut body).is_err() || stream.write_all(&ok).is_err() {
                    break;
                }
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("backup");
        let mut command = Tool::Ours.command();
        command
            .args(["--backup", "--user=root", "--password=x", "--skip-ssl", "--host=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(prefixed("--target-dir=", &target));
        let shown = version.strip_prefix("5.5.5-").unwrap_or(version);
        run(&mut command).expect_failure(&["Unsupported server version", shown]);
        assert!(!target.exists());
        server.join().unwrap();
    }
}
