//! One backup during which statements of several kinds run at every moment, each on tables of its
//! own.
//!
//! A table's name begins with its kind and moment, so that a difference after the restore tells
//! when something was lost. Each moment has its tables twice: in `test`, and in a database whose name,
//! like those of its tables, is not that of its files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use mysql::Conn;
use mysql::prelude::Queryable as _;

use crate::compare::{Allowed, State, check_tables, differences, replay_binlog};
use crate::hooks::HookedBackup;
use crate::installation::Series;
use crate::server::{TestServer, copy_tree, rows, wait_until};
use crate::tool::Tool;

/// Statements of one kind of DDL.
///
/// In statements, `{name}` stands for a table of the moment, `{>name}` for one in the other
/// database, `{+name}` for a database of the moment, `{rows}` for a number of rows, `{dir}` for
/// the folder for tables with a `DATA DIRECTORY`. A statement that begins with `@` is not the
/// server's: `@save a` copies the file of table `a` with its `.cfg` aside, `@put a b` makes them
/// those of table `b`.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name, with which those of its tables begin.
    pub name: &'static str,
    /// Before the backup.
    pub before: &'static [&'static str],
    /// At the moment.
    pub then: &'static [&'static str],
    /// After the backup.
    pub after: &'static [&'static str],
    /// Asked of both servers, must be answered alike.
    pub queries: &'static [&'static str],
    /// The file at whose opening and in whose middle moments are: a table, and what its file is
    /// called besides.
    pub file: (&'static str, &'static str),
    /// Which moments there are.
    pub moments: Moments,
    /// Whether the reference can prepare the backup.
    pub reference: Reference,
}

/// The moments at which a kind can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moments {
    /// All.
    All,
    /// All. The statements change rows alone, so that they need not wait for every lock.
    OfRows,
    /// Not before `BLOCK_DDL`, where the statements wait for the end, and the test for them.
    WithoutLocks,
    /// Not those at which the statements wait until the locks are released: what they need besides
    /// the binary log is not in a backup.
    Unblocked,
}

/// Whether the reference's prepare gets it right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// It does.
    Prepares,
    /// It does not, because its rules leave no way to say what happened.
    Cannot,
}

impl Kind {
    /// A kind that does nothing, for the fields that a kind leaves alone.
    pub const NONE: Self = Self {
        name: "",
        before: &[],
        then: &[],
        after: &[],
        queries: &[],
        file: ("t", ""),
        moments: Moments::All,
        reference: Reference::Prepares,
    };
}

