//! One quick seed of the random workload for each series; `cargo xtask chaos` runs more.

#![cfg(test)]

use compat_tests::chaos::{Chaos, LogSize};
use compat_tests::installation::Series;
use compat_tests::seeds;
use compat_tests::tool::Tool;

fn nothing_is_lost(series: Series) {
    let keep = std::env::temp_dir().join("chaos");
    let chaos = Chaos { series, tool: Tool::Ours, log_size: LogSize::BySeed, keep };
    // A seed that is backed up as fast as possible.
    for seed in seeds(3..=3) {
        let report = chaos.run(seed);
        if let Err(failure) = report.result {
            panic!("seed {seed}, {series}: {failure:?}");
        }
    }
}

#[test]
fn nothing_is_lost_on_10_5() {
    nothing_is_lost(Series::V10_5);
}

#[test]
fn nothing_is_lost_on_10_11() {
    nothing_is_lost(Series::V10_11);
}

#[test]
fn nothing_is_lost_on_11_8() {
    nothing_is_lost(Series::V11_8);
}
