//! `cargo xtask mtr`: MariaDB's own tests of its backup tool, with ours in the tool's place.
//!
//! The tests and the server are those of Debian's packages; nothing of them is changed on disk. Our
//! program lies over the reference's in a mount namespace that nobody else sees and that vanishes
//! with the run.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use crate::dist;
use crate::install::{self, Need};
use crate::run::{run_as_root, target_dir};

/// A series of MariaDB whose suites can be run.
struct Series {
    /// As on the command line.
    name: &'static str,
    /// The Debian release that has it.
    release: &'static str,
    /// Where Debian has the suites.
    suites: &'static str,
    /// How many tests of the suite the reference passes, combinations counted, plus those that
    /// it runs only with a debug server ([`TOOL_HOOKS`]).
    tests: usize,
    /// Decides which ports the servers use: several series may be tested at the same time.
    build_thread: u32,
}

const SERIES: [Series; 3] = [
    Series {
        name: "10.5",
        release: "bullseye",
        suites: "/usr/share/mysql/mysql-test",
        tests: 91,
        build_thread: 250,
    },
    Series {
        name: "10.11",
        release: "bookworm",
        suites: "/usr/share/mysql/mysql-test",
        tests: 121,
        build_thread: 300,
    },
    Series {
        name: "11.8",
        release: "trixie",
        suites: "/usr/share/mariadb/mariadb-test",
        tests: 112,
        build_thread: 350,
    },
];

const KNOWN: &str = "10.5, 10.11 and 11.8";

/// Tests that a release server skips because they ask for a debug build, although only the backup
/// tool has to do something special (`--dbug`, which the feature `test-hooks` brings).
const TOOL_HOOKS: [&str; 15] = [
    "create_during_backup",
    "create_with_data_directory_during_backup",
    "ddl_for_common_engine",
    "drop_table_during_backup",
    "error_during_copyback",
    "incremental_ddl_before_backup",
    "incremental_ddl_during_backup",
    "incremental_newdb_while_backup",
    "innodb_redo_log_overwrite",
    "lock_ddl_per_table",
    "log_tables",
    "nolock_ddl_during_backup_end",
    "recreate_table_during_backup",
    "rename_during_mdl_lock",
    "truncate_during_backup",
];

/// Which program is tested.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Ours,
    Reference,
}

/// Runs the suite, or the tests that are named.
pub fn mtr(arguments: &[&str]) -> anyhow::Result<()> {
    let Some((name, rest)) = arguments.split_first() else { bail!("which series? {KNOWN}") };
    let series = SERIES.iter().find(|series| series.name == *name);
    let series = series.with_context(|| format!("{name} is not one of the series {KNOWN}"))?;
    let (tool, tests) = match rest {
        ["--tool", "reference", tests @ ..] => (Tool::Reference, tests),
        ["--tool", "ours", tests @ ..] | tests => (Tool::Ours, tests),
    };
    install::install(&[Need::Build, Need::Suites(series.release)])?;
    let work = target_dir().join("mtr").join(series.name);
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let work = work.canonicalize().context("find the working folder")?;
    if tool == Tool::Ours {
        let program = dist::build_static("dev", &["test-hooks"])?;
        fs::copy(&program, work.join("mariabackup"))
            .with_context(|| format!("copy {}", program.display()))?;
    }
    let root = install::root_of(series.release)?;
    let mut run = Run { series, tool, root: &root, work: &work, counts: Counts::default() };
    run.all(tests)?;
    let Counts { passed, failed } = run.counts;
    eprintln!("{}: {passed} passed, {} failed", series.name, failed.len());
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    ensure!(passed > 0, "no test ran");
    ensure!(
        !tests.is_empty() || tool == Tool::Reference || passed >= series.tests,
        "only {passed} of {} tests passed: the log tells what was skipped",
        series.tests
    );
    Ok(())
}

/// What the tests came to.
#[derive(Default)]
struct Counts {
    passed: usize,
    failed: Vec<String>,
}

/// Whether the check for a debug server is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DebugCheck {
    Kept,
    Dropped,
}

struct Run<'a> {
    series: &'a Series,
    tool: Tool,
    /// Of the server's file system.
    root: &'a Path,
    /// Where programs, logs and the servers' data are.
    work: &'a Path,
    counts: Counts,
}

