//! Partial backups: the filters beside those of mariadb-backup, and DDL that moves tables into the
//! filter and out of it while a backup runs.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use compat_tests::hooks::HookedBackup;
use compat_tests::installation::Series;
use compat_tests::server::TestServer;
use compat_tests::tool::{Tool, run};

/// The files in the folders of databases of a backup, as they will be called, and the folders.
fn files(backup: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in fs::read_dir(backup).unwrap().map(Result::unwrap) {
        if !folder.file_type().unwrap().is_dir() {
            continue;
        }
        let name = folder.file_name().into_string().unwrap();
        found.insert(name.clone());
        for file in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            let file = file.file_name().into_string().unwrap().replace(".new", ".ibd");
            found.insert(format!("{name}/{file}"));
        }
    }
    found
}

fn is_partial(backup: &Path) -> bool {
    let info = fs::read_to_string(backup.join("xtrabackup_info")).unwrap();
    info.contains("\npartial = Y\n")
}

fn create(server: &TestServer) {
    for sql in [
        "CREATE DATABASE db1",
        "CREATE DATABASE db2",
        "CREATE DATABASE db3",
        "CREATE DATABASE empty",
        "CREATE DATABASE `d b4`",
        "CREATE TABLE db1.t1 (a INT PRIMARY KEY, b TEXT, FULLTEXT (b))",
        "CREATE TABLE db1.t2 (a INT) ENGINE=MyISAM",
        "CREATE TABLE db1.t21 (a INT) ENGINE=Aria",
        "CREATE TABLE db1.`t x` (a INT)",
        "CREATE TABLE db2.t1 (a INT)",
        "CREATE TABLE db2.p (a INT) PARTITION BY HASH (a) PARTITIONS 3",
        "CREATE TABLE db2.m (a INT) ENGINE=MyISAM PARTITION BY HASH (a) PARTITIONS 2",
        "CREATE TABLE db3.t1 (a INT)",
        "CREATE TABLE `d b4`.t1 (a INT)",
        "CREATE VIEW db1.v AS SELECT a FROM db1.t1",
        "CREATE TRIGGER db1.tr BEFORE INSERT ON db1.t2 FOR EACH ROW SET NEW.a = NEW.a + 1",
        "INSERT INTO db1.t1 SELECT seq, CONCAT('word', seq) FROM test.seq_1_to_500",
        "INSERT INTO db1.t2 SELECT seq FROM test.seq_1_to_10",
        "INSERT INTO db2.t1 SELECT seq FROM test.seq_1_to_5000",
        "INSERT INTO db2.p SELECT seq FROM test.seq_1_to_5000",
        "INSERT INTO db3.t1 SELECT seq FROM test.seq_1_to_100",
    ] {
        server.execute(sql);
    }
}

/// Backs up with both tools, which must take the same files; returns what ours said.
fn backed_up_alike(server: &TestServer, options: &[&str]) -> String {
    let dirs = ["ours", "theirs"].map(|name| server.dir().join(name));
    for dir in dirs.iter().filter(|dir| dir.exists()) {
        fs::remove_dir_all(dir).unwrap();
    }
    let said = Tool::Ours.backup(server, &dirs[0], options);
    Tool::Reference(Series::V10_11).backup(server, &dirs[1], options);
    let (ours, theirs) = (files(&dirs[0]), files(&dirs[1]));
    let extra: Vec<_> = ours.difference(&theirs).collect();
    let missing: Vec<_> = theirs.difference(&ours).collect();
    assert!(extra.is_empty() && missing.is_empty(), "{options:?}: +{extra:?} -{missing:?}");
    assert_eq!(is_partial(&dirs[0]), is_partial(&dirs[1]), "{options:?}");
    said
}

