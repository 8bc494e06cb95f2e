//! Every option of mariadb-backup, in every form: both tools accept it, or refuse it with the same
//! exit code. `--print-param` ends both right after the options were read.

#![cfg(test)]

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use compat_tests::installation::Series;
use compat_tests::tool::Tool;

/// Name, letter or `-`, whether a value follows, series that know the option. Found by trying each
/// in each series.
const OPTIONS: &str = include_str!("../testdata/options.tsv");

struct Row {
    name: &'static str,
    letter: Option<&'static str>,
    takes_value: bool,
    series: &'static str,
}

fn rows() -> Vec<Row> {
    let row = |line: &'static str| {
        let [name, letter, value, series] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let takes_value = matches!(value, "required" | "optional");
        Row { name, letter: (letter != "-").then_some(letter), takes_value, series }
    };
    OPTIONS.lines().map(row).collect()
}

/// Command lines that try the option, the last option ends the run.
fn forms(row: &Row) -> Vec<Vec<String>> {
    let name = row.name;
    let mut forms: Vec<Vec<String>> = [
        format!("--{name}=1"),
        format!("--{name}="),
        format!("--{name}=bogus"),
        format!("--skip-{name}"),
        format!("--enable-{name}"),
        format!("--loose-{name}=1"),
        format!("--autoset-{name}"),
        format!("--{}=1", name.replace('-', "_")),
        format!("--{}=1", name.to_uppercase()),
        format!("--{}", name.get(..name.len() - 1).unwrap_or_default()),
    ]
    .map(|word| vec![word, "--print-param".to_owned()])
    .into();
    let values = ["-1", "1k", "5x", "99999999999999999999"].iter().filter(|_| row.takes_value);
    forms.extend(values.map(|value| vec![format!("--{name}={value}"), "--print-param".to_owned()]));
    let mut last = vec![vec![format!("--{name}")], vec![format!("--{name}"), "1".to_owned()]];
    if let Some(letter) = row.letter {
        last.push(vec![format!("-{letter}")]);
        last.push(vec![format!("-{letter}"), "1".to_owned()]);
        // Letters in a row must be of one table there.
        let is_clients = !["h", "t", "?", "v"].contains(&letter);
        let row = format!("-V{letter}x");
        forms.extend(is_clients.then(|| vec![row, "--print-param".to_owned()]));
    }
    forms.extend(last.into_iter().map(|words| [vec!["--print-param".to_owned()], words].concat()));
    forms
}

/// Where ours differs on purpose, or the other one is at odds with itself.
fn is_ours(words: &[String]) -> bool {
    let text = words.join(" ").to_lowercase().replace('_', "-");
    let has = |part: &str| text.contains(part);
    // With a mode, the other one connects to the server first.
    text.split(' ').any(|word| {
        let word = word.split('=').next().unwrap_or_default();
        ["--backup", "--enable-backup", "--loose-backup", "--autoset-backup"].contains(&word)
    })
        // Ours: a password may be asked for; the other one crashes.
        || has("password") || words.iter().any(|word| word == "-p")
        // Take effect here with --consistency-lock=ftwrl, so that bad values are refused.
        || has("kill-long-queries-timeout") || has("ftwrl-wait-threshold")
        // A switch before 11.8, which ours follows.
        || has("innodb-doublewrite=") || has("autoset-innodb-doublewrite")
        // An abbreviation that it takes.
        || has("--mysqld-arg ")
        // Ours: keys on the command line.
        || has("file-key-management")
}

fn exit_code(tool: &Tool, words: &[String]) -> Option<i32> {
    let mut command = tool.command();
    command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().code()
}

/// Tries all `lines` by both tools, in several threads; the lines that end differently.
fn differences(reference: &Tool, lines: &[Vec<String>]) -> Vec<String> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(words) = lines.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (ours, theirs) =
                        (exit_code(&Tool::Ours, words), exit_code(reference, words));
                    if ours != theirs {
                        let line = format!("{}: {ours:?}, not {theirs:?}", words.join(" "));
                        found.lock().unwrap().push(line);
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn forms_of_every_option_end_alike() {
    let known = |row: &&Row| row.series.contains("10.11") || row.series == "-";
    let lines: Vec<_> =
        rows().iter().filter(known).flat_map(forms).filter(|l| !is_ours(l)).collect();
    assert!(lines.len() > 1200, "{}", lines.len());
    let differences = differences(&Tool::Reference(Series::V10_11), &lines);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn options_of_all_series_are_known() {
    let plain = |row: &Row| vec![format!("--{}=1", row.name), "--print-param".into()];
    for series in [Series::V10_5, Series::V11_8] {
        let known = |row: &&Row| row.series.contains(series.number());
        let lines: Vec<_> =
            rows().iter().filter(known).map(plain).filter(|l| !is_ours(l)).collect();
        assert!(lines.len() > 100);
        let differences = differences(&Tool::Reference(series), &lines);
        assert!(differences.is_empty(), "{series}:\n{}", differences.join("\n"));
    }
}

#[test]
fn options_of_one_series_are_refused_by_others() {
    for series in [Series::V10_5, Series::V10_11, Series::V11_8] {
        let tool = Tool::Reference(series);
        for row in rows() {
            let words = [format!("--{}=", row.name), "--print-param".to_owned()];
            let is_unknown = exit_code(&tool, &words) == Some(7);
            assert_eq!(is_unknown, !row.series.contains(series.number()), "{series}: {}", row.name);
        }
    }
}

#[test]
fn every_option_here_is_one_of_theirs_or_listed_as_ours() {
    let help = Tool::Ours.command().arg("--help").stdout(Stdio::piped()).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let theirs: BTreeSet<&str> = rows().iter().map(|row| row.name).collect();
    let all = help.lines().skip_while(|line| !line.starts_with("Variables"));
    let names = all.filter_map(|line| line.split_once(' ')).map(|(name, _)| name);
    let ours: Vec<&str> = names
        .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()) && *name != "and")
        .filter(|name| !theirs.contains(name))
        .collect();
    let text =
        std::fs::read_to_string(compat_tests::installation::workspace_dir().join("COMPAT.md"));
    let text = text.unwrap();
    for name in ours {
        let line = text.lines().find(|line| line.contains(&format!("`--{name}`")));
        assert!(line.is_some(), "--{name} is not in COMPAT.md");
    }
}
