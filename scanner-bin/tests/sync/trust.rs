//! Whom a sync asks, and whom it believes.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{announce, free_ports, process, wait_for};
use crate::{Place, done, signature, sync};

/// Proves: nothing goes to the public network by mistake. A proxy, which would see it, sees nothing until somebody says --public.
#[test]
fn the_public_network_is_not_asked_unless_told() {
    let place = Place::new();
    let public = "http://database.clamav.net/clamav";
    place
        .mirror
        .put("one.ndb", signature("My.One", "marker-one"));
    let ask = |words: &[&str]| {
        let words = [&["--file", "one.ndb"], words].concat();
        let mut command = sync(public, &place.to(), &words);
        command.env(
            "http_proxy",
            format!("http://127.0.0.1:{}", place.mirror.port()),
        );
        command.env_remove("no_proxy").env_remove("NO_PROXY");
        done(command.output().unwrap())
    };
    ask(&[])
        .ends(2)
        .says("bans addresses that ask too often")
        .says("cvdupdate")
        .says("--public");
    assert_eq!(place.mirror.count(), 0);
    ask(&["--public"]).ends(0);
    assert_eq!(place.mirror.count(), 1, "by the proxy of the environment");
}

#[test]
fn a_password_in_a_url_is_not_taken_and_not_repeated() {
    let place = Place::new();
    let from = "http://me:secret-word@127.0.0.1/";
    let synced = done(sync(from, &place.to(), &[]).output().unwrap()).ends(2);
    assert!(!synced.error.contains("secret-word"), "{}", synced.error);
    synced.says("a name or a password in a URL");
}

/// `openssl s_server`, which sends files as they are, with their headers.
struct Tls {
    child: Child,
    port: u16,
}

impl Tls {
    fn start(dir: &Path, name: &str) -> Tls {
        let port = free_ports(1);
        let mut command = Command::new("openssl");
        command.current_dir(dir);
        command.args([
            "s_server",
            "-quiet",
            "-HTTP",
            "-accept",
            &format!("127.0.0.1:{port}"),
        ]);
        command.args([
            "-cert",
            &format!("{name}.pem"),
            "-key",
            &format!("{name}.key"),
        ]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = process::guarded(&mut command).spawn().unwrap();
        wait_for("openssl s_server", Duration::from_secs(20), || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Tls { child, port }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A certificate of its own authority, for a name.
fn certificate(dir: &Path, file: &str, name: &str) {
    let output = Command::new("openssl")
        .current_dir(dir)
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
        ])
        .args(["-addext", &format!("subjectAltName={name}")])
        .args([
            "-keyout",
            &format!("{file}.key"),
            "-out",
            &format!("{file}.pem"),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Proves: a mirror with a certificate of one's own authority is believed if that is named, and nobody else is.
#[test]
fn a_mirror_is_believed_by_its_certificate() {
    if Command::new("openssl").arg("version").output().is_err() {
        announce!("left out: what needs openssl");
        assert!(!crate::support::in_ci());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificate(dir, "mirror", "IP:127.0.0.1");
    certificate(dir, "other", "IP:127.0.0.1");
    certificate(dir, "named", "DNS:mirror.example");
    let text = signature("My.One", "marker-one");
    let length = text.len();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}");
    fs::write(dir.join("one.ndb"), answer).unwrap();

    let place = Place::new();
    let ask = |port: u16, flags: &[&str]| {
        let words = [&["--file", "one.ndb"], flags].concat();
        let from = format!("https://127.0.0.1:{port}/");
        done(sync(&from, &place.to(), &words).output().unwrap())
    };
    let authority = |name: &str| dir.join(format!("{name}.pem")).to_str().unwrap().to_owned();
    let mirror = Tls::start(dir, "mirror");
    ask(mirror.port, &[])
        .ends(2)
        .says("self-signed certificate");
    ask(mirror.port, &["--ca-file", &authority("other")])
        .ends(2)
        .says("--ca-file names the authority of a mirror that has its own");
    ask(mirror.port, &["--ca-file", "/nowhere"])
        .ends(2)
        .says("--ca-file /nowhere");
    assert!(place.visible().is_empty());
    let named = Tls::start(dir, "named");
    ask(named.port, &["--ca-file", &authority("named")]).ends(2);
    assert!(place.visible().is_empty(), "a certificate for another name");

    ask(mirror.port, &["--ca-file", &authority("mirror")]).ends(0);
    assert_eq!(place.read("one.ndb"), text.as_bytes());
}
