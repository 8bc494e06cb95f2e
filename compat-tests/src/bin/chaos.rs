//! Runs seeds of the random workload. Run by `cargo xtask chaos`.

use std::path::PathBuf;
use std::process::ExitCode;

use compat_tests::chaos::{Chaos, Counts, Kind, LogSize, Report};
use compat_tests::installation::Series;
use compat_tests::tool::Tool;

const USAGE: &str = "\
usage: chaos --seeds A..B --server 10.5|10.11|11.8 [--tool ours|reference] [--log-size 16M|96M]
             [--keep DIR]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((chaos, seeds, reference)) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    // Reported below. Threads also fail that a broken connection takes along.
    std::panic::set_hook(Box::new(|_| ()));
    let mut failed = Vec::new();
    let mut reports = Vec::new();
    for seed in seeds {
        let report = chaos.run(seed);
        println!("{}", line(&chaos, &report));
        if let Err(failure) = &report.result {
            println!("  failed at: {}\n  files: {}", failure.stage, failure.kept.display());
            let lines: Vec<&str> = failure.message.lines().collect();
            for line in lines.get(lines.len().saturating_sub(8)..).unwrap_or_default() {
                println!("  | {}", line.chars().take(300).collect::<String>());
            }
            let tool = if reference { " --tool reference" } else { "" };
            println!(
                "  again: cargo xtask chaos --seeds {seed}..{seed} --server {} --log-size {}M{tool}",
                chaos.series, report.log_size
            );
            failed.push(seed);
        }
        reports.push(report);
    }
    println!("{}", totals(&reports));
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!("failed seeds: {failed:?}");
        ExitCode::FAILURE
    }
}

fn parse(arguments: &[String]) -> Option<(Chaos, std::ops::RangeInclusive<u64>, bool)> {
    let mut seeds = None;
    let mut series = None;
    let mut reference = false;
    let mut log_size = LogSize::BySeed;
    let mut keep = None;
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let value = rest.next()?;
        match (option.as_str(), value.as_str()) {
            ("--seeds", seed) => {
                let (first, last) = seed.split_once("..").unwrap_or((seed, seed));
                seeds = Some(first.parse().ok()?..=last.parse().ok()?);
            }
            ("--server", "10.5") => series = Some(Series::V10_5),
            ("--server", "10.11") => series = Some(Series::V10_11),
            ("--server", "11.8") => series = Some(Series::V11_8),
            ("--tool", "ours") => reference = false,
            ("--tool", "reference") => reference = true,
            ("--log-size", size) => {
                log_size = LogSize::Mib(size.strip_suffix('M')?.parse().ok()?);
            }
            ("--keep", dir) => keep = Some(PathBuf::from(dir)),
            _ => return None,
        }
    }
    let series = series?;
    let tool = if reference { Tool::Reference(series) } else { Tool::Ours };
    let keep = keep.unwrap_or_else(|| std::env::temp_dir().join("chaos"));
    Some((Chaos { series, tool, log_size, keep }, seeds?, reference))
}

fn line(chaos: &Chaos, report: &Report) -> String {
    let result = if report.result.is_ok() { "equal" } else { "FAILED" };
    format!(
        "seed {:3}  {}  log {:2}M  {result:6}  {:5.1} s, backup {:4.1} s  tables {}  DDL {}; in the \
         backup {}",
        report.seed,
        chaos.series,
        report.log_size,
        report.time.as_secs_f64(),
        report.backup_time.as_secs_f64(),
        report.tables,
        numbers(&report.steps, chaos.series),
        numbers(&report.steps_in_backup, chaos.series),
    )
}

/// How many steps there were, and how many of the rarest kind.
fn numbers(steps: &Counts, series: Series) -> String {
    let least = Kind::ddl_of(series).into_iter().min_by_key(|kind| steps.of(*kind));
    let least = least.map_or_else(String::new, |kind| format!("{} {kind}", steps.of(kind)));
    format!("{:4} (least: {least})", steps.ddl())
}

fn totals(reports: &[Report]) -> String {
    let equal = reports.iter().filter(|report| report.result.is_ok()).count();
    let sum = |number: fn(&Report) -> u64| reports.iter().map(number).sum::<u64>();
    let seconds: f64 = reports.iter().map(|report| report.time.as_secs_f64()).sum();
    let in_backup: Vec<u64> = reports.iter().map(|report| report.steps_in_backup.ddl()).collect();
    format!(
        "{equal} of {} equal; {seconds:.0} s; DDL {}, in backups {} (from {} to {} each)",
        reports.len(),
        sum(|report| report.steps.ddl()),
        in_backup.iter().sum::<u64>(),
        in_backup.iter().min().unwrap_or(&0),
        in_backup.iter().max().unwrap_or(&0),
    )
}
