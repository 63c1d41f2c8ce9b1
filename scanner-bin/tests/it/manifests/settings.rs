//! The settings in the manifests are ones that the service takes.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use super::render::{Objects, basics, everything};

/// The variables that a container would have; what comes from elsewhere is made up.
fn environment(objects: &Objects) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let data = objects.the("ConfigMap")["data"].as_object().unwrap();
    let mut all: BTreeMap<String, String> = data
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect();
    for variable in objects.container()["env"].as_array().unwrap() {
        let value = match &variable["valueFrom"] {
            Value::Null => text(&variable["value"]),
            source if !source["fieldRef"].is_null() => "scanner-0".to_owned(),
            source if !source["secretKeyRef"].is_null() => "somebody".to_owned(),
            source => panic!("a source that is not understood here: {source}"),
        };
        all.insert(text(&variable["name"]), value);
    }
    all
}

/// Asks the service about settings, which it finds with the files that Secrets would hold.
fn ask(subcommand: &str, objects: &Objects) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanner-bin"));
    command.args(["config", subcommand]).env_clear();
    for (name, value) in environment(objects) {
        let value = if value.starts_with("/etc/scanner/") {
            let path = dir.path().join(value.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "secret\n").unwrap();
            path.to_str().unwrap().to_owned()
        } else {
            value
        };
        command.env(name, value);
    }
    command.output().unwrap()
}

#[test]
fn the_service_takes_every_setting() {
    let Some(basics) = basics() else { return };
    for (name, objects) in everything(&basics) {
        let output = ask("show", objects);
        assert!(output.status.success(), "{name}: {output:?}");
    }
}

/// Here are neither brokers nor signatures, of which `config check` speaks; but of the settings it has nothing to say.
#[test]
fn config_check_has_nothing_to_say_about_the_settings() {
    let Some(basics) = basics() else { return };
    let objects = super::render::overlay(&basics, "statefulset");
    let output = ask("check", &objects);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("the configuration can be used"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[test]
fn a_setting_that_the_service_does_not_know_is_found() {
    let Some(basics) = basics() else { return };
    for (name, value, expected) in [
        (
            "SCANNER_KAFKA__BROKRES",
            "kafka:9092",
            "SCANNER_KAFKA__BROKRES",
        ),
        ("SCANNER_SCAN__THREADS", "many", "scan.threads"),
        ("SCANNER_KAFKA__SASL__USERNAME", "me", "kafka.sasl.username"),
    ] {
        let mut objects = super::render::overlay(&basics, "three");
        objects.the_mut("ConfigMap")["data"][name] = value.into();
        let output = ask("show", &objects);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}
