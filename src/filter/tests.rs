use super::*;

fn options(list: &[(&str, &str)]) -> FilterOptions {
    let mut options = FilterOptions::default();
    for (name, value) in list {
        let text = || Some(value.as_bytes().to_vec());
        let file = || Some(ListFile { path: PathBuf::from(value), typed: PathBuf::from(value) });
        match *name {
            "databases" => options.databases = text(),
            "databases-exclude" => options.databases_exclude = text(),
            "tables" => options.tables = text(),
            "tables-exclude" => options.tables_exclude = text(),
            "databases-file" => options.databases_file = file(),
            _ => options.tables_file = file(),
        }
    }
    options
}

fn filter(list: &[(&str, &str)]) -> TableFilter {
    TableFilter::new(&options(list), Path::new("/nowhere")).unwrap()
}

fn problem(list: &[(&str, &str)]) -> String {
    let error = TableFilter::new(&options(list), Path::new("/nowhere")).unwrap_err();
    format!("{error:#}")
}

/// Those of some files that the filter takes.
fn taken(list: &[(&str, &str)]) -> Vec<&'static str> {
    const FILES: [&str; 14] = [
        "db1/db.opt",
        "db1/t1.frm",
        "db1/t1.ibd",
        "db1/t2.ibd",
        "db1/t21.ibd",
        "db1/t@0020x.ibd",
        "db1/FTS_01_CONFIG.ibd",
        "db2/db.opt",
        "db2/p#P#p0.ibd",
        "db2/p#P#p1#SP#s0.ibd",
        "db2/v#i#00.ibd",
        "d@0020b3/t1.MAI",
        "mysql/user.MAD",
        "lost+found/x.frm",
    ];
    let filter = filter(list);
    let takes = |file: &&str| {
        let folder = Path::new(file).parent().unwrap();
        filter.takes(Path::new(file)) && filter.takes_database(folder.as_os_str())
    };
    FILES.into_iter().filter(takes).collect()
}

#[test]
fn nothing_given_takes_all() {
    assert!(filter(&[]).is_empty());
    assert!(filter(&[("databases", " \t"), ("tables", ",,")]).is_empty());
    assert_eq!(taken(&[]).len(), 14);
}

#[test]
fn included_databases() {
    let db2 = ["db2/db.opt", "db2/p#P#p0.ibd", "db2/p#P#p1#SP#s0.ibd", "db2/v#i#00.ibd"];
    assert_eq!(taken(&[("databases", "db2 none")]), db2);
    assert_eq!(taken(&[("databases", "d@0020b3")]), ["d@0020b3/t1.MAI"]);
    assert_eq!(
        taken(&[("databases", "db1.t1\tmysql")]),
        ["db1/t1.frm", "db1/t1.ibd", "mysql/user.MAD"]
    );
    assert_eq!(
        taken(&[("databases", "db2.p db1.t2")]),
        ["db1/t2.ibd", "db2/p#P#p0.ibd", "db2/p#P#p1#SP#s0.ibd"]
    );
    assert_eq!(taken(&[("databases", "db2.p#P#p0")]), ["db2/p#P#p0.ibd"]);
    assert_eq!(taken(&[("databases", "db2.v")]), ["db2/v#i#00.ibd"]);
    assert!(taken(&[("databases", "DB1 db")]).is_empty());
    assert_eq!(taken(&[("databases", "db2 db2.p")]), db2);
}

#[test]
fn excluded_databases_and_tables() {
    let taken_without = |list| {
        let taken = taken(list);
        taken.len()
    };
    assert_eq!(taken_without(&[("databases-exclude", "lost+found")]), 13);
    assert_eq!(taken_without(&[("databases-exclude", "db1 db2")]), 3);
    // The table alone.
    assert_eq!(taken_without(&[("databases-exclude", "db1.t1")]), 12);
    assert_eq!(
        taken(&[("databases", "db1"), ("databases-exclude", "db1.t1 db2")]),
        ["db1/db.opt", "db1/t2.ibd", "db1/t21.ibd", "db1/t@0020x.ibd", "db1/FTS_01_CONFIG.ibd"]
    );
    assert!(taken(&[("databases", "db2"), ("databases-exclude", "db2")]).is_empty());
}

