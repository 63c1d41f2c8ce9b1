//! The pod of the overlays is that of deploy/pod.yaml, which is measured and run under a kubelet.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::render::{OVERLAYS, Objects, basics, overlay};
use crate::support::workspace;

fn alone() -> Value {
    let text = fs::read_to_string(workspace().join("deploy/pod.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// What differs between the pod of an overlay and the one that stands alone.
fn differences(objects: &Objects, alone: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut same = |what: &str, one: &Value, other: &Value| {
        if one != other {
            found.push(format!("{what}: {one} and {other}"));
        }
    };
    let (pod, spec) = (objects.pod(), &alone["spec"]);
    for field in [
        "securityContext",
        "terminationGracePeriodSeconds",
        "automountServiceAccountToken",
        "enableServiceLinks",
        "initContainers",
    ] {
        same(field, &pod[field], &spec[field]);
    }
    let (container, other) = (objects.container(), &spec["containers"][0]);
    for field in [
        "name",
        "image",
        "imagePullPolicy",
        "args",
        "command",
        "securityContext",
        "startupProbe",
        "livenessProbe",
        "readinessProbe",
    ] {
        same(field, &container[field], &other[field]);
    }
    for (which, what) in [
        ("requests", "cpu"),
        ("requests", "memory"),
        ("limits", "cpu"),
        ("limits", "memory"),
        ("requests", "ephemeral-storage"),
        ("limits", "ephemeral-storage"),
    ] {
        let of = |container: &Value| container["resources"][which][what].clone();
        same(&format!("{which}.{what}"), &of(container), &of(other));
    }
    let volume = |spec: &Value, name: &str| {
        let mut volumes = spec["volumes"].as_array().unwrap().iter();
        volumes
            .find(|volume| volume["name"] == name)
            .cloned()
            .unwrap_or_default()
    };
    for name in ["tmp", "state"] {
        same(name, &volume(pod, name), &volume(spec, name));
    }
    // Whoever sets one there gets it here: all but where brokers are, which is the operator's.
    let settings: BTreeMap<&str, &Value> = other["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| (variable["name"].as_str().unwrap(), &variable["value"]))
        .filter(|(name, _)| *name != "SCANNER_KAFKA__BROKERS")
        .collect();
    let ours = &objects.the("ConfigMap")["data"];
    for (name, value) in settings {
        same(name, &ours[name], value);
    }
    found
}

#[test]
fn the_pod_is_the_one_that_was_measured() {
    let Some(basics) = basics() else { return };
    for name in OVERLAYS {
        assert_eq!(
            differences(&overlay(&basics, name), &alone()),
            [""; 0],
            "{name}"
        );
    }
}

#[test]
fn a_pod_that_is_another_is_found() {
    let Some(basics) = basics() else { return };
    let objects = overlay(&basics, "three");
    for (path, value) in [
        ("/spec/terminationGracePeriodSeconds", Value::from(30)),
        ("/spec/securityContext/fsGroup", 1.into()),
        (
            "/spec/containers/0/livenessProbe/failureThreshold",
            1.into(),
        ),
        ("/spec/containers/0/resources/limits/memory", "1Gi".into()),
        (
            "/spec/containers/0/image",
            "localhost/scanner-bin:0.2.0".into(),
        ),
        ("/spec/containers/0/env/1/value", "/elsewhere".into()),
        ("/spec/volumes/0/emptyDir/sizeLimit", "1Mi".into()),
        ("/spec/volumes/1/emptyDir/sizeLimit", "1Mi".into()),
    ] {
        let mut other = alone();
        *other.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        assert_eq!(differences(&objects, &other).len(), 1, "{path}");
    }
}
