//! Sessions with real servers: accounts, encryption, stages, locks, privileges, names of files.

#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use compat_tests::installation::Series;
use compat_tests::server::{TestServer, wait_until};
use mdl::facts::ServerFacts;
use mdl::filename;
use mdl::lock::TableLocks;
use mdl::position;
use mdl::privileges::{self, PrivilegeError};
use mdl::session::{ConnectOptions, Protocol, Session, SessionError, TlsOptions};
use mdl::stage::{CommitBlocked, DdlBlocked, Flushed, LockOptions, StageSession, Started};
use mdl::wait::Watch;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509Name};

fn as_user(server: &TestServer, user: &str, password: &str) -> ConnectOptions {
    ConnectOptions {
        user: Some(user.to_owned()),
        password: Some(password.to_owned()),
        socket: Some(server.socket()),
        ..ConnectOptions::default()
    }
}

fn as_root(server: &TestServer) -> ConnectOptions {
    as_user(server, "root", "")
}

fn by_tcp(server: &TestServer, options: ConnectOptions, host: &str) -> ConnectOptions {
    ConnectOptions {
        host: Some(host.to_owned()),
        port: Some(server.port()),
        protocol: Some(Protocol::Tcp),
        ..options
    }
}

fn current_user(options: &ConnectOptions) -> Result<String, SessionError> {
    Session::connect(options)?.query_value("SELECT CURRENT_USER()")
}

fn denied<T: std::fmt::Debug>(result: Result<T, SessionError>) {
    let error = result.unwrap_err();
    assert!(matches!(error, SessionError::Denied(_)), "{error:?}");
    assert!(error.to_string().starts_with("Access denied for user"), "{error}");
}

#[test]
fn accounts_of_every_kind() {
    for series in Series::CURRENT {
        let server = TestServer::start_series(
            series,
            &["--plugin-load-add=auth_ed25519", "--skip-networking=0"],
        );
        server.execute_all(&[
            "CREATE USER nat@'%' IDENTIFIED BY 'n'",
            "CREATE USER ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('e')",
            "CREATE USER two@'%' IDENTIFIED VIA ed25519 USING PASSWORD('1') \
             OR mysql_native_password USING PASSWORD('2')",
            "CREATE USER three@'%' IDENTIFIED VIA unix_socket OR ed25519 USING PASSWORD('3')",
        ]);
        for (user, password) in
            [("nat", "n"), ("ed", "e"), ("two", "1"), ("two", "2"), ("three", "3")]
        {
            let options = as_user(&server, user, password);
            assert_eq!(current_user(&options).unwrap(), format!("{user}@%"));
            let options = by_tcp(&server, options, "127.0.0.1");
            assert_eq!(current_user(&options).unwrap(), format!("{user}@%"));
        }
        for user in ["nat", "ed", "two", "three", "nobody"] {
            denied(current_user(&as_user(&server, user, "wrong")));
        }
    }
}

#[test]
fn the_operating_systems_account_needs_no_password() {
    let server = TestServer::start(&[]);
    let name = {
        let id = std::process::Command::new("id").arg("-un").output().unwrap();
        String::from_utf8(id.stdout).unwrap().trim().to_owned()
    };
    server.execute(format!("CREATE USER IF NOT EXISTS `{name}`@localhost"));
    // Without another account of that power, a root of the test could lock itself out.
    server.execute_all(&["CREATE USER admin@localhost", "GRANT ALL ON *.* TO admin@localhost"]);
    for plugins in ["unix_socket", "ed25519 USING PASSWORD('x') OR unix_socket"] {
        if plugins.starts_with("ed25519") {
            server.execute("INSTALL SONAME 'auth_ed25519'");
        }
        let sql = format!("ALTER USER `{name}`@localhost IDENTIFIED VIA {plugins}");
        let mut admin = server.try_connect("admin", "").unwrap();
        mysql::prelude::Queryable::query_drop(&mut admin, sql).unwrap();
        let options = ConnectOptions { user: None, password: None, ..as_root(&server) };
        assert_eq!(current_user(&options).unwrap(), format!("{name}@localhost"));
    }
    let sql = format!("ALTER USER `{name}`@localhost IDENTIFIED BY ''");
    let mut admin = server.try_connect("admin", "").unwrap();
    mysql::prelude::Queryable::query_drop(&mut admin, sql).unwrap();
}

