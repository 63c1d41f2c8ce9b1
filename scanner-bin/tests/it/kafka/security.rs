//! TLS and SASL on a real Apache Kafka that demands both, and a certificate of the client too.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use support::broker::Broker;
use support::process::{Launch, Scanner};
use support::scene::{Scene, assert_answered_once, load};
use support::wait_for;

const PATIENCE: Duration = Duration::from_secs(90);

fn broker() -> Option<&'static Broker> {
    static BROKER: OnceLock<Option<Broker>> = OnceLock::new();
    BROKER.get_or_init(Broker::start_secure).as_ref()
}

/// The settings of `[kafka.tls]` and `[kafka.sasl]`, as variables.
fn settings(tls: &Path, mechanism: &str) -> Vec<(&'static str, String)> {
    let file = |name: &str| tls.join(name).to_str().unwrap().to_owned();
    vec![
        ("SCANNER_KAFKA__TLS__ENABLED", "true".to_owned()),
        ("SCANNER_KAFKA__TLS__CA_FILE", file("ca.pem")),
        ("SCANNER_KAFKA__TLS__CERTIFICATE_FILE", file("client.pem")),
        ("SCANNER_KAFKA__TLS__KEY_FILE", file("client.key")),
        (
            "SCANNER_KAFKA__TLS__KEY_PASSWORD_FILE",
            file("key-password"),
        ),
        ("SCANNER_KAFKA__SASL__MECHANISM", mechanism.to_owned()),
        ("SCANNER_KAFKA__SASL__USERNAME", "scanner".to_owned()),
        ("SCANNER_KAFKA__SASL__PASSWORD_FILE", file("password")),
    ]
}

fn password(tls: &Path) -> String {
    fs::read_to_string(tls.join("password"))
        .unwrap()
        .trim()
        .to_owned()
}

/// A replica that connects to the secure listener.
fn launch(scene: &Scene<'_>, mechanism: &str) -> Launch {
    let (bootstrap, tls) = scene.broker.secure();
    let launch = scene.replica_at(&bootstrap, "scanner-0");
    let set = |launch: Launch, (name, value): (&str, String)| launch.env(name, value);
    settings(&tls, mechanism).into_iter().fold(launch, set)
}

/// `config check` of the same, with some settings replaced or, by nothing, left out: status and output.
fn check(scene: &Scene<'_>, mechanism: &str, instead: &[(&str, &str)]) -> (i32, String) {
    let (bootstrap, tls) = scene.broker.secure();
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanner-bin"));
    command.args(["config", "check", "--listen", "127.0.0.1:0"]);
    command.args(["--brokers", &bootstrap, "--input-topic", &scene.input]);
    command.args(["--output-topic", &scene.output]);
    command.args(["--dead-letter-topic", &scene.dead_letters]);
    command.envs(settings(&tls, mechanism));
    for (name, value) in instead {
        match *value {
            "" => command.env_remove(name),
            value => command.env(name, value),
        };
    }
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

/// Proves: over TLS with a certificate of its own and SCRAM, records are read and answered, and no secret is in the log.
#[test]
fn records_are_answered_over_tls_with_a_client_certificate_and_scram() {
    let Some(broker) = broker() else { return };
    let scene = Scene::new(broker, "tls", 2);
    scene.produce(load(200, 2));
    let mut scanner = launch(&scene, "scram-sha-512")
        .env("SCANNER_LOG", "debug")
        .start();
    scanner.wait_until_ready(PATIENCE);
    let answers = scene.wait_until_answered(PATIENCE);
    scanner.terminate();
    assert_eq!(
        scanner.wait(PATIENCE).code(),
        Some(0),
        "{}",
        scanner.output()
    );
    assert_answered_once(&answers, &scene.places());
    let (_, tls) = broker.secure();
    for name in ["password", "key-password"] {
        let secret = fs::read_to_string(tls.join(name)).unwrap();
        assert!(
            !scanner.output().contains(secret.trim()),
            "the {name} is in the log"
        );
    }
}

/// Proves: a wrong password is named as the cause in the log and by `/readyz`, the process lives on, and the password is not shown.
#[test]
fn a_wrong_password_is_named_in_the_log_and_by_readyz() {
    let Some(broker) = broker() else { return };
    let scene = Scene::new(broker, "wrong", 1);
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "not-the-password").unwrap();
    let mut scanner = launch(&scene, "scram-sha-256")
        .env("SCANNER_KAFKA__SASL__PASSWORD_FILE", secret.path())
        .start();
    let is_named = |text: &str| text.contains("authentication") && text.contains("credentials");
    let said = scanner.wait_for_line(PATIENCE, |line| {
        line.contains("Not ready") && is_named(line)
    });
    assert!(
        said.contains("localhost"),
        "which broker is not said: {said}"
    );
    let body = wait_for("a reason from /readyz", PATIENCE, || {
        let (status, body) = scanner.get("/readyz")?;
        assert_eq!(status, 503, "{body}");
        is_named(&body).then_some(body)
    });
    assert!(body.contains("input_topic"), "{body}");
    assert_eq!(scanner.get("/livez").unwrap().0, 200);
    assert!(scanner.try_wait().is_none(), "{}", scanner.output());
    assert!(
        !scanner.output().contains("not-the-password"),
        "{}",
        scanner.output()
    );

    let wrong = [(
        "SCANNER_KAFKA__SASL__PASSWORD_FILE",
        secret.path().to_str().unwrap(),
    )];
    let (code, out) = check(&scene, "scram-sha-256", &wrong);
    assert_eq!(code, 1, "{out}");
    let line = out.lines().find(|line| line.starts_with("FAIL brokers"));
    assert!(line.is_some_and(is_named), "{out}");
}

