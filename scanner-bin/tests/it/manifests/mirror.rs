//! `components/mirror`: a job beside the service, which alone may write the signatures, and may reach the mirror alone.

use std::process::Command;

use serde_json::{Value, json};

use super::render::{Objects, basics, overlay, own, with};
use super::restricted;
use super::schema::{Schemas, VERSIONS};

/// Kinds and names that the component adds.
const ADDED: [&str; 2] = ["CronJob", "NetworkPolicy"];

fn added(objects: &Objects) -> Vec<&Value> {
    let is_added = |object: &&Value| object["metadata"]["name"] == "scanner-sync";
    objects.0.iter().filter(is_added).collect()
}

fn template(objects: &Objects) -> Value {
    objects.the("CronJob")["spec"]["jobTemplate"]["spec"]["template"].clone()
}

#[test]
fn the_job_that_fills_the_claim_is_what_the_schemas_and_the_pod_standard_allow() {
    let Some(basics) = basics() else { return };
    let objects = with(&basics, "three", &["mirror"]);
    for version in VERSIONS {
        let schemas = Schemas::new(&basics, version, None);
        for object in added(&objects) {
            assert_eq!(schemas.complaints(object), [""; 0], "{version}");
        }
    }
    let template = template(&objects);
    assert_eq!(restricted::complaints(&template), [""; 0]);
    assert_eq!(template["spec"]["automountServiceAccountToken"], false);
    let container = &template["spec"]["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert!(container["resources"]["limits"]["memory"].is_string());
}

#[test]
fn the_service_is_the_same_with_and_without_the_job() {
    let Some(basics) = basics() else { return };
    let objects = with(&basics, "three", &["mirror"]);
    let others = objects
        .0
        .iter()
        .filter(|object| object["metadata"]["name"] != "scanner-sync");
    let others: Vec<_> = others.cloned().collect();
    assert_eq!(others, overlay(&basics, "three").0);
    let mut kinds: Vec<_> = added(&objects)
        .iter()
        .map(|object| object["kind"].as_str().unwrap())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ADDED);
}

/// Neither the service's network policy nor its budget is for the job, nor the job's policy for the service.
#[test]
fn the_job_may_reach_its_mirror_and_names_and_nothing_else() {
    let Some(basics) = basics() else { return };
    let objects = with(&basics, "three", &["mirror"]);
    let template = template(&objects);
    let labels = &template["metadata"]["labels"];
    assert_eq!(labels, &json!({"app.kubernetes.io/name": "scanner-sync"}));
    let policies = objects.of("NetworkPolicy");
    for policy in &policies {
        let selector = &policy["spec"]["podSelector"]["matchLabels"];
        let is_own = policy["metadata"]["name"] == "scanner-sync";
        assert_eq!(selector == labels, is_own, "{policy:#}");
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    }
    let own = added(&objects)
        .into_iter()
        .find(|object| object["kind"] == "NetworkPolicy");
    let spec = &own.unwrap()["spec"];
    assert_eq!(spec["ingress"], Value::Null);
    let egress = spec["egress"].as_array().unwrap();
    let mut ports = Vec::new();
    for rule in egress {
        assert!(rule["to"].as_array().is_some_and(|to| !to.is_empty()));
        for peer in rule["to"].as_array().unwrap() {
            let names = &peer["namespaceSelector"]["matchLabels"];
            assert!(names.as_object().is_some_and(|names| !names.is_empty()));
        }
        for port in rule["ports"].as_array().unwrap() {
            ports.push((
                port["protocol"].as_str().unwrap(),
                port["port"].as_u64().unwrap(),
            ));
        }
    }
    assert_eq!(ports, [("TCP", 443), ("UDP", 53), ("TCP", 53)]);
    assert!(from(&template).starts_with("https://"), "port 443");
}

fn from(template: &Value) -> String {
    let args = template["spec"]["containers"][0]["args"]
        .as_array()
        .unwrap();
    let mut args = args.iter().map(|arg| arg.as_str().unwrap());
    let from = args.find_map(|arg| arg.strip_prefix("--from="));
    from.unwrap().to_owned()
}

/// It writes where the service reads, by the claim's name and the image of this version, also in an operator's own kustomization.
#[test]
fn the_job_writes_the_claim_that_the_service_reads() {
    let Some(basics) = basics() else { return };
    let objects = own(
        &basics,
        "apiVersion: kustomize.config.k8s.io/v1beta1\n\
         kind: Kustomization\n\
         namespace: somewhere\n\
         resources: [scanner/overlays/three]\n\
         components: [scanner/components/mirror]\n\
         images:\n  \
           - name: localhost/scanner-bin\n    \
             newName: registry.example:5000/scanner-bin\n    \
             newTag: 0.1.0\n",
    );
    let template = template(&objects);
    let (pod, service) = (&template["spec"], objects.pod());
    let container = &pod["containers"][0];
    assert_eq!(container["image"], objects.container()["image"]);
    let volume = |pod: &Value| {
        let volumes = pod["volumes"].as_array().unwrap();
        let found = volumes.iter().find(|volume| volume["name"] == "signatures");
        found.unwrap()["persistentVolumeClaim"].clone()
    };
    assert_eq!(volume(pod)["claimName"], volume(service)["claimName"]);
    assert_eq!(volume(pod)["readOnly"], Value::Null);
    assert_eq!(volume(service)["readOnly"], true);
    for object in added(&objects) {
        assert_eq!(object["metadata"]["namespace"], "somewhere");
    }
}

/// The program takes these words: it fails at the mirror, which is not there, and not before.
#[test]
fn the_words_of_the_job_are_ones_that_the_program_takes() {
    let Some(basics) = basics() else { return };
    let template = template(&with(&basics, "three", &["mirror"]));
    let dir = tempfile::tempdir().unwrap();
    let args = template["spec"]["containers"][0]["args"]
        .as_array()
        .unwrap();
    let nobody = format!(
        "--from=http://127.0.0.1:{}/clamav/",
        crate::support::free_ports(1)
    );
    let args = args.iter().map(|arg| match arg.as_str().unwrap() {
        arg if arg.starts_with("--to=") => format!("--to={}", dir.path().display()),
        arg if arg.starts_with("--from=") => nobody.clone(),
        arg => arg.to_owned(),
    });
    let output = Command::new(env!("CARGO_BIN_EXE_scanner-bin"))
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text.contains("BAD  main.cvd: "), "{text}");
}
