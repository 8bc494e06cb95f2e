//! Checks the licenses of all dependencies.

use std::collections::BTreeMap;

use anyhow::bail;

use crate::run::{cargo, output};

/// Licenses whose code may become part of a GPL-2.0-or-later program. Those that go with version 3
/// alone (Apache-2.0) are among them: such a binary is then under GPL-3.0.
const ALLOWED: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "GPL-2.0-or-later",
    "ISC",
    "MIT",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// Fails with the names of all dependencies whose license is not allowed.
pub fn check() -> anyhow::Result<()> {
    let tree = output(cargo().args([
        "tree",
        "--workspace",
        "--edges=all",
        "--prefix=none",
        "--no-dedupe",
        "--format={p}|{l}",
    ]))?;
    let dependencies: BTreeMap<&str, &str> =
        tree.lines().filter_map(|line| line.rsplit_once('|')).collect();
    let bad: Vec<String> = dependencies
        .iter()
        .filter(|(_, license)| !is_allowed(license))
        .map(|(package, license)| format!("{package}: {license:?}"))
        .collect();
    if !bad.is_empty() {
        bail!("licenses that are not on the list:\n{}", bad.join("\n"));
    }
    eprintln!("the licenses of {} packages are fine", dependencies.len());
    Ok(())
}

/// Tells whether an SPDX expression can be met by allowed licenses alone.
fn is_allowed(expression: &str) -> bool {
    // An old way to say OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words };
    parser.any_of() == Some(true) && parser.words.is_empty()
}

/// Evaluates an expression; absent where it makes no sense.
struct Parser<'a> {
    words: &'a [&'a str],
}

impl Parser<'_> {
    fn any_of(&mut self) -> Option<bool> {
        let mut allowed = self.all_of()?;
        while self.take("OR") {
            allowed |= self.all_of()?;
        }
        Some(allowed)
    }

    fn all_of(&mut self) -> Option<bool> {
        let mut allowed = self.one()?;
        while self.take("AND") {
            allowed &= self.one()?;
        }
        Some(allowed)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let allowed = self.any_of()?;
            return self.take(")").then_some(allowed);
        }
        let (name, rest) = self.words.split_first()?;
        self.words = rest;
        if self.take("WITH") {
            // An exception only adds permissions.
            self.words = self.words.split_first()?.1;
        }
        Some(ALLOWED.contains(name))
    }

    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_evaluated() {
        for good in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0-only",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in ["", "GPL-3.0-only", "MIT AND SSPL-1.0", "MIT OR", "(MIT", "MIT MIT", "MIT)"] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }
}
