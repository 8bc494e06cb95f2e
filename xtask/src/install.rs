//! Installs the Debian packages that a command needs, and the servers of other Debian releases.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::run::{run_as_root, workspace_dir};

/// Something a command cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To build the program.
    Build,
    /// To build libFuzzer.
    Fuzz,
    /// The server and mariadb-backup of [`OWN_RELEASE`].
    Server,
    /// Programs at the other end of streams, and those that unpack compressed files.
    Programs,
    /// The servers of [`OTHER_RELEASES`].
    OtherServers,
    /// The load generator of the benchmarks.
    Sysbench,
    /// MariaDB's own test suites, for the server of a Debian release.
    Suites(&'static str),
}

/// The Debian release whose server is used as an installed package, where this machine runs it.
const OWN_RELEASE: &str = "bookworm";

/// Debian releases whose servers are installed into trees of their own.
const OTHER_RELEASES: [&str; 2] = ["bullseye", "trixie"];

/// The server, mariadb-backup, and the engines that come as packages of their own.
const SERVER_PACKAGES: [&str; 9] = [
    "mariadb-server",
    "mariadb-client",
    "mariadb-backup",
    "mariadb-plugin-rocksdb",
    "mariadb-plugin-mroonga",
    "mariadb-plugin-connect",
    "mariadb-plugin-spider",
    "mariadb-plugin-s3",
    "galera-4",
];

/// What compresses pages and gives keys, packages of their own from 10.7 on.
const NEWER_PACKAGES: [&str; 6] = [
    "mariadb-plugin-provider-bzip2",
    "mariadb-plugin-provider-lz4",
    "mariadb-plugin-provider-lzma",
    "mariadb-plugin-provider-lzo",
    "mariadb-plugin-provider-snappy",
    "mariadb-plugin-hashicorp-key-management",
];

/// MariaDB's own test suites, and programs that they call.
const SUITE_PACKAGES: [&str; 6] =
    ["mariadb-test", "patch", "lsof", "socat", "libjson-perl", "netbase"];

/// All that is installed of the server of a release.
fn server_packages(release: &str) -> Vec<&'static str> {
    let newer = if release == "bullseye" { &[][..] } else { &NEWER_PACKAGES[..] };
    [&SERVER_PACKAGES, newer].concat()
}

/// Installs what is missing.
pub fn install(needs: &[Need]) -> anyhow::Result<()> {
    let system = System::read()?;
    let mut packages = Vec::new();
    let mut trees = Vec::new();
    let mut suites = Vec::new();
    for need in needs {
        match need {
            Need::Build => packages.extend(["gcc", "libc6-dev", "make", "perl"]),
            Need::Fuzz => packages.push("g++"),
            Need::Programs => {
                packages.extend(["zstd", "lz4", "pigz", "socat", "lsof", "pv", "openssl"]);
            }
            Need::Server if system.codename == OWN_RELEASE => {
                packages.extend(server_packages(OWN_RELEASE));
            }
            Need::Server => trees.push(OWN_RELEASE),
            Need::OtherServers => trees.extend(OTHER_RELEASES),
            Need::Sysbench => packages.push("sysbench"),
            Need::Suites(release) if *release == system.codename => {
                packages.extend(server_packages(release));
                packages.extend(SUITE_PACKAGES);
            }
            Need::Suites(release) => suites.push(*release),
        }
    }
    install_packages(&packages)?;
    trees.extend(&suites);
    install_trees(&trees)?;
    suites.iter().try_for_each(|release| complete_tree(release, &SUITE_PACKAGES))
}

/// The root directory of the server of a Debian release: that of this machine, or a tree.
pub fn root_of(release: &str) -> anyhow::Result<PathBuf> {
    let is_own = System::read()?.codename == release;
    Ok(if is_own { PathBuf::from("/") } else { servers_dir().join(release) })
}

/// The folder of the servers that are not this machine's own.
pub fn servers_dir() -> PathBuf {
    std::env::var_os("MARIABACKUP_SERVERS")
        .map_or_else(|| workspace_dir().join("target/servers"), PathBuf::from)
}

/// Makes the Debian trees of `releases` unless they are there, or are this machine's own.
pub fn install_trees(releases: &[&str]) -> anyhow::Result<()> {
    let system = System::read()?;
    let others = releases.iter().filter(|release| **release != system.codename);
    for release in others {
        if !has_tree(release) {
            install_packages(&["debootstrap", "debian-archive-keyring"])?;
            make_tree(release, &system.mirror)?;
        }
        complete_tree(release, &server_packages(release))?;
    }
    Ok(())
}

fn has_tree(release: &str) -> bool {
    servers_dir().join(release).join("usr/sbin/mariadbd").exists()
}

/// Installs what a tree lacks of `packages`: those of the engines need more than debootstrap
/// resolves.
fn complete_tree(release: &str, packages: &[&str]) -> anyhow::Result<()> {
    let tree = servers_dir().join(release);
    let status = fs::read_to_string(tree.join("var/lib/dpkg/status"))
        .with_context(|| format!("read what is installed in {}", tree.display()))?;
    let has = |package: &str| status.lines().any(|line| line == format!("Package: {package}"));
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !has(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let tree = tree.display();
    run_as_root(&format!(
        "unshare --mount --propagation private sh -euc '
mount -t proc proc \"$1\"/proc
policy=\"$1\"/usr/sbin/policy-rc.d
trap \"rm -f $policy\" EXIT
printf \"#!/bin/sh\\nexit 101\\n\" > $policy
chmod 755 $policy
export DEBIAN_FRONTEND=noninteractive
chroot \"$1\" apt-get update -q
chroot \"$1\" apt-get install -q -y --no-install-recommends {}' sh '{tree}' > '{tree}.log' 2>&1 \\
    || {{ tail -n 20 '{tree}.log'; exit 1; }}
find '{tree}/var/cache/apt/archives' -name '*.deb' -delete
rm -f '{tree}.log'",
        missing.join(" ")
    ))
    .with_context(|| format!("complete the server of Debian {release}"))
}

fn install_packages(packages: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("please install: {} (only Debian's apt-get is known here)", missing.join(" "));
    }
    // Debian starts a server when its package is installed, unless this file forbids it.
    run_as_root(&format!(
        "policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\\nexit 101\\n' > $policy
    chmod 755 $policy
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends {}",
        missing.join(" ")
    ))
    .context("install packages")
}