/// A moment of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment {
    name: &'static str,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A point of the backup.
    Point(&'static str),
    /// A point in the copying of the moment's own file.
    File(&'static str),
    /// A point with locks held for which the statements wait.
    Blocked(&'static str),
}

const MOMENTS: [Moment; 9] = [
    Moment { name: "before_listing", at: At::Point("before-listing") },
    Moment { name: "after_listing", at: At::Point("after-listing") },
    Moment { name: "before_file", at: At::File("before-file") },
    Moment { name: "opened_file", at: At::File("opened-file") },
    Moment { name: IN_FILE, at: At::File("in-file") },
    Moment { name: "after_tablespaces", at: At::Point("after-tablespaces") },
    Moment { name: "before_block_ddl", at: At::Point("before-block-ddl") },
    Moment { name: "in_block_ddl", at: At::Blocked("in-block-ddl") },
    Moment { name: "in_block_commit", at: At::Blocked("in-block-commit") },
];

/// The moment whose file is several pieces long.
const IN_FILE: &str = "in_file";

impl Moment {
    fn point(&self, kind: &Kind) -> String {
        match self.at {
            At::Point(point) | At::Blocked(point) => point.to_owned(),
            At::File(point) => {
                let (table, suffix) = kind.file;
                format!("{point} test.{}_{}_{table}{suffix}.ibd", kind.name, self.name)
            }
        }
    }
}

/// How the tables of a kind and moment are named.
#[derive(Debug, Clone, Copy)]
struct Names<'a> {
    kind: &'a str,
    moment: &'a str,
    is_odd: bool,
    dir: &'a Path,
}

/// A database and the start of its tables' names that look different in the file system.
const ODD: (&str, &str) = ("odd-bäse", "#é ");

impl Names<'_> {
    fn table(&self, name: &str, other_database: bool) -> String {
        let database = if self.is_odd == other_database { "test" } else { ODD.0 };
        let infix = if self.is_odd { ODD.1 } else { "" };
        format!("`{database}`.`{}_{}_{infix}{name}`", self.kind, self.moment)
    }

    /// The path of a table's file without extension, below the data directory.
    fn file(&self, connection: &mut Conn, name: &str) -> PathBuf {
        let name = self.table(name, false);
        let sql = "SELECT CONVERT(CAST(CONVERT(? USING filename) AS BINARY) USING utf8mb4)";
        let part = |part: &str| {
            let encoded: Option<String> =
                connection.exec_first(sql, (part.trim_matches('`'),)).expect("encode a name");
            encoded.expect("a row")
        };
        name.split('.').map(part).collect()
    }

    fn fill_in(&self, sql: &str) -> String {
        let mut filled = String::new();
        let mut rest = sql;
        while let Some((before, after)) = rest.split_once('{') {
            let (word, after) = after.split_once('}').expect("a closing brace");
            let word = match word.split_at(1) {
                (">", name) => self.table(name, true),
                ("+", name) => {
                    let infix = if self.is_odd { ODD.1 } else { "" };
                    format!("`{}_{}_{infix}{name}`", self.kind, self.moment)
                }
                _ => match word {
                    "rows" if self.moment == IN_FILE && !self.is_odd => "30000".to_owned(),
                    "rows" => "200".to_owned(),
                    "dir" => self.dir.to_str().expect("UTF-8").to_owned(),
                    name => self.table(name, false),
                },
            };
            filled = filled + before + &word;
            rest = after;
        }
        filled + rest
    }

    fn run(&self, connection: &mut Conn, datadir: &Path, statements: &[&str]) {
        for statement in statements {
            let words: Vec<&str> = statement.split(' ').collect();
            match words[..] {
                ["@save", table] => {
                    let file = self.file(connection, table);
                    copy_table(&datadir.join(&file), &self.dir.join(&file));
                }
                ["@put", from, to] => {
                    let (from, to) = (self.file(connection, from), self.file(connection, to));
                    copy_table(&self.dir.join(from), &datadir.join(to));
                }
                _ => {
                    let sql = self.fill_in(statement);
                    connection.query_drop(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
                }
            }
        }
    }
}

/// Copies what belongs to a table that is flushed for export.
fn copy_table(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a folder")).expect("make a folder");
    for extension in ["ibd", "cfg"] {
        fs::copy(with_suffix(from, extension), with_suffix(to, extension)).expect("copy");
    }
}

fn with_suffix(path: &Path, extension: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(extension);
    path.into()
}

/// How a backup is taken.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// Of which server.
    pub series: Series,
    /// In how many threads.
    pub threads: u32,
    /// Whether what statements change is in the files at once, or mostly in memory and the log.
    pub is_flushed: bool,
}

/// What each kind needs of the server at most.
const OPTIONS: [&str; 2] = ["--system-versioning-alter-history=KEEP", "--max-connections=200"];

impl Kind {
    /// The moments at which it happens.
    fn moments(&self) -> impl Iterator<Item = Moment> {
        let moments = self.moments;
        MOMENTS.into_iter().filter(move |moment| match moments {
            Moments::All | Moments::OfRows => true,
            Moments::WithoutLocks => moment.at != At::Point("before-block-ddl"),
            Moments::Unblocked => !matches!(moment.at, At::Blocked(_)),
        })
    }
}

/// Backs up a server while each of `kinds` happens at every moment; lets both tools prepare the
/// backup, restores it and compares.
pub fn check(kinds: &[Kind], way: Way) {
    let mut source = TestServer::start_series(way.series, &OPTIONS);
    let far = source.dir().join("far");
    fs::create_dir(&far).expect("make a folder");
    source.execute(format!("CREATE DATABASE `{}`", ODD.0));
    let names = |kind: &Kind| -> Vec<Names<'_>> {
        let names = |moment: Moment, is_odd| Names {
            kind: kind.name,
            moment: moment.name,
            is_odd,
            dir: &far,
        };
        kind.moments().flat_map(|moment| [false, true].map(|odd| names(moment, odd))).collect()
    };
    let run_all = |statements: fn(&Kind) -> &'static [&'static str]| {
        for kind in kinds {
            let mut connection = source.connect();
            for names in names(kind) {
                names.run(&mut connection, &source.datadir(), statements(kind));
            }
        }
    };
    run_all(|kind| kind.before);
    let backup = source.dir().join("backup");
    back_up(kinds, way, &source, &backup, &far);
    run_all(|kind| kind.after);

    let answers = |server: &TestServer| {
        let mut connection = server.connect();
        let mut answers = Vec::new();
        for kind in kinds {
            for (names, query) in
                names(kind).into_iter().flat_map(|n| kind.queries.iter().map(move |q| (n, q)))
            {
                let sql = names.fill_in(query);
                answers.push((rows(&mut connection, &sql), sql));
            }
        }
        answers
    };
    let expected = (State::of(&source), answers(&source), table_files(&source));
    source.shutdown();
    let theirs = backup.with_file_name("theirs");
    copy_tree(&backup, &theirs);
    let restore = |tool: &Tool, backup: &Path| {
        // The restored tables with a DATA DIRECTORY go where the source's were.
        let _ = fs::remove_dir_all(&far);
        let restored = Tool::Ours.restore(backup, way.series, &OPTIONS);
        println!("prepared by {tool:?}: restored");
        replay_binlog(&source, backup, &restored);
        expected.0.assert_same_as(&State::of(&restored));
        assert_eq!(expected.1, answers(&restored));
        check_tables(&restored);
        assert_eq!(expected.2, table_files(&restored));
    };
    Tool::Ours.prepare(&backup, &[]);
    restore(&Tool::Ours, &backup);
    if kinds.iter().all(|kind| kind.reference == Reference::Prepares) {
        let tool = Tool::Reference(way.series);
        tool.prepare(&theirs, &[]);
        // The same files need not be looked at again.
        if !differences(&backup, &theirs, Allowed::Aria).is_empty() {
            restore(&tool, &theirs);
        }
    }
}

