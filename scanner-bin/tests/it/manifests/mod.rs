//! `deploy/kustomize` says what an operator relies on: each overlay is rendered, held to the schemas of its kinds, to the pod standard
//! "restricted" and to rules of our own; and faults are planted to see that each of these would find them. That a real API server takes
//! it, too, is for `make k8s-test`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod faults;
mod mirror;
mod pod;
mod render;
mod restricted;
mod rules;
mod schema;
mod settings;

use render::{Objects, basics, everything, overlay, tools};
use schema::{Schemas, USUAL, VERSIONS, is_custom};
use serde_json::Value;

#[test]
fn every_overlay_is_what_the_schemas_of_kubernetes_allow() {
    let Some(basics) = basics() else { return };
    for version in VERSIONS {
        let schemas = Schemas::new(&basics, version, None);
        for (name, objects) in everything(&basics) {
            for object in objects.0.iter().filter(|object| !is_custom(object)) {
                assert_eq!(schemas.complaints(object), [""; 0], "{name}, {version}");
            }
        }
    }
}

#[test]
fn custom_kinds_are_what_their_definitions_allow() {
    let Some(basics) = basics() else { return };
    let Some(crds) = tools("crds") else { return };
    let schemas = Schemas::new(&basics, USUAL, Some(&crds));
    let mut kinds = std::collections::BTreeSet::new();
    for (name, objects) in everything(&basics) {
        for object in objects.0.iter().filter(|object| is_custom(object)) {
            assert_eq!(schemas.complaints(object), [""; 0], "{name}");
            kinds.insert(object["kind"].as_str().unwrap().to_owned());
        }
    }
    let kinds: Vec<String> = kinds.into_iter().collect();
    assert_eq!(
        kinds,
        ["PodMonitor", "ScaledObject", "TriggerAuthentication"]
    );
}

#[test]
fn every_pod_keeps_to_the_restricted_standard() {
    let Some(basics) = basics() else { return };
    for (name, objects) in everything(&basics) {
        let template = &objects.workload()["spec"]["template"];
        assert_eq!(restricted::complaints(template), [""; 0], "{name}");
    }
}

#[test]
fn the_objects_of_every_overlay_go_together() {
    let Some(basics) = basics() else { return };
    for (name, objects) in everything(&basics) {
        assert_eq!(rules::complaints(objects), [""; 0], "{name}");
    }
}

#[test]
fn each_overlay_is_what_its_name_says() {
    let Some(basics) = basics() else { return };
    let kinds = |objects: &Objects| -> Vec<String> {
        let mut kinds: Vec<String> = objects
            .0
            .iter()
            .map(|object| object["kind"].as_str().unwrap().to_owned())
            .collect();
        kinds.sort();
        kinds
    };
    let common = [
        "ConfigMap",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "ServiceAccount",
    ];
    for (name, replicas, more) in [
        ("single", Value::from(1), &["Deployment"][..]),
        ("three", Value::from(3), &["Deployment"]),
        ("autoscaled", Value::Null, &["Deployment", "ScaledObject"]),
        (
            "autoscaled-hpa",
            Value::Null,
            &["Deployment", "HorizontalPodAutoscaler"],
        ),
        ("statefulset", Value::from(3), &["Service", "StatefulSet"]),
    ] {
        let objects = overlay(&basics, name);
        let mut expected = [&common[..], more].concat();
        expected.sort_unstable();
        assert_eq!(kinds(&objects), expected, "{name}");
        // Which one is the operator's choice.
        assert_eq!(
            objects.workload()["metadata"]["namespace"],
            Value::Null,
            "{name}"
        );
        assert_eq!(objects.workload()["spec"]["replicas"], replicas, "{name}");
    }
    let spec = overlay(&basics, "statefulset").workload()["spec"].clone();
    assert_eq!(spec["podManagementPolicy"], "Parallel");
}

#[test]
fn the_documented_kustomization_has_the_image_of_this_version() {
    let Some(basics) = basics() else { return };
    let objects = render::own(&basics, &render::documented());
    let image = objects.container()["image"].as_str().unwrap();
    assert!(
        image.ends_with(concat!(":", env!("CARGO_PKG_VERSION"))),
        "{image}"
    );
}

/// Replicas are replaced when a setting changes: the name of the settings says what they are.
#[test]
fn another_setting_is_another_name_of_the_settings() {
    let Some(basics) = basics() else { return };
    let name = |objects: &Objects| {
        let source = &objects.container()["envFrom"][0]["configMapRef"];
        source["name"].as_str().unwrap().to_owned()
    };
    let changed = render::own(
        &basics,
        "apiVersion: kustomize.config.k8s.io/v1beta1\n\
         kind: Kustomization\n\
         resources: [scanner/overlays/three]\n\
         configMapGenerator:\n  \
           - name: scanner-settings\n    \
             behavior: merge\n    \
             literals: [SCANNER_OPS__LOG=debug]\n",
    );
    assert_eq!(changed.setting("SCANNER_OPS__LOG"), "debug");
    assert_eq!(changed.setting("SCANNER_SCAN__TMP_DIR"), "/tmp");
    let three = overlay(&basics, "three");
    assert_ne!(name(&changed), name(&three));
    assert_eq!(name(&overlay(&basics, "single")), name(&three));
}
