//! Compares our speed with mariadb-backup's: both in turn, in one run, on the same data. Run by
//! `cargo xtask bench`, with the variants as arguments.
//!
//! The reference drops the pages it has read from the page cache, so all data files are read again
//! before every backup. It syncs nothing, so the time of both includes a sync of the target.
//! `BENCH_PERCENT` changes the size of the data, `BENCH_RUNS` the number of runs.

mod tables;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use compat_tests::installation::Series;
use compat_tests::server::{POLL, TestServer, copy_tree};
use compat_tests::size;
use compat_tests::tool::{Running, Tool, run};
use compat_tests::workload::Counter;
use innodb::page::{self, ChecksumAlgorithm, SpaceContext};
use innodb::space::SpaceHeader;

const TOOLS: [(&str, Tool); 2] =
    [("reference", Tool::Reference(Series::V10_11)), ("ours", Tool::Ours)];

fn main() {
    let variant = std::env::args().nth(1).unwrap_or_else(|| "all".to_owned());
    let wanted = |name: &str| variant == name || variant == "all";
    let known = [
        "all",
        "backup",
        "single",
        "encrypted",
        "verification",
        "stream",
        "zstd",
        "prepare",
        "stall",
        "tables",
        "engines",
    ];
    assert!(known.contains(&variant.as_str()), "unknown variant {variant}; known are {known:?}");
    print_machine();
    if wanted("backup") || wanted("prepare") {
        let server = load(8, 1000, 700, &[]);
        if wanted("backup") {
            compare_backups(&server, &[]);
        }
        if wanted("prepare") {
            compare_prepares(&server);
        }
    }
    if wanted("single") {
        compare_backups(&load(1, 1000, 0, &[]), &[]);
    }
    if wanted("verification") {
        compare_with_verification(&load(8, 1000, 0, &[]));
    }
    if wanted("stream") {
        // Standard output of either tool is /dev/null.
        compare_backups(&load(8, 1000, 0, &[]), &["--stream=xbstream"]);
    }
    if wanted("zstd") {
        compare_compressed_streams(&load(8, 1000, 0, &[]));
    }
    if wanted("encrypted") {
        compare_encrypted_backups();
    }
    if wanted("stall") {
        let server = load(8, 1500, 0, &[]);
        for (flush_log, sync_binlog) in [(2, 0), (1, 1)] {
            compare_stalls(&server, flush_log, sync_binlog);
        }
    }
    if wanted("tables") {
        tables::compare(10_000, 2_000);
    }
    if wanted("engines") {
        tables::compare_stalls(5_000);
    }
}

/// A server with `tables` tables that are `mib` MiB together, and with `redo_mib` MiB of redo
/// after its checkpoint.
fn load(tables: u64, mib: u64, redo_mib: u64, options: &[&str]) -> TestServer {
    // Measured: a row of sysbench takes 0.24 KiB with its share of the index.
    let rows = percent(mib) * 4250 / tables;
    println!("\n# loading {tables} tables of {rows} rows");
    let own = [
        "--innodb-buffer-pool-size=2500M",
        "--innodb-log-file-size=2000M",
        "--innodb-adaptive-flushing=0",
        "--innodb-max-dirty-pages-pct=99.9",
        "--max-binlog-size=64M",
        // Nobody replays it, and it would fill the disk.
        "--binlog-ignore-db=sbtest",
    ];
    let server = TestServer::start(&[&own, options].concat());
    server.execute("CREATE DATABASE sbtest");
    server.execute("CREATE TABLE test.counter (id BIGINT PRIMARY KEY, v TEXT)");
    let sysbench = |script: &str, options: &[&str]| {
        let mut command = Command::new("sysbench");
        command
            .args([script, "--mysql-user=root", "--threads=2", "--rand-type=uniform"])
            .arg(format!("--mysql-socket={}", server.socket().display()))
            .arg(format!("--tables={tables}"))
            .arg(format!("--table-size={rows}"))
            .args(options)
            .stdout(std::process::Stdio::null());
        command
    };
    let status = sysbench("oltp_write_only", &["prepare"]).status().expect("run sysbench");
    assert!(status.success(), "sysbench prepare: {status}");
    flush_pages(&server);
    if redo_mib > 0 {
        let wanted = percent(redo_mib) << 20;
        let mut load = sysbench("oltp_write_only", &["--time=0", "--events=0", "run"])
            .spawn()
            .expect("run sysbench");
        while checkpoint_age(&server) < wanted {
            assert!(load.try_wait().expect("wait for sysbench").is_none(), "sysbench ended");
            thread::sleep(POLL);
        }
        load.kill().expect("end sysbench");
        load.wait().expect("wait for sysbench");
    }
    println!(
        "# data {} MiB, redo after the checkpoint {} MiB",
        data_len(&server) >> 20,
        checkpoint_age(&server) >> 20
    );
    server
}