fn back_up(kinds: &[Kind], way: Way, source: &TestServer, backup: &Path, far: &Path) {
    // A table whose page 0 was never written is not opened for long.
    flush(source);
    let moments: Vec<(Kind, Moment, String)> = kinds
        .iter()
        .flat_map(|kind| kind.moments().map(|moment| (*kind, moment, moment.point(kind))))
        .collect();
    let points: BTreeSet<&str> = moments.iter().map(|(_, _, point)| point.as_str()).collect();
    let mut waiting: Vec<&str> = points.into_iter().collect();
    let threads = format!("--parallel={}", way.threads);
    let mut tool = HookedBackup::start(source, backup, &[&threads], &waiting);
    let mut blocked = Vec::new();
    while !waiting.is_empty() {
        let point = tool.wait_at_any(&waiting);
        for (kind, moment, _) in moments.iter().filter(|(_, _, other)| other == point) {
            for is_odd in [false, true] {
                let statements = Statements::start(kind, *moment, is_odd, source, far);
                if matches!(moment.at, At::Blocked(_)) {
                    blocked.push((kind, statements));
                } else {
                    statements.end();
                }
            }
        }
        for (kind, statements) in &blocked {
            wait_until("statements to wait", || {
                statements.are_waiting(source)
                    || statements.thread.is_finished() && kind.moments == Moments::OfRows
            });
        }
        if way.is_flushed {
            flush(source);
        }
        waiting.retain(|other| *other != point);
        tool.go_on(point);
    }
    tool.wait().expect_success();
    for (_, statements) in blocked {
        statements.end();
    }
}

/// The statements of a kind and moment, while they run.
struct Statements {
    connection: u32,
    thread: thread::JoinHandle<()>,
}

impl Statements {
    fn start(kind: &Kind, moment: Moment, is_odd: bool, source: &TestServer, far: &Path) -> Self {
        let mut connection = source.connect();
        let id = connection.connection_id();
        let (datadir, dir, kind) = (source.datadir(), far.to_owned(), *kind);
        let thread = thread::spawn(move || {
            let names = Names { kind: kind.name, moment: moment.name, is_odd, dir: &dir };
            names.run(&mut connection, &datadir, kind.then);
        });
        Self { connection: id, thread }
    }

    fn are_waiting(&self, source: &TestServer) -> bool {
        is_waiting(source, self.connection)
    }

    fn end(self) {
        self.thread.join().expect("statements of a moment");
    }
}

fn is_waiting(server: &TestServer, connection: u32) -> bool {
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.processlist \
         WHERE id = {connection} AND state = 'Waiting for backup lock'"
    );
    server.query_u64(sql) > 0
}

/// Has the server write all pages to the files.
fn flush(server: &TestServer) {
    server.execute("SET GLOBAL innodb_log_checkpoint_now=1");
}

/// The files that tables consist of, but for the content of full-text indexes, whose names differ.
fn table_files(server: &TestServer) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for database in fs::read_dir(server.datadir()).expect("list the data directory") {
        let database = database.expect("list the data directory").path();
        let Ok(entries) = fs::read_dir(&database) else { continue };
        for entry in entries {
            let path = entry.expect("list a database").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_counted = ["ibd", "frm", "isl", "par", "MYD", "MAD", "opt", "sdi"]
                .iter()
                .any(|extension| path.extension().is_some_and(|e| e == *extension));
            if is_counted && !name.starts_with("FTS_") {
                files.insert(path.strip_prefix(server.datadir()).expect("below it").to_owned());
            }
        }
    }
    files
}
