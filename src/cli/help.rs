//! `--help`, `--version` and the manual page, from the table of options.

use std::fmt::Write as _;

use clap::{Arg, ArgAction};

use super::Environment;
use super::files::{BACKUP_GROUPS, CLIENT_GROUPS, SERVER_GROUPS};
use super::settings::Settings;
use super::table::{Argument, Kind, OPTIONS, Spec, Support, Table};
use super::value::Value;

/// Release of MariaDB whose mariadb-backup this program is compared with.
pub const REFERENCE_VERSION: &str = "10.11.19-MariaDB";

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `verify` does, for `--help` and the manual page.
const VERIFY: &str = "\
verify DIRECTORY checks a backup, prepared or not, or the data directory of a server that does not \
run, and changes nothing: every page of every data file (checksum, number, LSN, and the plain form \
of encrypted ones), the redo log from its checkpoint to the LSN that the backup names, Aria's log, \
control file and tables, and the presence of every file that the metadata, the rollback segments and \
the definitions of tables name. Each thing that is wrong is a line on standard output that begins \
with the file; --verbose shows good data files and all damaged pages. The exit status is 0 if all is \
good, 1 if anything is damaged or missing, 2 if the directory could not be checked: it is no backup, \
not complete, or in use. The options of a backup's server are in the backup. For a data directory \
they are given (--innodb-data-file-path, --innodb-data-home-dir, --innodb-undo-directory, \
--innodb-log-group-home-dir, --aria-log-dir-path, --file-key-management-filename and the others of \
key managements), or read from the option files if these name it as datadir. --parallel: as many \
threads work as there are processors, unless --parallel tells another number.";

/// The lines of `--version`; scripts look for the first.
pub fn version(program: &str) -> String {
    let (os, arch) = ("Linux", std::env::consts::ARCH);
    format!(
        "{program} based on MariaDB server {REFERENCE_VERSION} {os} ({arch})\nmariabackup \
         {VERSION}, for servers from MariaDB 10.5 on; based on their file formats, not made by the \
         MariaDB project"
    )
}

/// The text of `--innobackupex --version`, which has no line end.
pub(super) fn innobackupex_version() -> String {
    let (os, arch) = ("Linux", std::env::consts::ARCH);
    format!("innobackupex version {REFERENCE_VERSION} {os} ({arch})")
}

/// The options as clap sees them. It renders them; reading them takes other rules.
pub fn command() -> clap::Command {
    let mut command = clap::Command::new("mariabackup")
        .version(VERSION)
        .about("Takes, prepares and restores physical backups of MariaDB")
        .override_usage(
            "mariabackup [--defaults-file=#] [--backup | --prepare | --copy-back | --move-back] \
             [OPTIONS]\n       mariabackup verify DIRECTORY [OPTIONS]",
        )
        .term_width(80)
        .disable_help_flag(true)
        .disable_version_flag(true);
    let heading = "Options that come first";
    for (name, value, help) in [
        ("print-defaults", None, "Print the options found in the option files and exit."),
        (
            "innobackupex",
            None,
            "Read the command line as the program innobackupex did: OPTIONS and a DIRECTORY. With \
             --apply-log, --copy-back, --move-back or --decompress it is that of the backup; \
             without, a backup goes to a new directory in it, named by the time. Must be the very \
             first option.",
        ),
        ("no-defaults", None, "Read no option file. Must be the very first option."),
        ("defaults-file", Some("FILE"), "Read this option file and no other."),
        ("defaults-extra-file", Some("FILE"), "Read this option file after the global ones."),
        ("defaults-group-suffix", Some("TEXT"), "Read each group also with this at its end."),
    ] {
        let argument = Arg::new(name).long(name).help(help).help_heading(heading);
        command = command.arg(match value {
            Some(value) => argument.value_name(value).require_equals(true),
            None => argument.action(ArgAction::SetTrue),
        });
    }
    command.args(OPTIONS.iter().map(argument))
}

