//! An incremental backup of the reference, applied to its base: with tables renamed in a circle,
//! dropped, made, truncated, renamed again while it was taken.

use super::*;
use crate::prepare::incremental;

const STORED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/prepare/10.11.19-incremental");

/// Base and incremental backup, in folders of these names.
fn backups() -> tempfile::TempDir {
    backup_of(STORED)
}

fn apply(dir: &Path, storage: &dyn Storage) -> anyhow::Result<()> {
    let options = PrepareOptions {
        target_dir: dir.join("base"),
        incremental_dir: Some(dir.join("inc")),
        ..options(dir)
    };
    run_on(&options, &Report::to_stderr(false), storage)
}

/// Without files that compressors make in their own ways.
fn comparable(contents: &str) -> Vec<&str> {
    contents.lines().filter(|line| !line.ends_with("t/p.ibd")).collect()
}

#[test]
fn the_result_is_that_of_the_reference_and_the_incremental_backup_stays() {
    let dir = backups();
    let before = contents(&dir.path().join("inc"));
    apply(dir.path(), &crate::prepare::storage::Disk).unwrap();
    let found = contents(&dir.path().join("base"));
    assert_eq!(comparable(&found), comparable(&expected(STORED)));
    assert_eq!(contents(&dir.path().join("inc")), before);
    // Once more: nothing happens.
    apply(dir.path(), &Faulty::after(0)).unwrap();
    assert_eq!(contents(&dir.path().join("base")), found);
}

#[test]
fn a_database_without_any_file_stays() {
    let dir = backups();
    for name in ["inc/bare", "base/bare", "base/left"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("base/bare/db.opt"), "").unwrap();
    apply(dir.path(), &crate::prepare::storage::Disk).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("base/bare")).unwrap().count(), 0);
    assert!(!dir.path().join("base/left").exists());
}

#[test]
fn lists_of_changed_pages_are_checked_by_themselves() {
    let dir = backups();
    let inc = dir.path().join("inc");
    incremental::check_lists(&inc).unwrap();
    File::options().write(true).open(inc.join("t/d.ibd.delta")).unwrap().set_len(5000).unwrap();
    let error = incremental::check_lists(&inc).unwrap_err();
    assert!(crate::hint::describe(&error).0.contains("t/d.ibd.delta is damaged"), "{error:#}");
}

#[test]
fn a_killed_run_can_be_repeated() {
    let dir = backups();
    let whole = Faulty::after(1 << 40);
    apply(dir.path(), &whole).unwrap();
    let expected = contents(&dir.path().join("base"));
    let steps = whole.steps.into_inner();
    assert!(steps > 200, "{steps}");
    // The first steps are the renames, the last ones the change of state.
    let points = (0..60).chain((60..steps).step_by(11)).chain(steps.saturating_sub(30)..steps);
    for point in points {
        let dir = backups();
        let (base, inc) = (dir.path().join("base"), dir.path().join("inc"));
        let source = contents(&inc);
        let faulty = Faulty::after(point);
        apply(dir.path(), &faulty).unwrap_err();
        if point % 2 == 0 {
            faulty.lose_power(point);
        }
        // The second run is killed too, somewhere.
        let again = Faulty::after(point / 2 + 3);
        if apply(dir.path(), &again).is_err() && point % 4 == 0 {
            again.lose_power(point + 1);
        }
        assert_refuses_all_else(&base);
        apply(dir.path(), &Faulty::after(1 << 40)).unwrap();
        let what = format!("killed at step {point} of {steps}");
        assert_contents(&base, &expected, &what);
        assert_eq!(contents(&inc), source, "{what}");
    }
}

/// What was changed by half is good for nothing but to go on.
fn assert_refuses_all_else(base: &Path) {
    if !base.join(incremental::state::NAME).exists() {
        return;
    }
    let before = contents(base);
    let error = prepare(base, &crate::prepare::storage::Disk).unwrap_err();
    let (text, hint) = crate::hint::describe(&error);
    assert!(text.contains("was being applied to"), "{text}");
    assert!(hint.unwrap().contains("--incremental-dir="));
    let other = tempfile::tempdir().unwrap();
    unpack(Path::new(STORED), other.path());
    let info = other.path().join("inc/xtrabackup_info");
    fs::write(info, "uuid = another\n").unwrap();
    fs::remove_dir_all(other.path().join("base")).unwrap();
    std::os::unix::fs::symlink(base, other.path().join("base")).unwrap();
    let error = apply(other.path(), &crate::prepare::storage::Disk).unwrap_err();
    let (text, hint) = crate::hint::describe(&error);
    assert!(text.contains("another incremental backup"), "{text}");
    assert!(hint.unwrap().contains("--incremental-dir="));
    assert_eq!(contents(base), before);
}

