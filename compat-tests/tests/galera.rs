//! Clusters of Galera whose second node is provisioned by the server's own SST script, with our
//! program in the place of mariadb-backup.

#![cfg(test)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use compat_tests::installation::Series;
use compat_tests::server::{TestServer, rows, wait_until};
use compat_tests::tool::our_program;
use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder};
use tempfile::TempDir;

const SERIES: Series = Series::V10_11;

/// The provider, of the Debian package galera-4.
fn provider() -> PathBuf {
    let path = SERIES.root().join("usr/lib/galera/libgalera_smm.so");
    assert!(path.exists(), "{} is missing; install it with: cargo xtask install", path.display());
    path
}

/// A node of a cluster on this machine.
struct Node {
    dir: TempDir,
    cluster_port: u16,
    child: Option<Child>,
}

impl Node {
    /// A node whose data directory is `data`, or empty; `sst` holds lines of the group `[sst]`.
    fn new(data: Option<&Path>, peer: Option<&Self>, sst: &[String]) -> Self {
        let dir = tempfile::Builder::new().prefix("mb-").tempdir().unwrap();
        for name in ["data", "tmp", "base", "base/bin"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        if let Some(data) = data {
            compat_tests::server::copy_tree(data, &dir.path().join("data"));
        }
        // The server has its script look for programs below its own base directory first.
        symlink(SERIES.root().join("usr/share"), dir.path().join("base/share")).unwrap();
        for name in ["mariadb-backup", "mbstream"] {
            symlink(our_program(), dir.path().join("base/bin").join(name)).unwrap();
        }
        let [cluster_port] = free_ports();
        let node = Self { dir, cluster_port, child: None };
        node.configure(peer, sst);
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self, peer: Option<&Self>, sst: &[String]) {
        let [_, port, ist_port, sst_port] = free_ports();
        let own = self.dir.path().display();
        let cluster_port = self.cluster_port;
        let peers =
            peer.map_or_else(String::new, |peer| format!("127.0.0.1:{}", peer.cluster_port));
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let provider = provider().display().to_string();
        let user = if is_root { "user=root" } else { "" };
        let config = format!(
            "[mysqld]
basedir={own}/base
datadir={own}/data
tmpdir={own}/tmp
socket={own}/s
pid-file={own}/pid
log-error={own}/error.log
port={port}
bind-address=127.0.0.1
{user}
innodb_buffer_pool_size=32M
innodb_log_file_size=16M
log-bin
log-slave-updates
gtid-domain-id=7
binlog_format=ROW
innodb_autoinc_lock_mode=2
wsrep_on=ON
wsrep_provider={provider}
wsrep_cluster_address=gcomm://{peers}
wsrep_node_address=127.0.0.1
wsrep_provider_options=\"gmcast.listen_addr=tcp://127.0.0.1:{cluster_port};\
ist.recv_addr=127.0.0.1:{ist_port};gcache.size=1M\"
wsrep_sst_method=mariabackup
wsrep_sst_auth=root:
wsrep_sst_receive_address=127.0.0.1:{sst_port}
[sst]
{}
",
            sst.join("\n")
        );
        fs::write(self.path("my.cnf"), config).unwrap();
    }

    fn start(&mut self, options: &[&str]) {
        let mut command = SERIES.command("usr/sbin", "mariadbd");
        let scripts = SERIES.root().join("usr/bin");
        let path = std::env::var("PATH").unwrap();
        let path = format!("{path}:{}", scripts.display());
        command
            .arg(format!("--defaults-file={}", self.path("my.cnf").display()))
            .args(options)
            .env("PATH", path)
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        wait_until("a synced node", || {
            let state = self.try_connect().ok().map(|mut connection| {
                rows(&mut connection, "SHOW STATUS LIKE 'wsrep_local_state_comment'")
            });
            let is_synced =
                state.is_some_and(|rows| rows == [["wsrep_local_state_comment", "Synced"]]);
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(is_synced || ended.is_none(), "the node ended:\n{}", self.messages());
            is_synced
        });
    }

    fn try_connect(&self) -> mysql::Result<Conn> {
        let socket = self.path("s");
        let options =
            OptsBuilder::new().socket(socket.to_str()).user(Some("root")).prefer_socket(false);
        Conn::new(options)
    }

    /// Leaves the cluster in order: one of two that vanishes would stop the other.
    fn leave(mut self) {
        // The connection breaks before or after the answer.
        let _ = self.try_connect().unwrap().query_drop("SHUTDOWN");
        self.child.take().unwrap().wait().unwrap();
    }

    fn query(&self, sql: &str) -> Vec<Vec<String>> {
        rows(&mut self.try_connect().unwrap(), sql)
    }

    /// What the server and the programs that it ran have said.
    fn messages(&self) -> String {
        let logs = ["error.log", "data/mariabackup.prepare.log", "data/mariabackup.move.log"];
        logs.map(|name| {
            String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
        })
        .join("\n---\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("messages of a node:\n{}", self.messages());
        }
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Ports that nobody listens to.
fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A key and its certificate, signed by itself.
fn certificate(dir: &Path) -> [PathBuf; 2] {
    let [key, certificate] = ["key.pem", "cert.pem"].map(|name| dir.join(name));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days=2", "-subj=/CN=localhost"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    [key, certificate]
}

const CONTENTS: [&str; 3] = [
    "SELECT id, MD5(b) FROM test.t ORDER BY id",
    "SELECT id FROM test.a ORDER BY id",
    "SELECT id FROM test.m ORDER BY id",
];

/// A donor with tables of three engines.
fn donor() -> Node {
    let mut seed = TestServer::start(&["--skip-log-bin"]);
    seed.execute_all(&[
        "CREATE TABLE test.t (id INT AUTO_INCREMENT PRIMARY KEY, b BLOB) ENGINE=InnoDB",
        "INSERT INTO test.t (b) SELECT REPEAT(MD5(seq), 100) FROM test.seq_1_to_5000",
        "CREATE TABLE test.a (id INT PRIMARY KEY) ENGINE=Aria",
        "INSERT INTO test.a SELECT seq FROM test.seq_1_to_100",
        "CREATE TABLE test.m (id INT PRIMARY KEY) ENGINE=MyISAM",
        "INSERT INTO test.m SELECT seq FROM test.seq_1_to_100",
    ]);
    seed.shutdown();
    let mut node = Node::new(Some(&seed.datadir()), None, &[]);
    node.start(&["--wsrep-new-cluster"]);
    node
}

/// A new node gets all from the donor, through what `sst` asks for, which shows as `word` in the
/// command line of the script; it follows the donor from then on.
fn provision(donor: &Node, sst: &[String], word: &str) {
    donor.configure(None, sst);
    let mut joiner = Node::new(None, Some(donor), sst);
    joiner.start(&[]);
    for sql in CONTENTS {
        let (there, here) = (donor.query(sql), joiner.query(sql));
        assert!(!there.is_empty() && there == here, "{sql} of {sst:?}");
    }
    donor.query("INSERT INTO test.t (b) VALUES ('later')");
    let count = "SELECT COUNT(*) FROM test.t";
    wait_until("a row that comes later", || donor.query(count) == joiner.query(count));
    let said = fs::read_to_string(donor.path("data/mariabackup.backup.log")).unwrap();
    assert!(said.contains("mariabackup 0.1") && said.ends_with("completed OK!\n"), "{said}");
    assert!(donor.messages().contains(word), "no {word:?} in:\n{}", donor.messages());
    joiner.leave();
}

#[test]
fn the_second_node_is_provisioned() {
    let donor = donor();
    provision(&donor, &[], "socat -u stdio TCP:");
}

#[test]
fn over_tls_with_progress_and_compressed() {
    let donor = donor();
    let [key, certificate] = certificate(donor.dir.path()).map(|path| path.display().to_string());
    let tls = ["encrypt=3".to_owned(), format!("tkey={key}"), format!("tcert={certificate}")];
    provision(&donor, &tls, "openssl-connect:");
    let progress = donor.path("progress");
    provision(&donor, &[format!("progress={}", progress.display())], "| pv ");
    let pigz = ["compressor='pigz'", "decompressor='pigz -dc'"].map(str::to_owned);
    provision(&donor, &pigz, "| pigz ");
}
