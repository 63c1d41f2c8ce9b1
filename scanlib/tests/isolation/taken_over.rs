//! A scanning process runs code of an attacker's choice.

use std::fs::{self, File, OpenOptions};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use scanlib::{Engine, Incomplete, Isolation, Payload, Request};

use crate::processes::named;
use crate::support::memory_dir;
use crate::{SECRET_VARIABLE, builder, engine, is_clean, role, run, scan, secret};

/// What keeps a probe from succeeding, where the kernel has it.
#[derive(Clone, Copy, PartialEq)]
enum By {
    /// Without it a file can be opened.
    Landlock,
    Seccomp,
    /// This crate, whatever the kernel.
    Us,
}
use By::{Landlock, Seccomp, Us};

/// Whether a probe succeeds in a process that nothing confines.
#[derive(Clone, Copy, PartialEq)]
enum Unconfined {
    Succeeds,
    /// The system may refuse it to this user, or to anybody.
    May,
}
use Unconfined::{May, Succeeds};

/// What a probe is pointed at.
struct Targets {
    outside: tempfile::TempDir,
    tcp: TcpListener,
    udp: UdpSocket,
    unix: UnixListener,
    tmp_dir: String,
    parents: [i32; 2],
}

impl Targets {
    fn new(engine: &Engine) -> Targets {
        let outside = memory_dir();
        Targets {
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            unix: UnixListener::bind(outside.path().join("socket")).unwrap(),
            tmp_dir: engine.info().tmp_dir.display().to_string(),
            parents: [named("scan-spawner")[0], named("scan-template")[0]],
            outside,
        }
    }

    fn probes(&self) -> Vec<(By, Unconfined, String)> {
        let Targets {
            outside, tmp_dir, ..
        } = self;
        let outside = outside.path().display();
        let own = std::process::id();
        let [spawner, template] = self.parents;
        let tcp = self.tcp.local_addr().unwrap().port();
        let udp = self.udp.local_addr().unwrap().port();
        assert!(self.unix.local_addr().is_ok());
        let shifted: String = secret("variable")
            .bytes()
            .map(|byte| char::from(byte + 1))
            .collect();
        let held = secret("file");
        let mut probes = Vec::new();
        let mut add = |by, unconfined, list: &[String]| {
            probes.extend(list.iter().map(|probe| (by, unconfined, probe.clone())));
        };
        let list = |text: String| -> Vec<String> {
            text.lines()
                .map(|it| it.trim().to_owned())
                .filter(|it| !it.is_empty())
                .collect()
        };
        add(
            Landlock,
            Succeeds,
            &list(format!(
                "open /etc/passwd
             open {outside}/file
             open-own-memory
             open-own-environment
             open-directory /
             open-directory {outside}
             open-directory {tmp_dir}
             open /proc/{own}/status
             open /dev/null
             write {outside}/file
             write /dev/null
             create {outside}/new
             create {tmp_dir}/new
             create-unnamed {outside}
             create-unnamed {tmp_dir}
             mkdir {outside}/new
             mkdir {tmp_dir}/new
             unlink {outside}/file"
            )),
        );
        add(
            Landlock,
            May,
            &list(format!(
                "open /proc/{own}/mem
             open /proc/{own}/environ
             open /proc/{spawner}/mem
             open /proc/{template}/mem
             open /proc/{template}/environ
             open /dev/mem
             open /sys/kernel/notes"
            )),
        );
        add(
            Seccomp,
            Succeeds,
            &list(format!(
                "truncate {outside}/file
             symlink {outside}/new
             mkfifo {outside}/new
             chmod {outside}/file
             tcp-connect {tcp}
             tcp-bind
             udp-connect {udp}
             udp-bind
             unix-connect {outside}/socket
             netlink
             socketpair
             exec
             execveat
             memfd
             fork
             clone
             clone3
             thread
             traced
             read-process
             write-process
             kill {own}
             tgkill {own}
             tkill {own}
             sigqueue {own}
             own-signal {own}
             pidfd {own}
             map-code
             protect-code
             map-shared
             dumpable
             outlive-parent
             personality
             raise-limit
             chdir"
            )),
        );
        add(
            Seccomp,
            May,
            &list(format!(
                "kill {template}
             kill {spawner}
             read-process {own}
             read-process {template}
             pidfd {template}
             io-uring
             userfaultfd
             bpf
             unshare
             setns
             chroot
             mount {outside}"
            )),
        );
        add(
            Us,
            Succeeds,
            &list(format!(
                "memory-holds {shifted}
             descriptor-holds {held}"
            )),
        );
        add(Us, May, &["descriptors".to_owned()]);
        probes
    }