#[test]
fn filters_take_the_same_files() {
    let server = TestServer::start(&[]);
    create(&server);
    let list = server.dir().join("list");
    let list_option = |name: &str| format!("--{name}={}", list.display());
    let said = backed_up_alike(&server, &["--databases=db1 none d@0020b4.t1\tempty"]);
    assert!(said.contains("nothing on the server matches 'none'"), "{said}");
    assert!(said.contains("Skipping db: ./db2"), "{said}");
    assert!(said.contains("Skipping ./d@0020b4/db.opt."), "{said}");
    assert!(!said.contains("matches 'd"), "{said}");
    backed_up_alike(&server, &["--tables=^db1[.]t[12]$,p#P#p0$,[.]m$,xyz"]);
    fs::write(&list, "db2.p\ndb1.t1\ndb3\n").unwrap();
    backed_up_alike(&server, &[&list_option("databases-file"), "--tables-exclude=#P#p1"]);
    fs::write(&list, "db1.t21\nd@0020b4.t1\n").unwrap();
    backed_up_alike(&server, &[&list_option("tables-file"), "--tables=user"]);
    let exclude = ["--tables-exclude=db1[.].*[2x]$,^db2[.]t", "--databases-exclude=db3 lost+found"];
    let said = backed_up_alike(&server, &exclude);
    assert!(said.contains("Note: nothing on the server matches 'lost+found'"), "{said}");

    // Names as in SQL, and a file in the working directory, are ours.
    fs::write(&list, "d b4\ndb1.t x\n").unwrap();
    let sql_names = server.dir().join("sql_names");
    let mut command = Tool::Ours.backup_command(&server, &sql_names, &["--databases-file=list"]);
    run(command.current_dir(server.dir())).expect_success();
    let expected = ["d@0020b4", "d@0020b4/db.opt", "d@0020b4/t1.frm", "d@0020b4/t1.ibd", "db1"]
        .into_iter()
        .chain(["db1/t@0020x.frm", "db1/t@0020x.ibd"]);
    assert_eq!(files(&sql_names), expected.map(str::to_owned).collect());

    // What ours and theirs left of the last filter is prepared by the other one.
    for (dir, prepares) in [("ours", Tool::Reference(Series::V10_11)), ("theirs", Tool::Ours)] {
        let backup = server.dir().join(dir);
        let said = prepares.prepare(&backup, &[]);
        assert!(prepares != Tool::Ours || !said.contains("is not in the backup"), "{said}");
        let restored = Tool::Ours.restore(&backup, Series::V10_11, &[]);
        assert_eq!(restored.query_u64("SELECT COUNT(*) FROM db2.p"), 5000);
        assert_eq!(restored.query_u64("SELECT COUNT(*) FROM db1.t1"), 500);
        let folder = restored.datadir().join("db3");
        assert!(!folder.exists());
    }
}

#[test]
fn bad_filters_are_refused_before_anything_is_written() {
    let server = TestServer::start(&[]);
    let target = server.dir().join("backup");
    fs::write(server.dir().join("cut"), "test.t1").unwrap();
    let cut = format!("--tables-file={}", server.dir().join("cut").display());
    for (option, words) in [
        (
            "--tables=(?i)^DB1[.]t1$",
            "mariabackup: error: tables regcomp((?i)^DB1[.]t1$): Invalid preceding regular expression",
        ),
        ("--tables-exclude=(", "error: tables-exclude regcomp((): Unmatched ( or \\("),
        ("--databases=a/b", "name `a/b` is not valid."),
        (&cut, "`test.t1...` name is too long"),
        ("--databases-file=none", "cannot open"),
    ] {
        for tool in [Tool::Ours, Tool::Reference(Series::V10_11)] {
            // Theirs reads on behind the name of a file that is not there.
            if option.ends_with("none") && tool != Tool::Ours {
                continue;
            }
            run(&mut tool.backup_command(&server, &target, &[option])).expect_failure(&[words]);
            assert!(tool != Tool::Ours || !target.exists());
            let _ = fs::remove_dir_all(&target);
        }
    }
}

