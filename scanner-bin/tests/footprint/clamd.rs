//! clamd and a Python consumer in front of it, as one replica.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::support::process::guarded;
use super::support::scene::Scene;
use super::support::{announce, wait_for, workspace};

/// Both processes.
pub struct Replica {
    clamd: Child,
    consumer: Option<Child>,
    dir: PathBuf,
}

/// The Python that has a Kafka client; `None`, which is said, if it or clamd is not there.
pub fn python() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .unwrap_or_default();
    let python = home.join(".cache/scanner-memory/bin/python");
    let starts =
        |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    if !starts(Command::new(&python).args(["-c", "import kafka"])) {
        announce!(
            "left out: clamd and Python, for there is no Python with a Kafka client (tests/setup memory)"
        );
        return None;
    }
    if !starts(Command::new("clamd").arg("--version")) {
        announce!("left out: clamd and Python, for there is no clamd (tests/setup memory)");
        return None;
    }
    Some(python)
}

impl Replica {
    /// Starts clamd with Debian's settings, but for places.
    pub fn start(database: &Path, dir: &Path) -> Replica {
        let place = |name: &str| dir.join(name).display().to_string();
        let settings = format!(
            "Foreground yes\nLocalSocket {}\nDatabaseDirectory {}\nTemporaryDirectory {}\nLogFile {}\nSelfCheck 0\n",
            place("clamd.sock"),
            database.display(),
            place("tmp"),
            place("clamd.log")
        );
        fs::create_dir(dir.join("tmp")).unwrap();
        fs::write(dir.join("clamd.conf"), settings).unwrap();
        let mut command = Command::new("clamd");
        command.arg("--config-file").arg(dir.join("clamd.conf"));
        let clamd = guarded(&mut command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Replica {
            clamd,
            consumer: None,
            dir: dir.to_owned(),
        }
    }

    /// Starts the consumer.
    pub fn consume(&mut self, python: &Path, scene: &Scene<'_>) {
        let mut command = Command::new(python);
        command
            .arg(workspace().join("scanner-bin/tests/footprint/consumer.py"))
            .args([
                scene.broker.bootstrap(),
                &scene.group,
                &scene.input,
                &scene.output,
            ])
            .arg(self.dir.join("clamd.sock"));
        let consumer = guarded(&mut command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        self.consumer = Some(consumer.unwrap());
    }

    pub fn pids(&self) -> Vec<u32> {
        let consumer = self.consumer.as_ref().map(Child::id);
        [Some(self.clamd.id()), consumer]
            .into_iter()
            .flatten()
            .collect()
    }

    /// clamd's answer to a command; `None` while it does not listen.
    pub fn ask(&self, command: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.dir.join("clamd.sock")).ok()?;
        stream.write_all(format!("z{command}\0").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.trim_end_matches('\0').to_owned())
    }

    pub fn wait_until_ready(&mut self, patience: Duration) {
        wait_for("clamd", patience, || {
            assert_eq!(
                self.clamd.try_wait().unwrap(),
                None,
                "clamd ended: {}",
                self.log()
            );
            (self.ask("PING")? == "PONG").then_some(())
        });
    }

    /// What clamd has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("clamd.log")).unwrap_or_default()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        for child in [Some(&mut self.clamd), self.consumer.as_mut()]
            .into_iter()
            .flatten()
        {
            let _ended = child.kill();
            let _status = child.wait();
        }
    }
}
