//! Whom a sync asks, and whom it believes.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Place, Signed, done, signature, sync};
use crate::support::{announce, free_ports, process, wait_for};

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

/// A list as sha256sum writes it.
fn digests(place: &Place, files: &[(&str, &[u8])]) -> String {
    let lines: Vec<String> = files
        .iter()
        .map(|(name, content)| {
            let digest = hex::encode(Sha256::digest(content));
            format!("{digest}  {name}\n")
        })
        .collect();
    let path = place.dir.path().join("SHA256SUMS");
    fs::write(&path, lines.concat()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Proves: with a list of digests a file that carries no signature is taken if it is the one in the list; another one, and one that is
/// not in the list, are refused by name, what was there stays, and a corrected list is enough.
#[test]
fn a_file_without_a_signature_is_held_to_its_digest() {
    let place = Place::new();
    let (good, bad) = (
        signature("My.One", "marker-one"),
        signature("My.One", "marker-bad"),
    );
    place.mirror.put("one.ndb", good.clone());
    let list = digests(&place, &[("one.ndb", good.as_bytes())]);
    place.sync_with(&["one.ndb"], &["--sha256", &list]).ends(0);
    assert_eq!(place.read("one.ndb"), good.as_bytes());

    place.mirror.put("one.ndb", bad.clone());
    for _ in 0..2 {
        let refused = place.sync_with(&["one.ndb"], &["--sha256", &list]).ends(1);
        assert_eq!(refused.result("one.ndb"), "refused");
        refused
            .says("BAD  one.ndb: its SHA-256 is")
            .says("--sha256");
        assert_eq!(place.read("one.ndb"), good.as_bytes());
    }
    let list = digests(&place, &[("one.ndb", bad.as_bytes())]);
    place.sync_with(&["one.ndb"], &["--sha256", &list]).ends(0);
    assert_eq!(place.read("one.ndb"), bad.as_bytes());

    // What is there and unchanged is no excuse for a list that demands something else.
    let list = digests(&place, &[("one.ndb", good.as_bytes())]);
    place
        .sync_with(&["one.ndb"], &["--sha256", &list])
        .ends(1)
        .says("BAD  one.ndb: its SHA-256 is");
    place.mirror.seen("one.ndb");
    let list = digests(&place, &[("two.ndb", good.as_bytes())]);
    place
        .sync_with(&["one.ndb"], &["--sha256", &list])
        .ends(1)
        .says("BAD  one.ndb: it carries no digital signature, and its digest is not in");
    let asked = place.mirror.seen("one.ndb").len();
    assert_eq!(asked, 0, "not even asked for");
    // Without a list nothing of this is remembered against the file.
    place.sync_with(&["one.ndb"], &[]).ends(0);
}

/// Proves: a signed container needs no digest, and one that is listed is held to it.
#[test]
fn a_signed_container_is_held_to_a_digest_only_where_there_is_one() {
    let Some(signed) = Signed::new() else { return };
    let place = Place::new();
    place.mirror.put("daily.cvd", signed.old.clone());
    let list = digests(&place, &[("other.ndb", b"")]);
    place
        .sync_with(&["daily.cvd"], &["--sha256", &list])
        .ends(0);
    place.mirror.put("daily.cvd", signed.new.clone());
    let list = digests(&place, &[("daily.cvd", &signed.old)]);
    place
        .sync_with(&["daily.cvd"], &["--sha256", &list])
        .ends(1)
        .says("BAD  daily.cvd: its SHA-256 is");
    assert_eq!(place.read("daily.cvd"), signed.old);
}

#[test]
fn a_list_of_digests_that_cannot_be_used_stops_the_sync_before_it_asks() {
    let place = Place::new();
    let list = place.dir.path().join("SHA256SUMS");
    let path = list.to_str().unwrap();
    let one = "0".repeat(64);
    let two = "1".repeat(64);
    for (text, what) in [
        (None, "cannot be read"),
        (
            Some("SHA256 (one.ndb) = 00".to_owned()),
            "line 1 is not in the format",
        ),
        (
            Some(format!("\n{one}  one.ndb\n{two}  one.ndb\n")),
            "line 3 gives one.ndb another digest",
        ),
    ] {
        if let Some(text) = text {
            fs::write(&list, text).unwrap();
        }
        place
            .sync_with(&["one.ndb"], &["--sha256", path])
            .ends(2)
            .says(&format!("--sha256 {path}: "))
            .says(what);
        assert_eq!(place.mirror.count(), 0);
    }
}