fn argument(spec: &Spec) -> Arg {
    let mut help = spec.help.to_owned();
    if spec.support == Support::NotYet {
        help.push_str(" Not supported yet by this version.");
    }
    if matches!(spec.kind, Kind::Flag(true)) {
        let _ = write!(help, " On by default; --skip-{} turns it off.", spec.name);
    }
    if let Kind::Choice(names, _) = spec.kind {
        let _ = write!(help, " One of {}.", names.join(", "));
    }
    let heading = match spec.table {
        Table::Server => "Options that are also read from the server's groups",
        Table::Client | Table::Both => "Options",
        Table::Innobackupex => "Options that only --innobackupex has",
    };
    let argument = Arg::new(spec.name).long(spec.name).help(help).help_heading(heading);
    let argument = match spec.short {
        Some(letter) => argument.short(letter),
        None => argument,
    };
    let value_name = match spec.kind {
        Kind::Number(_) | Kind::Fraction => "NUMBER",
        Kind::Flag(_) | Kind::Marker | Kind::Text(_) | Kind::Choice(..) => "TEXT",
    };
    match (spec.kind, spec.argument) {
        (Kind::Flag(_) | Kind::Marker, _) | (_, Argument::No) => {
            argument.action(ArgAction::SetTrue)
        }
        (_, Argument::Optional) => {
            argument.value_name(value_name).num_args(0..=1).require_equals(true)
        }
        (_, Argument::Required) => argument.value_name(value_name),
    }
}

/// Text of `--help`: the options, the option files and groups, the values now in force.
pub(super) fn help(program: &str, settings: &Settings, environment: &Environment) -> String {
    let mut after = wrapped(VERIFY, 80);
    after.push_str("\nOption files, in this order:\n");
    for file in &environment.usual_files {
        let _ = write!(after, "{} ", file.display());
    }
    let _ = writeln!(after, "~/.my.cnf");
    let groups = [&BACKUP_GROUPS[..], &SERVER_GROUPS, &CLIENT_GROUPS].concat();
    let _ = writeln!(after, "The following groups are read: {}", groups.join(" "));
    after.push_str(
        "With --copy-back and --move-back also mysqld-X.Y, mariadb-X.Y and mariadbd-X.Y, where \
         X.Y\nis the series of the server that was backed up.\n",
    );
    for table in [Table::Server, Table::Client] {
        after.push('\n');
        after.push_str(&variables(table, settings));
    }
    let usage = format!(
        "{program} [--defaults-file=#] [--backup | --prepare | --copy-back | --move-back] \
         [OPTIONS]\n       {program} verify DIRECTORY [OPTIONS]"
    );
    let help = command().override_usage(usage).after_help(after).render_help().to_string();
    format!("{}\n{help}", version(program))
}

/// `text` in lines of at most `width` letters.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut room = 0;
    for word in text.split(' ') {
        if room <= word.len() {
            lines.push_str(if lines.is_empty() { "" } else { "\n" });
            room = width;
        } else {
            lines.push(' ');
            room -= 1;
        }
        lines.push_str(word);
        room = room.saturating_sub(word.len());
    }
    lines + "\n"
}

