//! clamd as a peer: a process of its own on a Unix socket, spoken to with `INSTREAM`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long it may take to load the signatures.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running clamd, killed when dropped.
pub struct Clamd {
    child: Child,
    socket: PathBuf,
    _dir: TempDir,
}

impl Clamd {
    /// With these signatures; `None` if there is no clamd.
    pub fn start(databases: &Path, tmp: &Path, cache: bool, threads: usize) -> Option<Clamd> {
        let dir = tempfile::tempdir_in(tmp).expect("a directory");
        let socket = dir.path().join("clamd.sock");
        let config = format!(
            "LocalSocket {}\nDatabaseDirectory {}\nTemporaryDirectory {}\nDisableCache {}\nMaxThreads {threads}\n\
             Foreground yes\nIdleTimeout 60\nAlertExceedsMax yes\n",
            socket.display(),
            databases.display(),
            dir.path().display(),
            if cache { "no" } else { "yes" },
        );
        let path = dir.path().join("clamd.conf");
        std::fs::write(&path, config).expect("a configuration");
        let mut child = Command::new("clamd")
            .arg("--config-file")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(&socket).is_err() {
            if Instant::now() > deadline || child.try_wait().ok().flatten().is_some() {
                println!("left out: clamd does not come up");
                child.kill().ok();
                child.wait().ok();
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Clamd {
            child,
            socket,
            _dir: dir,
        })
    }

    /// A session: one connection for many messages.
    pub fn session(&self) -> Session {
        let stream = UnixStream::connect(&self.socket).expect("clamd answers");
        let mut session = Session {
            answers: BufReader::new(stream.try_clone().expect("a second handle")),
            stream,
        };
        session.send(b"zIDSESSION\0");
        session
    }

    /// A connection for one message.
    pub fn once(&self, message: &[u8]) -> bool {
        let stream = UnixStream::connect(&self.socket).expect("clamd answers");
        let mut session = Session {
            answers: BufReader::new(stream.try_clone().expect("a second handle")),
            stream,
        };
        session.scan(message)
    }
}

impl Drop for Clamd {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A connection to clamd.
pub struct Session {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Session {
    /// Whether something was found.
    pub fn scan(&mut self, message: &[u8]) -> bool {
        let length = u32::try_from(message.len()).expect("a message of some size");
        // One write: a client that cares for speed does not send three packets.
        let request = [b"zINSTREAM\0", &length.to_be_bytes()[..], message, &[0; 4]].concat();
        self.send(&request);
        let mut answer = Vec::new();
        self.answers.read_until(0, &mut answer).expect("an answer");
        let answer = String::from_utf8_lossy(&answer);
        let is_found = answer.contains(" FOUND");
        assert!(is_found || answer.contains("OK"), "clamd says {answer}");
        is_found
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("clamd listens");
    }
}
