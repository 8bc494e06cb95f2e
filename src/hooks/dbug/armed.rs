//! What `--dbug` does where it is there. A statement that fails ends the program: a test that did
//! not take place must not pass.

use std::path::Path;
use std::time::Duration;
use std::{env, io, process, thread};

use mdl::session::{ConnectOptions, Session};

use crate::cli::{self, Action, Environment};
use crate::options::Command;

/// Time between two looks at what a statement is waiting for.
const PAUSE: Duration = Duration::from_millis(5);

/// With `mariabackup_events`: runs the SQL that the environment variable `name` holds, if any, on
/// a connection of its own. Returns when it has ended, or sleeps.
pub fn event(name: &str) {
    if !is_armed("mariabackup_events") {
        return;
    }
    let Ok(sql) = env::var(name) else { return };
    // A test that takes an event back leaves two quotes.
    if !sql.trim().is_empty() && sql != "''" {
        start(&sql, "User sleep");
    }
}

/// As [`event`], for a table or its file: the variable's name ends in `_DATABASE_TABLE`.
pub fn table_event(name: &str, table: &Path) {
    let table = table.with_extension("");
    event(&format!("{name}_{}", table.to_string_lossy().replace('/', "_")));
}

/// With the flag `name`: an error, as if a system call had failed.
///
/// # Errors
///
/// Only that one.
pub fn fail(name: &str) -> io::Result<()> {
    if is_armed(name) {
        return Err(io::Error::other(format!("--dbug={name}")));
    }
    Ok(())
}

/// With `rename_during_mdl_lock_table`: `test.t1` becomes `test.t2`.
pub fn rename_under_metadata_lock() {
    if is_armed("rename_during_mdl_lock_table") {
        start("RENAME TABLE test.t1 TO test.t2", "User sleep");
    }
}

/// With `check_mdl_lock_works`: an `ALTER TABLE test.t` begins, and must have to wait.
pub fn ddl_waits_for_metadata_lock() {
    let sql = "ALTER TABLE test.t ADD COLUMN mdl_lock_column INT";
    if is_armed("check_mdl_lock_works") && !start(sql, "Waiting for table metadata lock") {
        give_up("the definition of test.t is not locked");
    }
}

/// Starts a statement; returns when it has ended, or with true when it is in `state`.
fn start(sql: &str, state: &str) -> bool {
    eprintln!("dbug_mariabackup_event : executing '{sql}'");
    let server = server();
    let connect = || Session::connect(&server).unwrap_or_else(|error| give_up(error));
    let (mut worker, mut watch) = (connect(), connect());
    let look = format!(
        "SELECT state FROM information_schema.processlist WHERE id = {}",
        worker.connection_id()
    );
    let owned = sql.to_owned();
    let running = thread::spawn(move || worker.execute(&owned));
    while !running.is_finished() {
        if watch.query_value(&look).is_ok_and(|seen| seen == state) {
            return true;
        }
        thread::sleep(PAUSE);
    }
    match running.join() {
        Ok(Ok(())) => false,
        Ok(Err(error)) => give_up(error),
        Err(_) => give_up("the statement's thread ended unexpectedly"),
    }
}

/// How the server is reached. The command line is read here and now: what only tests have is not
/// handed through the whole program.
fn server() -> ConnectOptions {
    let arguments: Vec<_> = env::args_os().collect();
    let environment = Environment::of_process().unwrap_or_else(|error| give_up(error));
    match cli::parse(&arguments, &environment).action {
        Ok(Action::Run { command: Command::Backup(options), .. }) => options.connection,
        _ => give_up("only a backup has a server"),
    }
}

/// Whether `--dbug` names `flag`.
fn is_armed(flag: &str) -> bool {
    env::args().any(|word| {
        word.strip_prefix("--dbug=").is_some_and(|list| list.split(',').any(|name| name == flag))
    })
}

fn give_up(problem: impl std::fmt::Display) -> ! {
    eprintln!("--dbug: {problem}");
    process::exit(1)
}