fn is_installed(package: &str) -> bool {
    let output =
        Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    output.is_ok_and(|output| output.stdout == b"installed")
}

/// Installs `release` with its server into a tree of its own. What is mounted meanwhile is seen by
/// nobody else and vanishes with the process.
fn make_tree(release: &str, mirror: &str) -> anyhow::Result<()> {
    let parent = servers_dir();
    fs::create_dir_all(&parent).with_context(|| format!("create {}", parent.display()))?;
    let tree = parent.join(release);
    let new = parent.join(format!("{release}.new"));
    let (tree, new) = (tree.display(), new.display());
    run_as_root(&format!(
        "rm -rf --one-file-system '{new}'
unshare --mount --propagation private debootstrap --variant=minbase \\
    --include=mariadb-server,mariadb-backup '{release}' '{new}' '{mirror}' > '{new}.log' 2>&1 \\
    || {{ tail -n 20 '{new}.log'; exit 1; }}
find '{new}/var/cache/apt/archives' -name '*.deb' -delete
rm -f '{new}.log'
mv -T '{new}' '{tree}'"
    ))
    .with_context(|| format!("install the server of Debian {release}"))
}

/// What is known about this machine.
struct System {
    codename: String,
    mirror: String,
}

impl System {
    fn read() -> anyhow::Result<Self> {
        let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
        let fields: BTreeMap<&str, &str> = release
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key, value.trim_matches('"')))
            .collect();
        let codename = fields.get("VERSION_CODENAME").copied().unwrap_or_default().to_owned();
        let mirror = match std::env::var("MARIABACKUP_MIRROR") {
            Ok(mirror) => mirror,
            Err(_) if fields.get("ID") == Some(&"debian") => mirror_of_apt(&codename)?,
            Err(_) => DEFAULT_MIRROR.to_owned(),
        };
        Ok(Self { codename, mirror })
    }
}

const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

/// The mirror from which this machine gets Debian itself.
fn mirror_of_apt(codename: &str) -> anyhow::Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        for entry in entries {
            files.push(entry.context("list the sources of apt")?.path());
        }
    }
    let found = files.iter().filter_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        match path.extension()?.to_str()? {
            "sources" => mirror_of_stanzas(&text, codename),
            "list" => mirror_of_lines(&text, codename),
            _ => None,
        }
    });
    Ok(found.into_iter().next().unwrap_or_else(|| DEFAULT_MIRROR.to_owned()))
}

/// The mirror of a `.sources` file: stanzas of `Key: value` lines.
fn mirror_of_stanzas(text: &str, codename: &str) -> Option<String> {
    text.split("\n\n").find_map(|stanza| {
        let words = |key: &str| {
            let lines = stanza.lines().filter_map(|line| line.split_once(':'));
            let mut values = lines.filter(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v);
            values.next().unwrap_or_default().split_whitespace()
        };
        let ours = words("Suites").any(|suite| suite == codename)
            && words("Components").any(|component| component == "main");
        words("URIs").find(|uri| ours && is_debian(uri)).map(str::to_owned)
    })
}

/// The mirror of a `.list` file: lines of `deb [options] uri suite components`.
fn mirror_of_lines(text: &str, codename: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.trim().strip_prefix("deb ")?.trim_start();
        let line = match line.strip_prefix('[') {
            Some(line) => line.split_once(']')?.1,
            None => line,
        };
        let mut words = line.split_whitespace();
        let uri = words.next()?;
        let ours = words.next() == Some(codename) && words.any(|component| component == "main");
        (ours && is_debian(uri)).then(|| uri.to_owned())
    })
}

/// Debian's own archive is called so on every mirror.
fn is_debian(uri: &str) -> bool {
    uri.starts_with("http") && uri.trim_end_matches('/').ends_with("/debian")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_found_in_stanzas() {
        let text = "Types: deb\nURIs: http://other.example/thing\nSuites: bookworm\n\
                    Components: main\n\n\
                    Types: deb\n# a comment\nURIs: http://mirror.example/debian/\n\
                    Suites: bookworm bookworm-updates\nComponents: main contrib\n";
        let expected = Some("http://mirror.example/debian/".to_owned());
        assert_eq!(mirror_of_stanzas(text, "bookworm"), expected);
        assert_eq!(mirror_of_stanzas(text, "trixie"), None);
    }

    #[test]
    fn the_mirror_is_found_in_lines() {
        let text = "# deb http://no.example/debian bookworm main\n\
                    deb http://sec.example/debian-security bookworm-security main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main\n";
        let expected = Some("http://mirror.example/debian".to_owned());
        assert_eq!(mirror_of_lines(text, "bookworm"), expected);
        assert_eq!(mirror_of_lines("deb", "bookworm"), None);
    }
}