/// Tables change between included and excluded names while the backup waits at `point`.
fn tables_come_and_go(series: Series, point: &str) {
    let server = TestServer::start_series(series, &[]);
    server.execute("CREATE DATABASE inside");
    server.execute("CREATE DATABASE outside");
    for engine in ["InnoDB", "MyISAM", "Aria"] {
        let table = |db: &str, name: &str| format!("{db}.{name}_{}", engine.to_lowercase());
        for name in
            [table("inside", "stays"), table("inside", "leaves"), table("outside", "enters")]
        {
            server.execute(format!("CREATE TABLE {name} (a INT, b CHAR(200)) ENGINE={engine}"));
            server.execute(format!("INSERT INTO {name} SELECT seq, seq FROM test.seq_1_to_3000"));
        }
    }
    let backup = server.dir().join("backup");
    let mut running =
        HookedBackup::start(&server, &backup, &["--databases=inside", "--parallel=2"], &[point]);
    running.wait_at(point);
    for engine in ["innodb", "myisam", "aria"] {
        server.execute(format!("RENAME TABLE inside.leaves_{engine} TO outside.left_{engine}"));
        server.execute(format!("RENAME TABLE outside.enters_{engine} TO inside.entered_{engine}"));
        server.execute(format!("CREATE TABLE outside.new_{engine} (a INT) ENGINE={engine}"));
        server.execute(format!("INSERT INTO inside.entered_{engine} VALUES (0, 'late')"));
        server.execute(format!("RENAME TABLE inside.stays_{engine} TO outside.x"));
        server.execute(format!("RENAME TABLE outside.x TO inside.stays_{engine}"));
        server.execute(format!("DROP TABLE outside.new_{engine}"));
    }
    running.go_on(point);
    running.wait().expect_success();
    Tool::Ours.prepare(&backup, &[]);
    let expected: BTreeSet<String> = ["innodb", "myisam", "aria"]
        .into_iter()
        .flat_map(|engine| [format!("entered_{engine}.frm"), format!("stays_{engine}.frm")])
        .collect();
    let found = files(&backup);
    let found: BTreeSet<String> = found
        .iter()
        .filter_map(|file| file.strip_prefix("inside/"))
        .filter(|file| Path::new(file).extension() == Some("frm".as_ref()))
        .map(str::to_owned)
        .collect();
    assert_eq!(found, expected);
    assert!(!backup.join("outside").exists());
    // The system tables are not in the backup.
    let restored = Tool::Ours.restore(&backup, series, &["--skip-grant-tables"]);
    for engine in ["innodb", "myisam", "aria"] {
        let rows =
            |name: &str| restored.query_u64(format!("SELECT COUNT(*) FROM inside.{name}_{engine}"));
        assert_eq!((rows("entered"), rows("stays")), (3001, 3000), "{engine}");
    }
}

#[test]
fn tables_renamed_into_the_filter_and_out_of_it_10_11() {
    tables_come_and_go(Series::V10_11, "after-tablespaces");
    tables_come_and_go(Series::V10_11, "after-listing");
}

#[test]
fn tables_renamed_into_the_filter_and_out_of_it_11_8() {
    tables_come_and_go(Series::V11_8, "after-plain");
}

#[test]
fn ddl_on_tables_left_out_does_not_matter_without_locks() {
    let server = TestServer::start(&[]);
    server.execute("CREATE TABLE test.t (a INT)");
    server.execute("CREATE DATABASE outside");
    let point = "before-block-commit";
    for (ddl, is_good) in [
        ("CREATE TABLE outside.t (a INT)", true),
        ("RENAME TABLE outside.t TO test.entered", false),
    ] {
        let backup = server.dir().join("backup");
        let options = ["--no-lock", "--databases-exclude=outside"];
        let mut running = HookedBackup::start(&server, &backup, &options, &[point]);
        running.wait_at(point);
        server.execute(ddl);
        running.go_on(point);
        let outcome = running.wait();
        if is_good {
            outcome.expect_success();
        } else {
            outcome.expect_failure(&["DDL operation detected"]);
        }
        fs::remove_dir_all(&backup).unwrap();
    }
}