fn percent(number: u64) -> u64 {
    number * size("BENCH_PERCENT", 100) / 100
}

/// Writes all changed pages, so that the checkpoint is at the end of the log.
fn flush_pages(server: &TestServer) {
    // By default 200 pages a second, which takes minutes.
    server.execute("SET GLOBAL innodb_io_capacity_max = 40000");
    server.execute("SET GLOBAL innodb_io_capacity = 20000");
    server.execute("SET GLOBAL innodb_max_dirty_pages_pct = 0");
    while status(server, "Innodb_buffer_pool_pages_dirty") > 0 {
        thread::sleep(POLL);
    }
    server.execute("SET GLOBAL innodb_max_dirty_pages_pct = 99.9");
    server.execute("SET GLOBAL innodb_io_capacity = DEFAULT");
    server.execute("SET GLOBAL innodb_io_capacity_max = DEFAULT");
    server.execute("SET GLOBAL innodb_log_checkpoint_now = 1");
}

fn checkpoint_age(server: &TestServer) -> u64 {
    status(server, "Innodb_checkpoint_age")
}

fn status(server: &TestServer, name: &str) -> u64 {
    server.query_u64(format!(
        "SELECT variable_value FROM information_schema.global_status WHERE variable_name = '{name}'"
    ))
}

/// Times backups of tables that are all encrypted, in both modes of AES.
fn compare_encrypted_backups() {
    let keys = tempfile::NamedTempFile::new().expect("make a file");
    fs::write(&keys, "1;770A8A65DA156D24EE2A093277530142\n").expect("write the keys");
    let file = format!("--file-key-management-filename={}", keys.path().display());
    for mode in ["aes_cbc", "aes_ctr"] {
        println!("\n# encrypted, {mode}");
        let mode = format!("--file-key-management-encryption-algorithm={mode}");
        let plugin = "--plugin-load-add=file_key_management";
        let options = [plugin, &file, &mode, "--innodb-encrypt-tables=ON"];
        let server = load(8, 1000, 0, &options);
        compare_backups(&server, &["--extended-validation"]);
    }
}

/// Times backups with more `options`, of both tools in turn.
fn compare_backups(server: &TestServer, options: &[&str]) {
    let target = server.dir().join("backup");
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..size("BENCH_RUNS", 3) {
        for ((name, tool), times) in TOOLS.iter().zip(&mut times) {
            remove(&target);
            read_all(&server.datadir());
            sync_all();
            let start = Instant::now();
            tool.backup(server, &target, &[&["--parallel=2"], options].concat());
            if target.exists() {
                sync(&target);
            }
            let time = start.elapsed();
            println!("backup, {name}: {:.2} s", time.as_secs_f64());
            times.push(time);
        }
    }
    remove(&target);
    let [reference, ours] = times.map(median);
    print_ratio("backup --parallel=2, with sync", reference, ours);
}

/// Times streams that are compressed by zstd, level 1: the reference's by the program, ours by two
/// threads of its own.
fn compare_compressed_streams(server: &TestServer) {
    let target = server.dir().join("nowhere");
    let [out, piped] = ["ours.xbs", "reference.zst"].map(|name| server.dir().join(name));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..size("BENCH_RUNS", 3) {
        for ((name, tool), times) in TOOLS.iter().zip(&mut times) {
            read_all(&server.datadir());
            sync_all();
            let options = match tool {
                Tool::Ours => &["--parallel=2", "--stream=xbstream", "--compress=zstd"][..],
                Tool::Reference(_) => &["--parallel=2", "--stream=xbstream"],
            };
            let mut command = tool.backup_command(server, &target, options);
            let start = Instant::now();
            let stream = if *tool == Tool::Ours {
                command.arg("--compress-threads=2").stdout(File::create(&out).expect("create"));
                run(&mut command).expect_success();
                &out
            } else {
                let mut shell = Command::new("bash");
                let line = "zstd=$1; shift; \"$@\" | zstd -1 -q > \"$zstd\"";
                shell.args(["-o", "pipefail", "-c", line, "bash"]).arg(&piped);
                shell.arg(command.get_program()).args(command.get_args());
                run(&mut shell).expect_success();
                &piped
            };
            let time = start.elapsed();
            let mib = fs::metadata(stream).expect("stat").len() >> 20;
            println!("compressed stream, {name}: {:.2} s, {mib} MiB", time.as_secs_f64());
            times.push(time);
        }
    }
    let [reference, ours] = times.map(median);
    print_ratio("--stream by zstd, level 1, 2 threads", reference, ours);
}

