//! Faults are planted, one at a time, and each must be found by the check that is there for it. The tables beside this file list them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::render::{Objects, basics, overlay, tools, with};
use super::schema::{Schemas, USUAL};
use super::{restricted, rules};

/// A line of a table.
struct Fault {
    /// An overlay, and the components with it.
    place: String,
    kind: String,
    path: String,
    value: Option<Value>,
    expected: String,
}

impl Fault {
    fn name(&self) -> String {
        let value = self.value.as_ref().map(Value::to_string);
        let value = value.unwrap_or_else(|| "nothing".to_owned());
        format!(
            "{} of the {} of {} = {value}",
            self.path, self.kind, self.place
        )
    }

    fn assert_found(&self, complaints: &[String]) {
        assert_found(complaints, &self.expected, &self.name());
    }
}

fn assert_found(complaints: &[String], expected: &str, fault: &str) {
    let found = complaints.iter().any(|one| one.contains(expected));
    assert!(found, "{fault} is not found: {complaints:?}");
}

fn table(text: &str) -> Vec<Fault> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [place, kind, path, value, expected] => Fault {
                place: place.to_owned(),
                kind: kind.to_owned(),
                path: path
                    .replace("CONTAINER", "POD/containers/0")
                    .replace("POD", "/spec/template/spec"),
                value: (value != "-").then(|| serde_json::from_str(value).unwrap()),
                expected: expected.to_owned(),
            },
            _ => panic!("five columns: {line}"),
        })
        .collect()
}

/// Sets a place in an object, or takes it out. The last part of the path may be new; `-` is one more in a list.
fn plant(object: &mut Value, path: &str, value: Option<Value>) {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent);
    match (
        parent.unwrap_or_else(|| panic!("{path} is not there")),
        value,
    ) {
        (Value::Array(list), Some(value)) if name == "-" => list.push(value),
        (Value::Array(list), Some(value)) => list[name.parse::<usize>().unwrap()] = value,
        (Value::Object(map), Some(value)) => {
            let old = map.insert(name.to_owned(), value);
            assert_ne!(old.as_ref(), map.get(name), "{path} is no fault");
        }
        (Value::Object(map), None) => assert!(map.remove(name).is_some(), "{path} was not there"),
        (other, _) => panic!("{path} is not within {other}"),
    }
}

/// Each fault, with the objects that it is in.
fn planted(basics: &Path, text: &str) -> Vec<(Fault, Objects)> {
    let mut whole: BTreeMap<String, Objects> = BTreeMap::new();
    let faults = table(text);
    assert!(!faults.is_empty());
    faults
        .into_iter()
        .map(|fault| {
            let objects = whole.entry(fault.place.clone()).or_insert_with(|| {
                let mut words = fault.place.split(' ');
                let overlay = words.next().unwrap_or_default();
                with(basics, overlay, &words.collect::<Vec<_>>())
            });
            let mut objects = objects.clone();
            plant(
                objects.the_mut(&fault.kind),
                &fault.path,
                fault.value.clone(),
            );
            (fault, objects)
        })
        .collect()
}

fn schema_faults(schemas: &Schemas, basics: &Path, text: &str) {
    for (fault, objects) in planted(basics, text) {
        fault.assert_found(&schemas.complaints(objects.the(&fault.kind)));
    }
}

#[test]
fn what_a_kind_does_not_know_is_found() {
    let Some(basics) = basics() else { return };
    let schemas = Schemas::new(&basics, USUAL, None);
    schema_faults(&schemas, &basics, include_str!("schema.tsv"));
}

#[test]
fn what_a_custom_kind_does_not_know_is_found() {
    let Some(basics) = basics() else { return };
    let Some(crds) = tools("crds") else { return };
    let schemas = Schemas::new(&basics, USUAL, Some(&crds));
    schema_faults(&schemas, &basics, include_str!("custom.tsv"));
}

#[test]
fn what_the_restricted_standard_refuses_is_found() {
    let Some(basics) = basics() else { return };
    for (fault, objects) in planted(&basics, include_str!("standard.tsv")) {
        let template = &objects.workload()["spec"]["template"];
        fault.assert_found(&restricted::complaints(template));
        // The same container beside one that is as it should be.
        let faulty = template["spec"]["containers"][0].clone();
        let whole = overlay(&basics, "three").workload()["spec"]["template"].clone();
        if faulty == whole["spec"]["containers"][0] {
            continue;
        }
        for list in ["initContainers", "ephemeralContainers"] {
            let mut template = whole.clone();
            template["spec"][list] = json!([faulty]);
            fault.assert_found(&restricted::complaints(&template));
        }
    }
}

#[test]
fn what_the_restricted_standard_allows_is_not_refused() {
    let Some(basics) = basics() else { return };
    let mut template = overlay(&basics, "three").workload()["spec"]["template"].clone();
    let sysctl = json!([{"name": "net.ipv4.tcp_syncookies", "value": "1"}]);
    for (path, value) in [
        ("/spec/hostNetwork", json!(false)),
        ("/spec/securityContext/sysctls", sysctl),
        (
            "/spec/containers/0/securityContext/capabilities/add",
            json!(["NET_BIND_SERVICE"]),
        ),
        (
            "/spec/containers/0/securityContext/seLinuxOptions",
            json!({"type": "container_t"}),
        ),
        (
            "/spec/containers/0/securityContext/procMount",
            json!("Default"),
        ),
        (
            "/spec/containers/0/securityContext/runAsNonRoot",
            json!(true),
        ),
        ("/spec/containers/0/ports/0/hostPort", json!(0)),
        ("/spec/volumes/-", json!({"name": "x", "projected": {}})),
    ] {
        plant(&mut template, path, Some(value));
        assert_eq!(restricted::complaints(&template), [""; 0], "{path}");
    }
}

#[test]
fn what_does_not_go_together_is_found() {
    let Some(basics) = basics() else { return };
    for (fault, objects) in planted(&basics, include_str!("rules.tsv")) {
        fault.assert_found(&rules::complaints(&objects));
    }
}

#[test]
fn an_object_too_many_or_too_few_is_found() {
    let Some(basics) = basics() else { return };
    let (three, by_lag) = (overlay(&basics, "three"), overlay(&basics, "autoscaled"));
    let more = |objects: &Objects, object: &Value, expected: &str| {
        let mut objects = objects.clone();
        objects.0.push(object.clone());
        assert_found(&rules::complaints(&objects), expected, expected);
    };
    let secret = json!({"kind": "Secret", "metadata": {"name": "x"}, "data": {"password": "eA=="}});
    more(&three, &secret, "Secret x");
    more(&three, three.the("ServiceAccount"), "ServiceAccount: twice");
    let by_processor = overlay(&basics, "autoscaled-hpa");
    more(
        &by_lag,
        by_processor.the("HorizontalPodAutoscaler"),
        "autoscalers: more than one",
    );
    let stateful = overlay(&basics, "statefulset");
    more(
        &stateful,
        by_lag.the("ScaledObject"),
        "leave their partitions idle",
    );

    let mut without = three;
    without.0.retain(|object| object["kind"] != "NetworkPolicy");
    assert_found(
        &rules::complaints(&without),
        "NetworkPolicy: none",
        "no policy",
    );
    without
        .0
        .retain(|object| object["kind"] != "PodDisruptionBudget");
    assert_found(
        &rules::complaints(&without),
        "PodDisruptionBudget: must",
        "no budget",
    );
}
