//! Processes that tests start: none of them outlives the test program, and the real binary has a wrapper of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rustix::process::Pid;

use super::{free_ports, http, wait_for, workspace};

/// A process beside the test program that waits for its end: see `tests/kafka/guard`.
struct Guard {
    dir: PathBuf,
    /// Open for as long as this program lives.
    _pipe: ChildStdin,
}

fn guard() -> &'static Guard {
    static GUARD: OnceLock<Guard> = OnceLock::new();
    GUARD.get_or_init(|| {
        let dir = tempfile::Builder::new()
            .prefix("scanner-test-")
            .tempdir()
            .unwrap()
            .keep();
        let (_guard, pipe) = start_guard(&dir);
        Guard { dir, _pipe: pipe }
    })
}

/// Start a guard over `dir`; it acts when the pipe closes.
pub fn start_guard(dir: &Path) -> (Child, ChildStdin) {
    let mut guard = Command::new(workspace().join("tests/kafka/guard"))
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0) // a Ctrl-C is for the tests; the guard still has work to do then
        .spawn()
        .expect("tests/kafka/guard does not start; is bash there?");
    let pipe = guard.stdin.take().unwrap();
    (guard, pipe)
}

/// The directory of this test program. It goes when the program ends.
pub fn directory() -> &'static Path {
    &guard().dir
}

/// Have the guard end `command`'s process with this test program at the latest.
pub fn guarded(command: &mut Command) -> &mut Command {
    command.env("TEST_PROGRAM", directory()).process_group(0)
}

/// Send a signal (`TERM`, `STOP`, `CONT`, …). The shell does it: no `unsafe` for a test's convenience.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -s {name} {pid}")])
        .status();
    assert!(
        status.unwrap().success(),
        "cannot send SIG{name} to process {pid}"
    );
}

/// Whether the process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.starts_with(" Z"))
    })
}

/// How to start the real binary; see [`Scanner::launch`].
pub struct Launch {
    command: Command,
    address: SocketAddr,
}

impl Launch {
    /// A flag with its value.
    pub fn flag(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(name).arg(value);
        self
    }

    /// A flag without a value.
    pub fn switch(mut self, name: &str) -> Self {
        self.command.arg(name);
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Start it; returns at once.
    pub fn start(mut self) -> Scanner {
        let mut child = guarded(&mut self.command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary under test does not start");
        let stdout = Lines::follow(child.stdout.take().unwrap());
        let stderr = Lines::follow(child.stderr.take().unwrap());
        Scanner {
            child,
            exit: None,
            stdout,
            stderr,
            address: self.address,
        }
    }
}

/// `scanner-bin run` as a process. Dropped, it is killed.
pub struct Scanner {
    child: Child,
    exit: Option<ExitStatus>,
    stdout: Lines,
    stderr: Lines,
    address: SocketAddr,
}

impl Scanner {
    /// The real binary, told which brokers and which port of its own to use; everything else is for the caller to add.
    /// `SCANNER_*` of the environment does not reach it, but `TEST_ISOLATION` becomes its `scan.isolation`.
    pub fn launch(bootstrap: &str) -> Launch {
        Self::launch_program(Path::new(env!("CARGO_BIN_EXE_scanner-bin")), bootstrap)
    }

    /// The same with another build of it.
    pub fn launch_program(program: &Path, bootstrap: &str) -> Launch {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports(1)));
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SCANNER_") {
                command.env_remove(name);
            }
        }
        command.env("SCANNER_SCAN__CRASH_JOURNAL", directory().join("journal"));
        // The whole suite, once more in the other mode.
        if let Some(isolation) = std::env::var_os("TEST_ISOLATION") {
            command.env("SCANNER_SCAN__ISOLATION", isolation);
        }
        command.args([
            "run",
            "--brokers",
            bootstrap,
            "--listen",
            &address.to_string(),
        ]);
        Launch { command, address }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its probes and metrics are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// GET `path` from its operations endpoint: status and body, or `None` while nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        http::get(&format!("http://{}{path}", self.address))
    }

    /// Wait until `/readyz` says 200. Panics with what it printed if it exits or takes longer.
    pub fn wait_until_ready(&mut self, timeout: Duration) {
        let deadline = std::time::Instant::now() + timeout;
        while self.get("/readyz").is_none_or(|(status, _)| status != 200) {
            let exit = self.try_wait();
            assert!(
                exit.is_none() && std::time::Instant::now() < deadline,
                "the scanner is not ready (exit: {exit:?}, /readyz: {:?}); it printed:\n{}",
                self.get("/readyz"),
                self.output()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Wait for a line, of either stream, for which `wanted` holds.
    pub fn wait_for_line(&self, timeout: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = std::time::Instant::now() + timeout;
        loop {
            let mut lines = self.stdout().into_iter().chain(self.stderr());
            if let Some(line) = lines.find(|line| wanted(line)) {
                return line;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "no such line within {timeout:?}; the scanner printed:\n{}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    /// What it has printed on standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.so_far()
    }

    /// Both streams, for a message.
    pub fn output(&self) -> String {
        [self.stdout(), self.stderr()].concat().join("\n")
    }

    /// SIGTERM: drain and leave.
    pub fn terminate(&self) {
        signal(self.pid(), "TERM");
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.exit = Some(self.child.wait().unwrap());
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().unwrap();
        }
        self.exit
    }

    /// Wait for its end; both streams are complete then.
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let status = wait_for("the scanner's end", timeout, || self.try_wait());
        wait_for("the end of its output", Duration::from_secs(5), || {
            (self.stdout.ended() && self.stderr.ended()).then_some(())
        });
        status
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        // Already gone is fine.
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            super::announce!("process {} had printed:\n{}", self.pid(), self.output());
        }
    }
}

/// The lines of a stream, read by a thread so that the process never blocks on a full pipe.
#[derive(Clone)]
struct Lines {
    state: Arc<Mutex<(Vec<String>, bool)>>,
}

impl Lines {
    fn follow(stream: impl Read + Send + 'static) -> Self {
        let lines = Self {
            state: Arc::default(),
        };
        let state = Arc::clone(&lines.state);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                state
                    .lock()
                    .unwrap()
                    .0
                    .push(String::from_utf8_lossy(&line).into_owned());
            }
            state.lock().unwrap().1 = true;
        });
        lines
    }

    fn so_far(&self) -> Vec<String> {
        self.state.lock().unwrap().0.clone()
    }

    fn ended(&self) -> bool {
        self.state.lock().unwrap().1
    }
}

/// The processes below this one that have this name, and are no zombies.
pub fn below(main: u32, name: &str) -> Vec<Pid> {
    let found = super::footprint::family(main).into_iter();
    let found = found.filter(|(pid, process)| *pid != main && process == name);
    let pids = found.filter_map(|(pid, _)| Pid::from_raw(i32::try_from(pid).unwrap()));
    pids.collect()
}