/// Times our backups, and how long two threads take to verify the same pages, which is part of it.
fn compare_with_verification(server: &TestServer) {
    let [_, (_, ours)] = &TOOLS;
    let target = server.dir().join("backup");
    let (mut backups, mut verifications) = (Vec::new(), Vec::new());
    for _ in 0..size("BENCH_RUNS", 3) {
        remove(&target);
        read_all(&server.datadir());
        sync_all();
        let start = Instant::now();
        ours.backup(server, &target, &["--parallel=2"]);
        sync(&target);
        backups.push(start.elapsed());
        verifications.push(time_of_verification(&server.datadir().join("sbtest")));
    }
    remove(&target);
    let [backup, verification] = [backups, verifications].map(|times| median(times).as_secs_f64());
    println!(
        "| backup --parallel=2, with sync | {backup:.2} s | of which verification {verification:.3} s \
         | it adds {:.1} % |",
        100.0 * verification / (backup - verification)
    );
}

/// How long two threads verify the tables in `dir`, less what reading them takes.
fn time_of_verification(dir: &Path) -> Duration {
    let mut files = Vec::new();
    for_files(dir, &mut |path| {
        if path.extension().is_some_and(|extension| extension == "ibd") {
            files.push(path.to_owned());
        }
    });
    let halves = files.split_at(files.len() / 2);
    let time = |verify: bool| {
        let start = Instant::now();
        thread::scope(|scope| {
            for files in [halves.0, halves.1] {
                scope.spawn(move || files.iter().for_each(|path| read_pages(path, verify)));
            }
        });
        start.elapsed()
    };
    let reading = time(false);
    time(true).saturating_sub(reading)
}

/// Reads the pages of a file, in pieces as the backup does.
fn read_pages(path: &Path, verify: bool) {
    let mut file = File::open(path).expect("open a table");
    let mut buffer = vec![0; 1 << 20];
    let mut context = None;
    let mut page_no = 0;
    loop {
        let len = file.read(&mut buffer).expect("read a table");
        let bytes = buffer.get(..len).unwrap_or_default();
        if bytes.is_empty() {
            return;
        }
        let context = context.get_or_insert_with(|| {
            let header = SpaceHeader::parse(bytes);
            SpaceContext::new(&header.expect("a header"), ChecksumAlgorithm::default())
        });
        for page in bytes.chunks_exact(16384).filter(|_| verify) {
            page::verify(page, page_no, context).expect("a sound page");
            page_no += 1;
        }
    }
}

/// Times preparations of one backup, of both tools in turn.
fn compare_prepares(server: &TestServer) {
    let [(_, reference), (_, ours)] = &TOOLS;
    let source = server.dir().join("backup");
    remove(&source);
    reference.backup(server, &source, &["--parallel=2"]);
    let redo = fs::metadata(source.join("ib_logfile0")).expect("stat the log").len();
    println!("# redo in the backup: {} MiB", redo >> 20);
    let variants: [(&str, &Tool, &[&str]); 5] = [
        ("reference, default", reference, &[]),
        ("reference, --use-memory=4G", reference, &["--use-memory=4G"]),
        ("ours, default", ours, &[]),
        ("ours, --use-memory=4G", ours, &["--use-memory=4G"]),
        ("ours, --use-memory=96M", ours, &["--use-memory=96M"]),
    ];
    let mut results = variants.map(|_| (Vec::new(), 0));
    let target = server.dir().join("prepared");
    for _ in 0..size("BENCH_RUNS", 3) {
        for ((name, tool, options), (times, peak)) in variants.iter().zip(&mut results) {
            remove(&target);
            fs::create_dir(&target).expect("make a folder");
            copy_tree(&source, &target);
            sync_all();
            let (time, memory) = time_and_memory(&mut tool.prepare_command(&target, options));
            let seconds = time.as_secs_f64();
            println!("prepare, {name}: {seconds:.2} s, RssAnon {} MiB", memory >> 20);
            times.push(time);
            *peak = memory.max(*peak);
        }
    }
    remove(&target);
    remove(&source);
    let results = results.map(|(times, peak)| (median(times), peak));
    let [(default, _), (four_gib, _), our_results @ ..] = results;
    for ((name, _, _), (time, peak)) in variants.iter().skip(2).zip(our_results) {
        println!("{name}: peak RssAnon {} MiB", peak >> 20);
        print_ratio(&format!("prepare, {name} / reference, default"), default, time);
        print_ratio(&format!("prepare, {name} / reference, 4G"), four_gib, time);
    }
}