/// The options of a table with their values, in the reference's form.
fn variables(table: Table, settings: &Settings) -> String {
    let mut text = "Variables (--variable-name=value)\n\
                    and boolean options {FALSE|TRUE}  Value (after reading options)\n\
                    --------------------------------- ----------------------------------------\n"
        .to_owned();
    for spec in OPTIONS.iter().filter(|spec| spec.table == table || spec.table == Table::Both) {
        // As in the reference.
        if matches!(spec.name, "password" | "protocol" | "core-file") {
            continue;
        }
        let name = spec.alias_of.unwrap_or(spec.name);
        let value = match settings.value(name) {
            Value::Text(text) if spec.is_secret && !text.is_empty() => "...".to_owned(),
            Value::Flag(true) => "TRUE".to_owned(),
            Value::Flag(false) => "FALSE".to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Choice(name) => name.to_owned(),
            Value::Text(text) if !text.is_empty() => text.to_string_lossy().into_owned(),
            Value::Unset | Value::Text(_) => "(No default value)".to_owned(),
        };
        let _ = writeln!(text, "{:<33} {value}", spec.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::settings::Origin;
    use super::*;
    use crate::mbstream;

    #[test]
    fn clap_accepts_the_definitions() {
        command().debug_assert();
    }

    #[test]
    fn the_word_that_galera_looks_for_is_there() {
        let environment = Environment {
            variables: std::collections::HashMap::new(),
            directory: "/".into(),
            usual_files: vec!["/etc/my.cnf".into()],
            interactive: false,
        };
        let mut settings = Settings::default();
        let spec = Spec::find("parallel").unwrap();
        settings.set(spec, Value::Number(7), Origin::CommandLine);
        let help = help("prog", &settings, &environment);
        assert!(help.split_whitespace().any(|word| word == "--version-check"), "{help}");
        assert!(help.contains("\nparallel                          7\n"));
        assert!(help.contains("Usage: prog [--defaults-file=#]"));
        for spec in OPTIONS {
            assert!(help.contains(&format!("--{}", spec.name)), "{}", spec.name);
        }
    }

    #[test]
    fn the_version_has_the_form_that_scripts_know() {
        let text = version("/usr/bin/mariabackup");
        let line = text.lines().next().unwrap();
        assert!(line.starts_with("/usr/bin/mariabackup based on MariaDB server 10.11.19-MariaDB "));
        assert!(text.contains(VERSION));
    }

    /// The usual one would name every option.
    const SYNOPSIS: &str = ".SH SYNOPSIS\n\\fBmariabackup\\fR [\\-\\-defaults\\-file=\\fIFILE\\fR] \
                            \\-\\-backup | \\-\\-prepare | \\-\\-copy\\-back | \\-\\-move\\-back \
                            [\\-\\-target\\-dir=\\fIDIRECTORY\\fR] [\\fIOPTIONS\\fR]\n.br\n\
                            \\fBmariabackup\\fR verify \\fIDIRECTORY\\fR [\\fIOPTIONS\\fR]\n";

    const MBSTREAM_SYNOPSIS: &str = ".SH SYNOPSIS\n\\fBmbstream\\fR \\-c [\\fIOPTIONS\\fR] \\fIFILES\\fR... \
                                     > \\fISTREAM\\fR\n.br\n\\fBmbstream\\fR \\-x \
                                     [\\fIOPTIONS\\fR] < \\fISTREAM\\fR\n";

    #[test]
    fn man_page_is_up_to_date() {
        let verify = VERIFY.replace("--", "\\-\\-");
        compare("mariabackup.1", command(), SYNOPSIS, &format!(".SH VERIFY\n{verify}\n"));
    }

    #[test]
    fn man_page_of_mbstream_is_up_to_date() {
        compare("mbstream.1", mbstream::options::command(), MBSTREAM_SYNOPSIS, "");
    }

    /// To refresh the pages: `UPDATE_MAN=1 cargo test -p mariabackup man_page`.
    #[track_caller]
    fn compare(name: &str, command: clap::Command, synopsis: &str, more: &str) {
        let man = clap_mangen::Man::new(command).date("");
        let mut page = Vec::new();
        man.render_title(&mut page).unwrap();
        man.render_name_section(&mut page).unwrap();
        page.extend_from_slice(synopsis.as_bytes());
        page.extend_from_slice(more.as_bytes());
        man.render_options_section(&mut page).unwrap();
        man.render_version_section(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(name);
        if std::env::var_os("UPDATE_MAN").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            stored == page,
            "man/{name} is stale; refresh it: UPDATE_MAN=1 cargo test -p mariabackup man_page"
        );
    }
}
