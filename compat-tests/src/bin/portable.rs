//! Tries one binary in the trees of other Debian releases, whose names are the arguments: it must
//! back up a server that it reaches by host name, under the name of the user who runs it. Run by
//! `cargo xtask dist`.
//!
//! Host and user names are looked up by libraries of the system, which do not go with every
//! statically linked program.

use std::fs;
use std::process::Command;

use compat_tests::installation::servers_dir;
use compat_tests::server::TestServer;
use compat_tests::tool::run;

fn main() {
    let program = std::env::var_os("MARIABACKUP_BIN").expect("MARIABACKUP_BIN");
    let server = TestServer::start(&["--skip-networking=0"]);
    let user = String::from_utf8(Command::new("id").arg("-un").output().expect("run id").stdout)
        .expect("UTF-8");
    let user = user.trim();
    for sql in [
        format!("CREATE USER IF NOT EXISTS '{user}'@localhost"),
        format!("GRANT ALL ON *.* TO '{user}'@localhost"),
    ] {
        server.execute(sql);
    }
    let hosts = server.dir().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost db-server.example\n").expect("write a file");
    let copy = server.dir().join("mariabackup");
    fs::copy(&program, &copy).expect("copy the program");
    let dir = server.dir().display();
    let own = ("this machine".to_owned(), None);
    let trees = std::env::args()
        .skip(1)
        .map(|release| (release.clone(), Some(servers_dir().join(release))))
        .filter(|(_, tree)| tree.as_ref().is_some_and(|tree| tree.is_dir()));
    for (place, tree) in std::iter::once(own).chain(trees) {
        for (number, host) in ["localhost", "db-server.example"].into_iter().enumerate() {
            // Nobody else sees what is mounted, and it goes with the process.
            let target = format!("{dir}/{}-{number}", place.replace(' ', "-"));
            let backup = format!(
                "{dir}/mariabackup --no-defaults --backup --host={host} --protocol=tcp \
                 --port={} --target-dir={target}",
                server.port()
            );
            let script = match &tree {
                None => format!("mount --bind {dir}/hosts /etc/hosts; exec {backup}"),
                Some(tree) => {
                    let tree = tree.display();
                    format!(
                        "mkdir -p {tree}{dir}; : >>{tree}/etc/hosts; mount --bind {dir} {tree}{dir}; \
                         mount --bind {dir}/hosts {tree}/etc/hosts; exec chroot {tree} {backup}"
                    )
                }
            };
            let mut command = Command::new("sudo");
            if user == "root" {
                command = Command::new("unshare");
            } else {
                command.arg("unshare");
            }
            command.args(["--mount", "--propagation=private", "sh", "-euc", &script]);
            run(&mut command).expect_success();
            println!("{place}: backed up from {host}");
        }
        if let Some(tree) = tree {
            // The empty folder on which the server's was mounted.
            let _ = fs::remove_dir(format!("{}{dir}", tree.display()));
        }
    }
}