/// What is not right is found before anything is written.
#[track_caller]
fn assert_refused(damage: impl FnOnce(&Path), message: &str) {
    let dir = backups();
    damage(dir.path());
    let before = contents(dir.path());
    let error = apply(dir.path(), &Faulty::after(0)).unwrap_err();
    let (error, _) = crate::hint::describe(&error);
    assert!(error.contains(message), "{error}");
    assert_eq!(contents(dir.path()), before);
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

const CHECKPOINTS: &str = "xtrabackup_checkpoints";

#[test]
fn a_base_that_does_not_fit_is_refused() {
    let state = |from: &'static str, to: &'static str| {
        move |dir: &Path| edit(&dir.join("base").join(CHECKPOINTS), from, to)
    };
    let proper = "This incremental backup seems not to be proper for the target. Check 'to_lsn' of \
                  the target and 'from_lsn' of the incremental.";
    assert_refused(
        state("log-applied", "full-backuped"),
        "error: applying incremental backup needs a prepared target.",
    );
    assert_refused(state("log-applied", "incremental"), "does not have correct metadata");
    assert_refused(state("to_lsn = 453541", "to_lsn = 453540"), proper);
    assert_refused(state("to_lsn = 453541", "to_lsn = 794832"), proper);
    // The server made no checkpoint between the backups, but a newer one was applied.
    let newer = |dir: &Path| {
        let log = redo::header::final_log(innodb::Lsn(1_056_994 + 64), "Backup 10.11.19").unwrap();
        fs::write(dir.join("base/ib_logfile0"), log).unwrap();
    };
    assert_refused(newer, "but the target is at 10570");
    let used = |dir: &Path| {
        let log = dir.join("base/ib_logfile0");
        File::options().write(true).open(log).unwrap().set_len(1 << 20).unwrap();
    };
    assert_refused(used, "a server has run on the target");
    assert_refused(|dir| fs::remove_file(dir.join("base/undo001")).unwrap(), "undo001");
    assert_refused(|dir| fs::remove_file(dir.join("base").join(CHECKPOINTS)).unwrap(), "base");
}

#[test]
fn a_damaged_incremental_backup_is_refused() {
    let remove = |name: &'static str| move |dir: &Path| fs::remove_file(dir.join(name)).unwrap();
    let meta = |from: &'static str, to: &'static str| {
        move |dir: &Path| edit(&dir.join("inc/t/d.ibd.meta"), from, to)
    };
    assert_refused(remove("inc/xtrabackup_checkpoints"), "was not finished");
    assert_refused(remove("inc/t/d.ibd.meta"), "t/d.ibd.meta");
    assert_refused(remove("inc/ib_logfile0"), "ib_logfile0");
    assert_refused(remove("inc/backup-my.cnf"), "backup-my.cnf");
    assert_refused(meta("page_size = 4096", "page_size = 8192"), "t/d.ibd.delta");
    assert_refused(meta("zip_size = 0", "zip_size = 4096"), "has pages of 4096 bytes");
    assert_refused(meta("space_id = 7", "space_id = 99"), "it belongs to tablespace 7");
    assert_refused(meta("space_id = 7", "space_id = 8"), "are both tablespace 8");
    let backup_type = |dir: &Path| {
        edit(
            &dir.join("inc").join(CHECKPOINTS),
            "backup_type = incremental",
            "backup_type = full-backuped",
        );
    };
    assert_refused(backup_type, "is no incremental backup");
    let cut = |len: u64| {
        move |dir: &Path| {
            let file = File::options().write(true).open(dir.join("inc/t/d.ibd.delta")).unwrap();
            file.set_len(len).unwrap();
        }
    };
    assert_refused(cut(100), "t/d.ibd.delta is damaged");
    assert_refused(cut(4096 * 3), "t/d.ibd.delta is damaged");
    // A byte in a page; the number of a page; the last one moves behind the end.
    assert_refused(|dir| change(dir, "inc/t/d.ibd.delta", 3 * 4096 + 900, b"damage"), "damaged");
    assert_refused(|dir| change(dir, "inc/t/d.ibd.delta", 8, &[0, 0, 0, 0]), "t/d.ibd.delta");
    let beyond = |dir: &Path| {
        let path = dir.join("inc/t/d.ibd.delta");
        let count = usize::try_from(path.metadata().unwrap().len()).unwrap() / 4096 - 1;
        change(dir, "inc/t/d.ibd.delta", 4 * count, &1_000_000_u32.to_be_bytes());
    };
    assert_refused(beyond, "has page 1000000, which is behind the end of t/d.ibd");
    let log = |dir: &Path| {
        let path = dir.join("inc/ib_logfile0");
        let len = path.metadata().unwrap().len();
        File::options().write(true).open(path).unwrap().set_len(len - 2000).unwrap();
    };
    assert_refused(log, "The log was only applied up to LSN");
}