#[test]
fn parsec_accounts() {
    let server = TestServer::start_series(
        Series::V11_8,
        &["--plugin-load-add=auth_parsec", "--skip-networking=0"],
    );
    server.execute_all(&[
        "CREATE USER par@'%' IDENTIFIED VIA parsec USING PASSWORD('p')",
        "CREATE USER two@'%' IDENTIFIED VIA parsec USING PASSWORD('1') \
         OR mysql_native_password USING PASSWORD('2')",
        "CREATE USER tls@'%' IDENTIFIED VIA parsec USING PASSWORD('p') REQUIRE SSL",
    ]);
    // Not ("two", "2"): over TLS, 11.8.6 drops most connections that come to a second plugin after
    // parsec, those of its own client too.
    for (user, password) in [("par", "p"), ("two", "1"), ("tls", "p")] {
        let options = as_user(&server, user, password);
        assert_eq!(current_user(&options).unwrap(), format!("{user}@%"));
        // 11.8 has a certificate of its own making, which is taken unless something is asked for.
        let options = by_tcp(&server, options, "127.0.0.1");
        assert!(Session::connect(&options).unwrap().is_encrypted());
    }
    denied(current_user(&as_user(&server, "par", "wrong")));
}

/// A key with a certificate, as files.
struct Identity {
    name: X509Name,
    key: PKey<Private>,
    cert_file: PathBuf,
    key_file: PathBuf,
}