/// Proves: `config check` reaches the brokers with every mechanism, a password by variable too; and it names an authority that is
/// not the broker's, and a certificate that is missing.
#[test]
fn check_tries_every_mechanism_and_names_a_certificate_that_does_not_fit() {
    let Some(broker) = broker() else { return };
    let scene = Scene::new(broker, "mechanisms", 1);
    let (_, tls) = broker.secure();
    for mechanism in ["plain", "scram-sha-256", "scram-sha-512"] {
        let (code, out) = check(&scene, mechanism, &[]);
        assert_eq!(code, 0, "{mechanism}: {out}");
    }
    let by_variable = [
        ("SCANNER_KAFKA__SASL__PASSWORD_FILE", ""),
        ("SCANNER_KAFKA__SASL__PASSWORD_VARIABLE", "PASSWORD"),
        ("PASSWORD", &password(&tls)),
    ];
    let (code, out) = check(&scene, "plain", &by_variable);
    assert_eq!(code, 0, "{out}");

    let client = tls.join("client.pem");
    let other = [("SCANNER_KAFKA__TLS__CA_FILE", client.to_str().unwrap())];
    let (code, out) = check(&scene, "plain", &other);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("certificate"), "{out}");
}

/// Proves: where librdkafka repeats a secret in what it reports (of a configuration for OAuth that it cannot parse, the rest), neither the
/// log nor the probes show it.
#[test]
fn no_report_of_librdkafka_shows_a_secret() {
    let property = |name: &str| format!("SCANNER_KAFKA__PROPERTIES__{name}");
    let scanner = Scanner::launch("127.0.0.1:1")
        .env(&property("SECURITY_PROTOCOL"), "sasl_plaintext")
        .env(&property("SASL_MECHANISM"), "OAUTHBEARER")
        .env(&property("ENABLE_SASL_OAUTHBEARER_UNSECURE_JWT"), "true")
        .env(
            &property("SASL_OAUTHBEARER_CONFIG"),
            "principal=admin word=swordfish",
        )
        .env("SCANNER_LOG", "debug")
        .start();
    let line = scanner.wait_for_line(PATIENCE, |line| line.contains("beginning at"));
    assert!(line.contains("********"), "{line}");
    scanner.wait_for_line(PATIENCE, |line| line.contains("Not ready"));
    let (_, body) = wait_for("an answer of /readyz", PATIENCE, || scanner.get("/readyz"));
    for text in [scanner.output(), body] {
        assert!(!text.contains("swordfish"), "{text}");
    }
}
