//! What a process may still do that has confined itself. The rights concern the thread that gives them up, so each test has its own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use scanlib::{ProcessRights, confine_process};

/// Runs `f` on a thread with these rights, if the kernel has the version of Landlock that they take.
fn confined(rights: ProcessRights, version: u32, f: impl FnOnce() + Send + 'static) {
    let confined = std::thread::spawn(move || {
        let confinement = confine_process(&rights);
        assert!(confinement.no_new_privs && confinement.not_dumpable);
        if confinement.landlock < version {
            println!("left out: this kernel has Landlock {confinement}");
            return;
        }
        f();
    });
    confined.join().unwrap();
}

fn is_denied<T>(result: std::io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

#[test]
fn a_process_reads_and_writes_below_its_directories_only() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["read", "write", "neither"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("file"), name).unwrap();
    }
    let rights = ProcessRights::new()
        .read_below([dir.path().join("read")])
        .write_below([dir.path().join("write")]);
    let path = dir.path().to_owned();
    confined(rights, 1, move || {
        let file = |name: &str| path.join(name).join("file");
        assert_eq!(fs::read(file("read")).unwrap(), b"read");
        assert!(is_denied(fs::write(file("read"), "x")));
        assert!(is_denied(fs::write(path.join("read/new"), "x")));
        fs::write(file("write"), "x").unwrap();
        fs::write(path.join("write/new"), "x").unwrap();
        assert_eq!(fs::read(file("write")).unwrap(), b"x");
        assert!(is_denied(fs::read(file("neither"))));
        assert!(is_denied(fs::read_dir(path.join("neither"))));
        assert!(is_denied(fs::remove_file(file("neither"))));
        assert!(is_denied(fs::read(Path::new("/etc/passwd"))));
    });
    assert_eq!(
        fs::read(dir.path().join("neither/file")).unwrap(),
        b"neither"
    );
}

#[test]
fn without_a_list_every_file_can_be_read_and_every_port_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    confined(ProcessRights::new(), 1, move || {
        assert!(!fs::read("/etc/passwd").unwrap().is_empty());
        assert!(is_denied(fs::write("/dev/shm/not-allowed", "x")));
        TcpStream::connect(address).unwrap();
        TcpListener::bind("127.0.0.1:0").unwrap();
    });
}

#[test]
fn a_process_connects_to_its_ports_and_listens_on_its_ports_only() {
    let wanted = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let (wanted, other) = (wanted.local_addr().unwrap(), other.local_addr().unwrap());
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let rights = ProcessRights::new()
        .connect_to_ports([wanted.port()])
        .listen_on_ports([free.port()]);
    confined(rights, 4, move || {
        for (address, denied) in [(wanted, false), (other, true)] {
            assert_eq!(is_denied(TcpStream::connect(address)), denied, "{address}");
        }
        TcpListener::bind(free).unwrap();
        assert!(is_denied(TcpListener::bind("127.0.0.1:0")));
    });
}