impl Run<'_> {
    /// The tests that are named, or the whole suite and, with our tool, those of [`TOOL_HOOKS`].
    fn all(&mut self, tests: &[&str]) -> anyhow::Result<()> {
        let suite =
            self.root.join(self.series.suites.trim_start_matches('/')).join("suite/mariabackup");
        let exists = |name: &&str| suite.join(format!("{name}.test")).exists();
        let tool = self.tool;
        let is_hooked = |name: &&str| tool == Tool::Ours && TOOL_HOOKS.contains(name);
        if tests.is_empty() {
            self.part("suite", DebugCheck::Kept, &["--suite=mariabackup".to_owned()])?;
            let hooked: Vec<_> = TOOL_HOOKS.into_iter().filter(exists).filter(is_hooked).collect();
            return self.named("hooks", DebugCheck::Dropped, &hooked);
        }
        let (hooked, plain): (Vec<_>, Vec<_>) = tests.iter().copied().partition(is_hooked);
        self.named("suite", DebugCheck::Kept, &plain)?;
        self.named("hooks", DebugCheck::Dropped, &hooked)
    }

    /// Tests of the suite by name; a name with a dot has its suite in it.
    fn named(&mut self, part: &str, check: DebugCheck, tests: &[&str]) -> anyhow::Result<()> {
        if tests.is_empty() {
            return Ok(());
        }
        let full = |name: &&str| {
            let suite = if name.contains('.') { "" } else { "mariabackup." };
            format!("{suite}{name}")
        };
        self.part(part, check, &tests.iter().map(full).collect::<Vec<_>>())
    }

    fn part(&mut self, part: &str, check: DebugCheck, tests: &[String]) -> anyhow::Result<()> {
        let log = self.work.join(format!("{part}.log"));
        // A test that fails is told by the log; whether all ran, too.
        let ended = run_as_root(&self.script(part, check, tests));
        let text = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
        let before = self.counts.failed.len();
        for line in text.lines() {
            let Some((name, result)) = result_of(line) else { continue };
            match result {
                "pass" => self.counts.passed += 1,
                "fail" => self.counts.failed.push(name.to_owned()),
                _ => {}
            }
        }
        match ended {
            Err(error) if self.counts.failed.len() == before => Err(error),
            _ => Ok(()),
        }
    }

    /// Everything is mounted where nobody else sees it. The servers run as the user `mysql`, in a
    /// process namespace that takes them along when it ends.
    fn script(&self, part: &str, check: DebugCheck, tests: &[String]) -> String {
        let Self { series, tool, root, work, .. } = self;
        let (root, work, suites) = (root.display(), work.display(), series.suites);
        let mut mounts = Vec::new();
        if *tool == Tool::Ours {
            for name in ["mariadb-backup", "mbstream"] {
                mounts.push(format!("mount --bind '{work}/mariabackup' '{root}/usr/bin/{name}'"));
            }
        }
        if check == DebugCheck::Dropped {
            // It names what keeps a test from being run.
            let rules = format!("{root}{suites}/suite.pm");
            mounts.push(format!("sed s/have_debug.inc/no_check/ '{rules}' > suite.pm"));
            mounts.push(format!("mount --bind suite.pm '{rules}'"));
        }
        // The suite looks for qpress, which our tool does not need, by what it says of itself.
        let qpress = match tool {
            Tool::Ours => "echo \"echo Compression\" > bin/qpress; chmod 755 bin/qpress",
            Tool::Reference => "rm -f bin/qpress",
        };
        format!(
            "cd '{work}'
rm -rf {part}.var; mkdir -p {part}.var bin; {qpress}
chown -R \"$(stat -c %u:%g '{root}/var/lib/mysql')\" {part}.var
{{ unshare --mount --propagation private --pid --fork --kill-child sh -euc '
{mounts}
mount --bind \"$1\" \"$2\"/mnt
mount -t proc proc \"$2\"/proc
[ \"$2\" = / ] || mount --rbind /dev \"$2\"/dev
exec chroot \"$2\" setpriv --reuid=mysql --regid=mysql --clear-groups \\
    env -i HOME=/mnt/{part}.var PATH=/mnt/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    sh -c \"cd {suites} && exec ./mysql-test-run.pl --vardir=/mnt/{part}.var/mtr --parallel=2 \\
        --force --max-test-fail=0 --retry=0 --mtr-build-thread={build_thread} {tests}\"
' sh '{work}' '{root}' 2>&1 && echo 0 > {part}.status || echo 1 > {part}.status; }} | tee {part}.log
exit \"$(cat {part}.status)\"",
            mounts = mounts.join("\n"),
            build_thread = series.build_thread,
            tests = tests.join(" "),
        )
    }
}

/// The name of a test, with its combination, and its result, from a line of the suite's log.
fn result_of(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once(" [ ")?;
    let (result, _) = rest.split_once(" ]")?;
    let name = name.trim_end().trim_end_matches(|c: char| c == 'w' || c.is_ascii_digit());
    Some((name.trim_end(), result))
}