    /// As before the first probe.
    fn restore(&self) {
        let path = self.outside.path();
        fs::write(path.join("file"), "a file").unwrap();
        let _gone = fs::remove_file(path.join("new"));
        let _gone = fs::remove_dir(path.join("new"));
        let new = Path::new(&self.tmp_dir).join("new");
        let _gone = fs::remove_file(&new);
        let _gone = fs::remove_dir(&new);
    }
}

const SUCCEEDED: i32 = 65;
const FAILED: i32 = 66;

pub(crate) fn confined(isolation: &Isolation) {
    assert_eq!(std::env::var(SECRET_VARIABLE).unwrap(), secret("variable"));
    let engine = engine(isolation, 2);
    let confinement = engine.isolation().unwrap().confinement;
    println!("measured: confined by {confinement}");
    let targets = Targets::new(&engine);
    let mut wrong = Vec::new();
    for (by, _, probe) in targets.probes() {
        let holds = match by {
            Landlock => confinement.landlock > 0,
            Seccomp => confinement.seccomp,
            Us => true,
        };
        if !holds {
            println!("left out: {probe}: this kernel does not confine it");
            continue;
        }
        targets.restore();
        let found = scan(&engine, format!("SHIM probe {probe}").as_bytes());
        let denied = Incomplete::Crashed {
            how: format!("exit status {FAILED}"),
        };
        if found.incomplete != Some(denied) {
            wrong.push(format!("{probe}: {:?}", found.incomplete));
        }
    }
    assert!(
        wrong.is_empty(),
        "possible where it must not be: {wrong:#?}"
    );
    assert!(is_clean(&scan(&engine, b"an object after that")));

    // The same probes tell the difference.
    for (_, unconfined, probe) in targets.probes() {
        targets.restore();
        let mut command = role("probe");
        command.env("SCANLIB_TEST_PROBE", &probe);
        let (status, output) = run(command, Duration::from_secs(60));
        match (status.code(), unconfined) {
            (Some(SUCCEEDED), _) => {}
            (Some(FAILED), May) => println!("not possible here even unconfined: {probe}"),
            _ => wrong.push(format!("{probe}: {status} {output}")),
        }
    }
    assert!(
        wrong.is_empty(),
        "not possible where nothing confines: {wrong:#?}"
    );
}

/// Runs a probe where nothing confines it: does not come back.
pub(crate) fn unconfined() {
    let path = std::env::var_os("SCANLIB_TEST_SECRET_FILE").unwrap();
    let open = rustix::fs::open(path, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    let probe = std::env::var("SCANLIB_TEST_PROBE").unwrap();
    let engine = builder().compile().unwrap();
    let found = scan(&engine, format!("SHIM probe {probe}").as_bytes());
    drop(open);
    panic!("{found:?}");
}

pub(crate) fn files(isolation: &Isolation) {
    let engine = engine(isolation, 1);
    let dir = memory_dir();
    let path = dir.path().join("file");
    fs::write(&path, "a file that somebody else owns").unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let writable = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let readable = File::open(&path).unwrap();
    for file in [&readable, &writable] {
        let payload = Payload::File { file, path: &path };
        let found = engine
            .scan(payload, &Request::new().name("SHIM change"))
            .unwrap();
        let denied = Incomplete::Crashed {
            how: format!("exit status {FAILED}"),
        };
        assert_eq!(found.incomplete, Some(denied));
    }
    assert_eq!(fs::read(&path).unwrap(), b"a file that somebody else owns");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
