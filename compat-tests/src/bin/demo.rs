//! Backs up a busy server, restores it and proves that nothing is missing, saying what it does.
//! Run by `cargo xtask demo`.

use std::fmt::Display;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use compat_tests::compare::{State, binlog_position, check_tables, replay_binlog};
use compat_tests::installation::Series;
use compat_tests::server::TestServer;
use compat_tests::tool::{Running, Tool};
use compat_tests::workload::{Counter, Workload, create_tables};

fn main() {
    let start = Instant::now();
    let tool = Tool::Ours;
    step("Starting a MariaDB 10.11 server of its own, with tables of InnoDB, Aria and MyISAM");
    let mut source = TestServer::start_series(Series::V10_11, &[]);
    say(format_args!("its folder is {}", source.dir().display()));
    create_tables(&source);
    source.execute("CREATE TABLE test.counter (id BIGINT PRIMARY KEY, v TEXT)");

    step("Writing to all tables, four clients at once");
    let load = Workload::start(&source, 1, 3);
    let counter = Counter::start(&source, "test.counter");
    load.wait_for(2000);
    say("2000 statements have run; the clients go on");

    step("Taking a full backup meanwhile");
    let backup = source.dir().join("backup");
    let from = counter.committed();
    let backup_time = run(&mut tool.backup_command(&source, &backup, &["--parallel=2"]));
    let to = counter.committed();
    load.wait_for(1000);
    let statements = load.stop();
    let commits = counter.stop();
    let (from, to) = (index(from), index(to));
    let longest = commits.get(from..to).unwrap_or_default().iter().max().copied();
    say(format_args!(
        "one client committed {} rows during the backup; its longest commit took {:.1} ms",
        to - from,
        longest.unwrap_or_default().as_secs_f64() * 1000.0
    ));
    say(format_args!("the others ran {statements} statements, the last 1000 after the backup"));
    let state = State::of(&source);
    say("stopping the server, whose files and binary log stay");
    source.shutdown();
    std::fs::rename(source.dir().join("elsewhere"), source.dir().join("elsewhere-before"))
        .expect("move a folder");

    step("Preparing the backup");
    let prepare_time = run(&mut tool.prepare_command(&backup, &[]));

    step("Restoring it into a new data directory");
    let mut restored = TestServer::prepare(Series::V10_11, &[]);
    let restore_time = run(&mut tool.restore_command("--copy-back", &backup, &restored, &[]));

    step("Starting a server on it, and replaying the binary log of the first one");
    restored.launch();
    let (file, position) = binlog_position(&backup);
    say(format_args!("from {file}, position {position}, which the backup recorded"));
    replay_binlog(&source, &backup, &restored);

    step("Comparing the rows of both servers, and checking all indexes");
    state.assert_same_as(&State::of(&restored));
    check_tables(&restored);
    say(format_args!("all {} tables are equal and sound", state.table_count()));

    println!(
        "\nbackup {:.1} s, prepare {:.1} s, restore {:.1} s; all of it {:.0} s",
        backup_time.as_secs_f64(),
        prepare_time.as_secs_f64(),
        restore_time.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    println!("demo: OK");
}

fn step(text: &str) {
    println!("\n==> {text}");
}

fn say(text: impl Display) {
    println!("    {text}");
}

/// Prints and runs a command, and shows the end of what it says.
fn run(command: &mut Command) -> Duration {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let name = words.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    let arguments: Vec<_> = words.iter().skip(1).map(|word| word.to_string_lossy()).collect();
    say(format_args!("$ {} {}", name.to_string_lossy(), arguments.join(" ")));
    let start = Instant::now();
    let stderr = Running::start(command).wait().expect_success();
    let time = start.elapsed();
    let lines: Vec<&str> = stderr.lines().collect();
    for line in lines.get(lines.len().saturating_sub(4)..).unwrap_or_default() {
        say(line);
    }
    time
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("few rows")
}