/// Measures how long commits take while either tool backs up.
fn compare_stalls(server: &TestServer, flush_log: u64, sync_binlog: u64) {
    server.execute(format!("SET GLOBAL innodb_flush_log_at_trx_commit = {flush_log}"));
    server.execute(format!("SET GLOBAL sync_binlog = {sync_binlog}"));
    let name = format!("innodb_flush_log_at_trx_commit={flush_log}, sync_binlog={sync_binlog}");
    println!("\n# longest commit during a backup, {name}");
    let target = server.dir().join("backup");
    let mut maxima = [Vec::new(), Vec::new()];
    for _ in 0..size("BENCH_RUNS", 5) {
        for ((tool_name, tool), maxima) in TOOLS.iter().zip(&mut maxima) {
            remove(&target);
            read_all(&server.datadir());
            sync_all();
            server.execute("TRUNCATE TABLE test.counter");
            let counter = Counter::start(server, "test.counter");
            counter.wait_for(200);
            let (first, start) = (counter.committed(), Instant::now());
            tool.backup(server, &target, &["--parallel=2"]);
            let (last, time) = (counter.committed(), start.elapsed());
            let commits = counter.stop();
            // The commit under way when the backup ended counts too.
            let during: Vec<_> =
                (1..).zip(commits).filter(|(id, _)| (first..=last + 1).contains(id)).collect();
            let longest = during.iter().map(|(_, time)| *time).max().unwrap_or_default();
            println!(
                "{tool_name}: {} commits in {:.1} s ({} a second), longest {:.1} ms",
                during.len(),
                time.as_secs_f64(),
                during.len() as u128 * 1000 / time.as_millis().max(1),
                longest.as_secs_f64() * 1000.0
            );
            maxima.push(longest);
        }
    }
    remove(&target);
    let [reference, ours] = maxima.map(median);
    println!(
        "median of the longest commits: reference {:.1} ms, ours {:.1} ms",
        reference.as_secs_f64() * 1000.0,
        ours.as_secs_f64() * 1000.0
    );
}

fn print_ratio(name: &str, reference: Duration, ours: Duration) {
    let (reference, ours) = (reference.as_secs_f64(), ours.as_secs_f64());
    println!(
        "| {name} | reference {reference:.2} s | ours {ours:.2} s | ratio {:.2} | {:.1} times as \
         fast |",
        ours / reference,
        reference / ours
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Runs a command and watches its anonymous memory, in bytes.
fn time_and_memory(command: &mut Command) -> (Duration, u64) {
    let start = Instant::now();
    let mut running = Running::start(command);
    let status = PathBuf::from(format!("/proc/{}/status", running.child().id()));
    let mut peak = 0;
    while running.child().try_wait().expect("wait for the tool").is_none() {
        peak = peak.max(anonymous_memory(&status).unwrap_or_default());
        thread::sleep(Duration::from_millis(5));
    }
    let time = start.elapsed();
    running.wait().expect_success();
    (time, peak)
}

fn anonymous_memory(status: &Path) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// Reads all files, so that they are in the page cache.
fn read_all(dir: &Path) {
    let mut buffer = vec![0; 1 << 20];
    for_files(dir, &mut |path| {
        let mut file = File::open(path).expect("open a data file");
        while file.read(&mut buffer).expect("read a data file") > 0 {}
    });
}

fn data_len(server: &TestServer) -> u64 {
    let mut len = 0;
    for_files(&server.datadir(), &mut |path| {
        if path.extension().is_some_and(|extension| extension == "ibd") {
            len += fs::metadata(path).expect("stat a data file").size();
        }
    });
    len
}

fn for_files(dir: &Path, action: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(dir).expect("list a folder") {
        let path = entry.expect("list a folder").path();
        if path.is_dir() {
            for_files(&path, action);
        } else {
            action(&path);
        }
    }
}

fn remove(dir: &Path) {
    if dir.exists() {
        fs::remove_dir_all(dir).expect("remove a folder");
    }
}

fn sync(target: &Path) {
    let status = Command::new("sync").arg("-f").arg(target).status().expect("run sync");
    assert!(status.success(), "sync: {status}");
}

fn sync_all() {
    let status = Command::new("sync").status().expect("run sync");
    assert!(status.success(), "sync: {status}");
}

/// Prints what the numbers depend on.
fn print_machine() {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let cores = thread::available_parallelism().map_or(0, usize::from);
    println!("# {cores} cores,{}", model.trim_start().trim_start_matches(':'));
    println!("# {}", read("/proc/meminfo").lines().next().unwrap_or_default());
    let mut file = tempfile::tempfile().expect("make a file");
    let block = vec![1; 1 << 20];
    let start = Instant::now();
    for _ in 0..256 {
        file.write_all(&block).expect("write");
    }
    file.sync_all().expect("sync");
    let rate = 256.0 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    for _ in 0..100 {
        file.write_all(block.get(..4096).unwrap_or_default()).expect("write");
        file.sync_data().expect("sync");
    }
    let sync = start.elapsed().as_secs_f64() * 10.0;
    println!("# disk: {rate:.0} MiB/s written and synced, {sync:.2} ms for 4 KiB and a sync");
    let version = run(Tool::Reference(Series::V10_11).command().arg("--version"));
    println!("# {}", version.stderr.lines().next().unwrap_or_default());
}
