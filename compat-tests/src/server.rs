//! Throwaway servers: each with its own data, temporary and socket directory, ended by its own
//! process id when dropped.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder, Row, Value};
use tempfile::TempDir;

use crate::installation::{Series, prefixed, servers_dir, workspace_dir};

/// Options that load the plugins for page compression, but for zlib, which is built in.
pub const PROVIDERS: [&str; 5] = [
    "--plugin-load-add=provider_lz4",
    "--plugin-load-add=provider_lzo",
    "--plugin-load-add=provider_lzma",
    "--plugin-load-add=provider_bzip2",
    "--plugin-load-add=provider_snappy",
];

/// How long a server may take to start or to stop, recovery included.
const PATIENCE: Duration = Duration::from_secs(180);

/// Time between two looks at something that is being waited for.
pub const POLL: Duration = Duration::from_millis(10);

/// A running server of its own.
pub struct TestServer {
    series: Series,
    options: Vec<String>,
    child: Option<Child>,
    port: u16,
    dir: TempDir,
}

impl TestServer {
    /// Starts a 10.11 server with a new data directory.
    pub fn start(options: &[&str]) -> Self {
        Self::start_series(Series::V10_11, options)
    }

    /// Starts a server of `series` with a new data directory.
    ///
    /// The server writes a binary log outside of its data directory, syncs little, and listens on
    /// its socket alone unless `options` hold `--skip-networking=0`. An option given here wins. In
    /// options, `{dir}` stands for the server's own folder, which is empty but for `data`, `tmp`
    /// and `binlog`.
    pub fn start_series(series: Series, options: &[&str]) -> Self {
        let mut server = Self::prepare(series, options);
        let template_options: Vec<&String> = server
            .options
            .iter()
            .filter(|option| ["--innodb", "--aria"].iter().any(|p| option.starts_with(p)))
            // The keys are a plugin's, which is not there yet; the server encrypts later.
            .filter(|option| !option.contains("-encrypt"))
            .collect();
        if template_options.iter().any(|option| option.contains('/')) {
            // Parts of the data lie elsewhere, so that they cannot be copied from a template.
            let options: Vec<String> = template_options.into_iter().cloned().collect();
            for (_, dir) in options.iter().filter_map(|option| option.split_once("=/")) {
                fs::create_dir_all(Path::new("/").join(dir)).expect("make a folder");
            }
            bootstrap(series, &server.datadir(), &options);
        } else {
            let template = template(series, &template_options);
            copy_tree(&template, &server.datadir());
        }
        server.launch();
        server
    }

    /// Makes the folders of a server whose data directory is still to be filled, for instance by a
    /// restore into [`datadir`](Self::datadir); [`launch`](Self::launch) then starts it.
    pub fn prepare(series: Series, options: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("mb-").tempdir().expect("make a folder");
        for name in ["data", "tmp", "binlog"] {
            fs::create_dir(dir.path().join(name)).expect("make a folder");
        }
        let own = dir.path().to_str().expect("UTF-8").to_owned();
        let options = options.iter().map(|option| option.replace("{dir}", &own)).collect();
        Self { series, options, child: None, port: 0, dir }
    }