#[test]
fn patterns() {
    assert_eq!(
        taken(&[("tables", "^db1[.]t1$,user")]),
        ["db1/t1.frm", "db1/t1.ibd", "mysql/user.MAD"]
    );
    assert_eq!(
        taken(&[("tables", "db1.*1")]),
        ["db1/t1.frm", "db1/t1.ibd", "db1/t21.ibd", "db1/FTS_01_CONFIG.ibd"]
    );
    assert_eq!(taken(&[("tables", "^db2[.]p$")]), ["db2/p#P#p0.ibd", "db2/p#P#p1#SP#s0.ibd"]);
    assert_eq!(taken(&[("tables", "^db2[.]p#P#p0$")]), ["db2/p#P#p0.ibd"]);
    // The exclusion of the table comes after the inclusion of its partition.
    let both = [("tables", "#P#p0$"), ("tables-exclude", "^db2[.]p$")];
    assert_eq!(taken(&both), ["db2/p#P#p0.ibd"]);
    assert_eq!(
        taken(&[("tables-exclude", "t"), ("databases", "db1")]),
        ["db1/db.opt", "db1/FTS_01_CONFIG.ibd"]
    );
    assert_eq!(
        taken(&[("tables", "t1"), ("databases", "mysql db1.t2")]),
        ["db1/t1.frm", "db1/t1.ibd", "db1/t2.ibd", "mysql/user.MAD"]
    );
}

#[test]
fn lists_in_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list");
    std::fs::write(&path, "d b3\ndb1.t x\n").unwrap();
    let name = path.to_str().unwrap();
    assert_eq!(taken(&[("databases-file", name)]), ["db1/t@0020x.ibd", "d@0020b3/t1.MAI"]);
    assert_eq!(problem(&[("tables-file", name)]), "`d b3` is not fully qualified name.");
    std::fs::write(&path, "\n").unwrap();
    assert!(taken(&[("databases-file", name)]).is_empty());
    std::fs::write(&path, "").unwrap();
    assert_eq!(taken(&[("databases-file", name)]).len(), 14);
    std::fs::write(&path, "db1.t1").unwrap();
    assert!(problem(&[("tables-file", name)]).starts_with("`db1.t1...` name is too long"));
    // From the working directory first, then from the data directory.
    std::fs::write(&path, "db1.t1\n").unwrap();
    let file = ListFile { path: "/nowhere/list".into(), typed: "list".into() };
    let options = FilterOptions { tables_file: Some(file), ..FilterOptions::default() };
    assert!(TableFilter::new(&options, dir.path()).unwrap().takes(Path::new("db1/t1.ibd")));
    let error = TableFilter::new(&options, Path::new("/nowhere")).unwrap_err();
    assert!(error.to_string().contains("cannot open /nowhere/list"), "{error}");
}

#[test]
fn names_that_cannot_be() {
    for name in ["a/b", "a\\b", "db.~t"] {
        let expected = format!("name `{name}` is not valid.");
        assert_eq!(problem(&[("databases", name)]), expected);
        assert_eq!(problem(&[("databases-exclude", name)]), expected);
    }
    let long = "x".repeat(193);
    assert!(problem(&[("databases", &long)]).ends_with("is too long."));
    let expected = "mariabackup: error: tables regcomp((): Unmatched ( or \\(";
    assert_eq!(problem(&[("tables", "a,(,b")]), expected);
    assert!(problem(&[("tables-exclude", "[z-a]")]).contains("error: tables-exclude regcomp("));
}

#[test]
fn entries_that_name_nothing() {
    let filter = filter(&[
        ("databases", "db1 none db2.p db2.q"),
        ("databases-exclude", "lost+found d@0020b3"),
        ("tables", "^db1[.]t,xyz"),
    ]);
    let folders = ["db1", "db2", "d@0020b3"].map(OsStr::new);
    let files = ["db1/t1.ibd", "db2/p#P#p0.ibd"].map(PathBuf::from);
    let (included, excluded) = filter.idle(&folders, &files);
    assert_eq!(included, ["db2.q", "none", "xyz"]);
    assert_eq!(excluded, ["lost+found"]);
}
