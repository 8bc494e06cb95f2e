//! What is written about the program must not fall behind it. Needs no server.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use compat_tests::installation::workspace_dir;
use compat_tests::tool::Tool;

#[test]
fn every_option_has_its_place_in_the_compatibility_list() {
    let output = Tool::Ours.command().arg("--help").stdout(Stdio::piped()).output().unwrap();
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    // A line of an option begins with its names: "  -u, --user <TEXT>".
    let options: BTreeSet<&str> = help
        .lines()
        .filter(|line| line.trim_start().starts_with('-'))
        .flat_map(str::split_whitespace)
        .filter_map(|word| word.strip_prefix("--"))
        .filter_map(|word| word.split(['=', '[', ',', ' ']).next())
        // Flags that are on by default are shown by what turns them off.
        .map(|name| name.strip_prefix("skip-").unwrap_or(name))
        .filter(|name| !name.is_empty() && !name.starts_with('-'))
        .collect();
    assert!(options.len() > 100, "{options:?}");
    let list = fs::read_to_string(workspace_dir().join("COMPAT.md")).unwrap();
    let missing: Vec<_> =
        options.iter().filter(|name| !list.contains(&format!("`--{name}`"))).collect();
    assert!(missing.is_empty(), "not in COMPAT.md: {missing:?}");
}