    /// Starts the server on its data directory and waits until it answers.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "already running");
        self.port = free_port();
        let dir = self.dir.path();
        let mut command = self.series.server_command();
        as_this_user(&mut command);
        command
            .arg(prefixed("--datadir=", &self.datadir()))
            .arg(prefixed("--tmpdir=", &dir.join("tmp")))
            .arg(prefixed("--socket=", &self.socket()))
            .arg(prefixed("--pid-file=", &dir.join("pid")))
            .arg(prefixed("--log-error=", &self.error_log()))
            .arg(prefixed("--log-bin=", &dir.join("binlog/bin")))
            .arg(prefixed("--secure-file-priv=", &dir.join("tmp")))
            .arg(format!("--port={}", self.port))
            .args([
                "--skip-networking",
                "--bind-address=127.0.0.1",
                "--server-id=1",
                "--binlog-format=ROW",
                "--sync-binlog=0",
                "--innodb-flush-log-at-trx-commit=2",
                "--innodb-buffer-pool-size=64M",
                "--key-buffer-size=8M",
                "--aria-pagecache-buffer-size=8M",
                "--max-connections=50",
            ])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
        self.child = Some(child);
        let answered = self.wait_until(|server| server.try_connect("root", "").is_ok());
        assert!(answered, "{command:?} did not start:\n{}", self.error_log_tail());
    }

    /// The series of the server.
    pub fn series(&self) -> Series {
        self.series
    }

    /// The options the server was given by the test.
    pub fn options(&self) -> &[String] {
        &self.options
    }

    /// The data directory.
    pub fn datadir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The folder that holds everything of this server; free for a test's own files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// The TCP port on 127.0.0.1, used with `--skip-networking=0`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's own messages.
    pub fn error_log(&self) -> PathBuf {
        self.dir.path().join("error.log")
    }

    /// The id of the server's process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    /// Connects as root.
    pub fn connect(&self) -> Conn {
        self.try_connect("root", "").expect("connect")
    }

    /// Connects with an account of the test's.
    ///
    /// # Errors
    ///
    /// What the client library says.
    pub fn try_connect(&self, user: &str, password: &str) -> mysql::Result<Conn> {
        let options = OptsBuilder::new()
            .socket(Some(self.socket().to_str().expect("UTF-8")))
            .user(Some(user))
            .pass(Some(password))
            .prefer_socket(false);
        Conn::new(options)
    }

    /// Runs statements, one by one, on a new connection.
    pub fn execute_all(&self, statements: &[&str]) {
        let mut connection = self.connect();
        for sql in statements {
            connection.query_drop(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }

    /// Runs one statement.
    pub fn execute(&self, sql: impl AsRef<str>) {
        self.execute_all(&[sql.as_ref()]);
    }

    /// The rows of a query as text, NULL as `NULL`.
    pub fn query(&self, sql: impl AsRef<str>) -> Vec<Vec<String>> {
        rows(&mut self.connect(), sql.as_ref())
    }

    /// The first column of the first row.
    pub fn query_text(&self, sql: impl AsRef<str>) -> String {
        let first = self.query(sql.as_ref()).into_iter().flatten().next();
        first.unwrap_or_else(|| panic!("no row: {}", sql.as_ref()))
    }

    /// The first column of the first row as a number.
    pub fn query_u64(&self, sql: impl AsRef<str>) -> u64 {
        let text = self.query_text(sql);
        text.parse().unwrap_or_else(|_| panic!("{text} is not a number"))
    }

    /// Ends the server in order.
    pub fn shutdown(&mut self) {
        // The connection breaks before or after the answer.
        let _ = self.connect().query_drop("SHUTDOWN");
        let ended = self.wait_until(|server| !server.is_running());
        assert!(ended, "the server did not stop:\n{}", self.error_log_tail());
        self.child = None;
    }

    /// Ends the server at once, as a power failure of the process.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            child.wait().expect("wait for the server");
        }
    }

    /// Ends the server at once and moves its folder to `to`, which does not exist.
    pub fn keep(mut self, to: &Path) {
        self.kill();
        if fs::rename(self.dir.path(), to).is_err() {
            fs::create_dir(to).expect("make a folder");
            copy_tree(self.dir.path(), to);
        }
    }

    /// Tells whether the process is there.
    pub fn is_running(&mut self) -> bool {
        match &mut self.child {
            Some(child) => child.try_wait().expect("look at the server").is_none(),
            None => false,
        }
    }

    /// The end of the server's messages.
    pub fn error_log_tail(&self) -> String {
        let log = fs::read(self.error_log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n")
    }

    /// Waits until `condition` holds; false if the server ended or it took too long.
    fn wait_until(&mut self, condition: impl Fn(&mut Self) -> bool) -> bool {
        let start = Instant::now();
        loop {
            if condition(self) {
                return true;
            }
            if start.elapsed() > PATIENCE || !self.is_running() {
                return condition(self);
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("error log of the {} server:\n{}", self.series, self.error_log_tail());
        }
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        thread::sleep(POLL);
    }
}

/// The rows of a query as text, NULL as `NULL`.
pub fn rows(connection: &mut Conn, sql: &str) -> Vec<Vec<String>> {
    let rows: Vec<Row> = connection.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect()
}

fn text(value: Value) -> String {
    match value {
        Value::NULL => "NULL".to_owned(),
        Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true),
    }
}

/// A server does not run as root unless it is told to.
fn as_this_user(command: &mut Command) {
    if std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").expect("stat")) == 0 {
        command.arg("--user=root");
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("a bound socket").port()
}

/// A data directory of a new server, made once for each set of options.
fn template(series: Series, options: &[&String]) -> PathBuf {
    let name: String = options
        .iter()
        .flat_map(|option| option.chars())
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let parent = workspace_dir().join("target/templates");
    let path = parent.join(format!("{series}{name}"));
    if !path.exists() {
        fs::create_dir_all(&parent).expect("make the folder of the templates");
        let new = tempfile::Builder::new().prefix("new-").tempdir_in(&parent).expect("a folder");
        let options: Vec<String> = options.iter().map(|&option| option.clone()).collect();
        bootstrap(series, new.path(), &options);
        // Another process may have been faster, then its template is used.
        if fs::rename(new.path(), &path).is_ok() {
            let _ = new.keep();
        }
        assert!(path.exists(), "no template {} in {}", path.display(), servers_dir().display());
    }
    path
}

/// Makes a new data directory in the empty folder `datadir`.
fn bootstrap(series: Series, datadir: &Path, options: &[String]) {
    let tmpdir = tempfile::tempdir().expect("make a folder");
    let mut command = series.server_command();
    as_this_user(&mut command);
    command
        .args(["--bootstrap", "--skip-log-bin", "--log-warnings=0", "--enforce-storage-engine="])
        .arg(prefixed("--datadir=", datadir))
        .arg(prefixed("--tmpdir=", tmpdir.path()))
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    // The server talks little while it reads, so that no pipe fills up. If it ends early, its
    // messages tell more than the broken pipe.
    let _ = stdin.write_all(series.bootstrap_sql().as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("wait for the server");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Copies the contents of a folder into another one; holes stay holes.
pub fn copy_tree(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto", "--sparse=auto", "-T"]).arg(from).arg(to);
    let status = command.status().expect("run cp");
    assert!(status.success(), "{command:?}: {status}");
}