impl Identity {
    /// X.509 version 1, so without alternative names; signed by itself without an authority.
    fn new(dir: &Path, common_name: &str, authority: Option<&Self>) -> Self {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("CN", common_name).unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(0).unwrap();
        let serial = BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap();
        builder.set_serial_number(&serial).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(authority.map_or(&name, |authority| &authority.name)).unwrap();
        builder.set_pubkey(&key).unwrap();
        let signer = authority.map_or(&key, |authority| &authority.key);
        builder.sign(signer, MessageDigest::sha256()).unwrap();
        let cert_file = dir.join(format!("{common_name}.pem"));
        let key_file = dir.join(format!("{common_name}.key"));
        fs::write(&cert_file, builder.build().to_pem().unwrap()).unwrap();
        fs::write(&key_file, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        Self { name, key, cert_file, key_file }
    }

    fn server_options(&self, authority: &Self) -> [String; 4] {
        [
            format!("--ssl-cert={}", self.cert_file.display()),
            format!("--ssl-key={}", self.key_file.display()),
            format!("--ssl-ca={}", authority.cert_file.display()),
            "--skip-networking=0".to_owned(),
        ]
    }
}

#[test]
fn certificates_without_alternative_names() {
    let dir = tempfile::tempdir().unwrap();
    // The server reads them, perhaps as another user.
    set_mode(dir.path(), 0o755);
    let authority = Identity::new(dir.path(), "authority", None);
    let other = Identity::new(dir.path(), "other", None);
    let identity = Identity::new(dir.path(), "localhost", Some(&authority));
    let client = Identity::new(dir.path(), "client", Some(&authority));
    for series in Series::CURRENT {
        let options = identity.server_options(&authority);
        let server = TestServer::start_series(series, &options.each_ref().map(String::as_str));
        server.execute_all(&[
            "CREATE USER nat@'%' IDENTIFIED BY 'n'",
            "CREATE USER tls@'%' IDENTIFIED BY 'n' REQUIRE SSL",
            "CREATE USER x@'%' IDENTIFIED BY 'n' REQUIRE X509",
        ]);
        let connect = |user: &str, host: &str, tls: TlsOptions| {
            let options = by_tcp(&server, as_user(&server, user, "n"), host);
            Session::connect(&ConnectOptions { tls, ..options }).map(|s| s.is_encrypted())
        };
        let none = TlsOptions::default;
        let ca =
            |identity: &Identity| TlsOptions { ca: Some(identity.cert_file.clone()), ..none() };
        let verified = |tls: TlsOptions| TlsOptions { verify_server_cert: Some(true), ..tls };

        assert!(connect("nat", "127.0.0.1", none()).unwrap());
        assert!(connect("nat", "127.0.0.1", ca(&authority)).unwrap());
        assert!(connect("nat", "localhost", verified(ca(&authority))).unwrap());
        let off = TlsOptions { enabled: Some(false), ..none() };
        assert!(!connect("nat", "127.0.0.1", off.clone()).unwrap());
        denied(connect("tls", "127.0.0.1", off));
        denied(connect("x", "127.0.0.1", none()));
        let with_client = TlsOptions {
            cert: Some(client.cert_file.clone()),
            key: Some(client.key_file.clone()),
            ..none()
        };
        assert!(connect("x", "127.0.0.1", with_client).unwrap());

        let message = |result: Result<bool, SessionError>| result.unwrap_err().to_string();
        let wrong_host = message(connect("nat", "127.0.0.1", verified(ca(&authority))));
        assert_eq!(wrong_host, "the server's certificate does not name the host '127.0.0.1'");
        for tls in [ca(&other), verified(ca(&other)), verified(none())] {
            let untrusted = message(connect("nat", "localhost", tls));
            assert!(untrusted.contains("not trusted"), "{untrusted}");
        }

        // The account insists on encryption, so the local link is encrypted too.
        let local = Session::connect(&as_user(&server, "tls", "n")).unwrap();
        assert!(local.is_encrypted());
        assert!(!Session::connect(&as_user(&server, "nat", "n")).unwrap().is_encrypted());
    }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The stages one after the other, with nobody looking on.
struct Steps {
    options: ConnectOptions,
    session: Session,
}

impl Steps {
    fn new(options: &ConnectOptions) -> Self {
        Self { options: options.clone(), session: Session::connect(options).unwrap() }
    }

    fn try_start(&mut self, seconds: Option<u64>) -> Result<StageSession<Started>, SessionError> {
        let patience = seconds.map(Duration::from_secs);
        let locks = LockOptions { patience, ..LockOptions::default() };
        StageSession::connect(&self.options, locks)?.start(&mut Watch::silent(&mut self.session))
    }

    fn start(&mut self) -> StageSession<Started> {
        self.try_start(None).unwrap()
    }

    fn flush(&mut self) -> StageSession<Flushed> {
        let stage = self.start();
        stage.flush(&mut Watch::silent(&mut self.session)).unwrap()
    }

    fn block_ddl(&mut self) -> StageSession<DdlBlocked> {
        let stage = self.flush();
        stage.block_ddl(&mut Watch::silent(&mut self.session)).unwrap()
    }

    fn block_commit(&mut self) -> StageSession<CommitBlocked> {
        let stage = self.block_ddl();
        stage.block_commit(&mut Watch::silent(&mut self.session)).unwrap()
    }
}

#[test]
fn commits_wait_from_block_commit_to_end() {
    for series in Series::CURRENT {
        let server = TestServer::start_series(series, &[]);
        server.execute("CREATE TABLE test.t (a INT) ENGINE=InnoDB");
        let mut stage = Steps::new(&as_root(&server)).block_commit();
        let lsn = stage.innodb_lsn_current().unwrap();
        let binlog = stage.binlog_position().unwrap().unwrap();
        thread::scope(|scope| {
            let writer = scope.spawn(|| server.execute("INSERT INTO test.t VALUES (1)"));
            wait_until("the writer to be blocked", || {
                server.query_u64(
                    "SELECT COUNT(*) FROM information_schema.processlist \
                     WHERE state = 'Waiting for backup lock'",
                ) == 1
            });
            stage.flush_engine_logs().unwrap();
            assert_eq!(stage.binlog_position().unwrap().unwrap(), binlog);
            assert!(stage.innodb_lsn_current().unwrap() >= lsn);
            assert!(!writer.is_finished());
            let ended = stage.end().unwrap();
            assert!(ended.ddl_blocked >= ended.commit_blocked);
            writer.join().unwrap();
        });
        let mut session = Session::connect(&as_root(&server)).unwrap();
        assert_ne!(position::binlog(&mut session).unwrap().unwrap(), binlog);
    }
}

#[test]
fn stages_dropped_anywhere_let_go_of_their_locks() {
    let server = TestServer::start(&[]);
    let mut steps = Steps::new(&as_root(&server));
    drop(steps.start());
    drop(steps.flush());
    drop(steps.block_ddl());
    drop(steps.block_commit());
    server.execute("CREATE TABLE test.t (a INT) ENGINE=MyISAM");
    let ended = steps.block_commit().end();
    assert!(ended.is_ok());
}

#[test]
fn a_second_backup_waits_only_as_long_as_it_may() {
    let server = TestServer::start(&[]);
    let mut steps = Steps::new(&as_root(&server));
    let first = steps.start();
    let error = steps.try_start(Some(1)).unwrap_err();
    assert_eq!(error.code(), Some(1205));
    assert!(error.to_string().contains("BACKUP STAGE START"), "{error}");
    assert!(error.hint().unwrap().contains("--startup-wait-timeout"));
    assert!(first.check().is_ok());
}

#[test]
fn a_killed_lock_connection_is_noticed() {
    let server = TestServer::start(&[]);
    let mut steps = Steps::new(&as_root(&server));
    let stage = steps.start();
    let monitor = stage.monitor();
    server.execute(format!("KILL {}", stage.connection_id()));
    wait_until("the loss to be noticed", || monitor.check().is_err());
    let error = stage.flush(&mut Watch::silent(&mut steps.session)).unwrap_err();
    assert!(matches!(error, SessionError::LocksLost { .. }), "{error:?}");

    // At the latest the next statement notices it.
    let stage = steps.start();
    server.execute(format!("KILL {}", stage.connection_id()));
    let mut watch = Watch::silent(&mut steps.session);
    let flushed = stage.flush(&mut watch);
    let error = flushed.and_then(|stage| stage.block_ddl(&mut watch)).unwrap_err();
    assert!(
        matches!(error, SessionError::Lost { .. } | SessionError::Server { code: 1927, .. }),
        "{error:?}"
    );
}

#[test]
fn the_server_drops_a_silent_lock_connection() {
    let server = TestServer::start(&[]);
    let stage = Steps::new(&as_root(&server)).start();
    let sql = format!(
        "SELECT COALESCE(MAX(time), 0) FROM information_schema.processlist WHERE id = {} AND command = 'Sleep'",
        stage.connection_id()
    );
    // Signs of life: the idle time falls back although nobody uses the stage.
    wait_until("two idle seconds", || server.query_u64(&sql) >= 2);
    wait_until("a sign of life", || server.query_u64(&sql) <= 1);
    assert!(stage.check().is_ok());
}

#[test]
fn table_locks_keep_ddl_off() {
    for series in Series::CURRENT {
        let server = TestServer::start_series(series, &[]);
        server.execute("CREATE TABLE test.`a b-c.ä€` (a INT) ENGINE=Aria");
        let locks = TableLocks::connect(&as_root(&server), LockOptions::default(), 2).unwrap();
        let lock = locks.lock(5, "test", "a@0020b@002dc@002e@0k@20ac").unwrap();
        let mut session = Session::connect(&as_root(&server)).unwrap();
        session.execute("SET lock_wait_timeout = 1").unwrap();
        let alter = "ALTER TABLE test.`a b-c.ä€` ADD b INT";
        assert_eq!(session.execute(alter).unwrap_err().code(), Some(1205));
        drop(lock);
        session.execute(alter).unwrap();
        locks.check().unwrap();

        let lock = locks.lock(0, "test", "t").unwrap();
        let me = session.connection_id();
        let others = format!(
            "SELECT id FROM information_schema.processlist WHERE command = 'Sleep' AND id <> {me}"
        );
        for id in server.query(&others).concat() {
            // One may be gone already.
            let _ = session.execute(&format!("KILL {id}"));
        }
        wait_until("the connections to be gone", || server.query(&others).is_empty());
        drop(lock);
        assert!(matches!(locks.check(), Err(SessionError::LocksLost { .. })));
    }
}

#[test]
fn tables_in_use_are_seen() {
    let server = TestServer::start(&[]);
    server.execute("CREATE TABLE test.`ü` (a INT) ENGINE=MyISAM");
    let mut writer = Session::connect(&as_root(&server)).unwrap();
    writer.execute("LOCK TABLE test.`ü` WRITE").unwrap();
    let mut session = Session::connect(&as_root(&server)).unwrap();
    let in_use = session.tables_in_use().unwrap();
    assert!(in_use.contains("test", "@1o"));
    assert!(!in_use.contains("test", "u"));
}

#[test]
fn missing_privileges_are_cured_by_the_statement_that_is_told() {
    for series in Series::CURRENT {
        let server = TestServer::start_series(series, &[]);
        server.execute_all(&[
            "CREATE USER `b``k'p`@localhost IDENTIFIED BY 'p'",
            "GRANT ALL ON test.* TO `b``k'p`@localhost",
        ]);
        let check = || {
            let mut session = Session::connect(&as_user(&server, "b`k'p", "p")).unwrap();
            let facts = ServerFacts::read(&mut session).unwrap();
            privileges::check(&mut session, &facts)
        };
        let Err(PrivilegeError::Missing(missing)) = check() else { panic!("no privilege missing") };
        let text = missing.to_string();
        for name in ["RELOAD", "PROCESS", "BINLOG MONITOR"] {
            assert!(text.contains(&format!("missing required privilege {name} on *.*")), "{text}");
        }
        assert!(text.contains("  1.GRANT USAGE ON *.*"), "{text}");
        assert!(!text.contains("PASSWORD"), "{text}");
        server.execute(missing.grant_statement().trim_end_matches(';'));
        check().unwrap();
        // What the check asks for is enough.
        let options = as_user(&server, "b`k'p", "p");
        let locks = TableLocks::connect(&options, LockOptions::default(), 1).unwrap();
        drop(locks.lock(0, "test", "t").unwrap());
        let mut stage = Steps::new(&options).block_commit();
        assert!(stage.binlog_position().unwrap().is_some());
        stage.flush_engine_logs().unwrap();
        stage.end().unwrap();
    }
}

#[test]
fn privileges_of_roles_count_while_active() {
    let server = TestServer::start(&[]);
    server.execute_all(&[
        "CREATE ROLE inner_role",
        "CREATE ROLE outer_role",
        "GRANT RELOAD, PROCESS ON *.* TO outer_role",
        "GRANT BINLOG MONITOR ON *.* TO inner_role",
        "GRANT inner_role TO outer_role",
        "CREATE USER r@localhost",
        "GRANT outer_role TO r@localhost",
    ]);
    let check = || {
        let mut session = Session::connect(&as_user(&server, "r", "")).unwrap();
        let facts = ServerFacts::read(&mut session).unwrap();
        privileges::check(&mut session, &facts)
    };
    assert!(check().is_err());
    server.execute("SET DEFAULT ROLE outer_role FOR r@localhost");
    check().unwrap();
}

#[test]
fn names_of_files_are_the_servers() {
    for series in Series::CURRENT {
        let server = TestServer::start_series(series, &[]);
        let mut session = Session::connect(&as_root(&server)).unwrap();
        let rows = session
            .query(
                "SELECT seq, CONVERT(CONVERT(CHAR(seq USING utf16) USING filename) USING binary) \
                 FROM test.seq_1_to_65535 WHERE seq NOT BETWEEN 55296 AND 57343",
            )
            .unwrap();
        assert_eq!(rows.len(), 63_487);
        for row in rows.iter() {
            let c = char::from_u32(row.at(0).unwrap().parse().unwrap()).unwrap().to_string();
            assert_eq!(filename::encode(&c), row.at(1).unwrap(), "{c:?} on {series}");
        }

        session.execute("CREATE DATABASE `d ü-1`").unwrap();
        for table in ["a b-c.ä€", "con", "Lpt9", "com0", "x@y#z`q", "日本", "Ԁ", "$"] {
            let quoted = table.replace('`', "``");
            session.execute(&format!("CREATE TABLE `d ü-1`.`{quoted}` (a INT)")).unwrap();
            let file = format!("{}/{}.frm", filename::encode("d ü-1"), filename::encode(table));
            assert!(server.datadir().join(&file).exists(), "{file}");
            assert_eq!(filename::decode(&filename::encode(table)), table);
        }
    }
}

#[test]
fn facts_and_positions_of_real_servers() {
    for series in Series::CURRENT {
        let server = TestServer::start_series(series, &["--ignore-db-dirs=skipped"]);
        let mut session = Session::connect(&as_root(&server)).unwrap();
        let facts = ServerFacts::read(&mut session).unwrap();
        let (major, minor) = facts.version.series();
        assert_eq!(format!("{major}.{minor}"), series.number());
        assert_eq!(facts.datadir, server.datadir());
        assert!(facts.log_group_home_dir().join("ib_logfile0").exists());
        assert!(facts.aria_log_dir().join("aria_log_control").exists());
        assert!(facts.ignores_database("skipped".as_ref()));
        let binlog = position::binlog(&mut session).unwrap().unwrap();
        assert!(facts.binlog_path(&binlog.file).unwrap().exists());
        let flushed = position::innodb_lsn_flushed(&mut session).unwrap();
        assert!(flushed <= position::innodb_lsn_current(&mut session).unwrap());
        assert_eq!(facts.flush_log_at_timeout, Duration::from_secs(1));
    }
}
