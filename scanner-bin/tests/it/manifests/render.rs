//! What `deploy/kustomize` makes: the objects of an overlay, or of a kustomization of an operator's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::support::{announce, in_ci, workspace};

/// The overlays that there are.
pub(crate) const OVERLAYS: [&str; 5] = [
    "autoscaled",
    "autoscaled-hpa",
    "single",
    "statefulset",
    "three",
];

/// What kustomize made of one overlay.
#[derive(Clone, Debug)]
pub(crate) struct Objects(pub(crate) Vec<Value>);

impl Objects {
    pub(crate) fn of(&self, kind: &str) -> Vec<&Value> {
        let objects = self.0.iter();
        objects.filter(|object| object["kind"] == kind).collect()
    }

    /// The only object of a kind.
    pub(crate) fn the(&self, kind: &str) -> &Value {
        match self.of(kind)[..] {
            [object] => object,
            ref others => panic!("{} objects of the kind {kind}", others.len()),
        }
    }

    pub(crate) fn the_mut(&mut self, kind: &str) -> &mut Value {
        let found = self.0.iter_mut().find(|object| object["kind"] == kind);
        found.unwrap_or_else(|| panic!("there is no {kind}"))
    }

    /// What runs pods.
    pub(crate) fn workload(&self) -> &Value {
        let kind = match self.of("StatefulSet")[..] {
            [] => "Deployment",
            _ => "StatefulSet",
        };
        self.the(kind)
    }

    pub(crate) fn pod(&self) -> &Value {
        &self.workload()["spec"]["template"]["spec"]
    }

    pub(crate) fn container(&self) -> &Value {
        &self.pod()["containers"][0]
    }

    /// Values of settings that stand in the ConfigMap.
    pub(crate) fn setting(&self, name: &str) -> &str {
        self.the("ConfigMap")["data"][name]
            .as_str()
            .unwrap_or_default()
    }
}

/// The directory that `tests/manifests/fetch` prints; `None` means that the test must be left out, which has been announced.
pub(crate) fn tools(what: &str) -> Option<PathBuf> {
    let fetch = workspace().join("tests/manifests/fetch");
    let output = Command::new(fetch).arg(what).output().unwrap();
    if output.status.success() {
        let path = String::from_utf8(output.stdout).unwrap();
        return Some(PathBuf::from(path.trim_end()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = said.lines().last().unwrap_or_default();
    assert!(!in_ci(), "CI must check manifests whole: {reason}");
    announce!("left out: checking manifests ({what}); {reason}");
    None
}

/// The same for a test that needs what can be had without Go.
pub(crate) fn basics() -> Option<PathBuf> {
    tools("basics")
}

fn kustomize(tools: &Path, dir: &Path) -> Result<Objects, String> {
    let mut command = Command::new(tools.join("kubectl"));
    let output = command.arg("kustomize").arg(dir).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // What it merely warns of is an error for the next version.
    if !output.status.success() || !said.is_empty() {
        return Err(said);
    }
    let text = String::from_utf8(output.stdout).unwrap();
    Ok(Objects(serde_saphyr::from_multiple(&text).unwrap()))
}

pub(crate) fn overlay(tools: &Path, name: &str) -> Objects {
    let dir = workspace().join("deploy/kustomize/overlays").join(name);
    kustomize(tools, &dir).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A kustomization of an operator's own, who has `deploy/kustomize` in the directory `scanner`.
pub(crate) fn own(tools: &Path, kustomization: &str) -> Objects {
    let dir = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .arg("-r")
        .arg(workspace().join("deploy/kustomize"))
        .arg(dir.path().join("scanner"))
        .status();
    assert!(copied.unwrap().success());
    fs::write(dir.path().join("kustomization.yaml"), kustomization).unwrap();
    kustomize(tools, dir.path()).unwrap_or_else(|error| panic!("{error}\n{kustomization}"))
}

/// An overlay with components.
pub(crate) fn with(tools: &Path, overlay: &str, components: &[&str]) -> Objects {
    let list: String = components
        .iter()
        .map(|name| format!("  - scanner/components/{name}\n"))
        .collect();
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - scanner/overlays/{overlay}\ncomponents:\n{list}"
    );
    own(tools, &text)
}

/// The first YAML block of docs/operate.md that is a kustomization: what an operator is told to start from.
pub(crate) fn documented() -> String {
    let text = fs::read_to_string(workspace().join("docs/operate.md")).unwrap();
    let blocks = text
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let mut kustomizations = blocks.filter(|block| block.contains("kind: Kustomization"));
    kustomizations
        .next()
        .expect("docs/operate.md shows no kustomization")
        .to_owned()
}

/// Everything that is held to the rules: each overlay, the documented one, and each component somewhere.
pub(crate) fn everything(tools: &Path) -> &'static [(String, Objects)] {
    static EVERYTHING: OnceLock<Vec<(String, Objects)>> = OnceLock::new();
    EVERYTHING.get_or_init(|| render_everything(tools))
}

fn render_everything(tools: &Path) -> Vec<(String, Objects)> {
    let mut all: Vec<(String, Objects)> = OVERLAYS
        .iter()
        .map(|name| ((*name).to_owned(), overlay(tools, name)))
        .collect();
    all.push(("docs/operate.md".to_owned(), own(tools, &documented())));
    for (overlay, components) in [
        ("single", &["signatures-in-image"][..]),
        (
            "statefulset",
            &[
                "signatures-in-image",
                "tls",
                "tls-client",
                "sasl",
                "pod-monitor",
            ],
        ),
        ("autoscaled", &["tls", "sasl", "keda-secured"]),
        ("autoscaled-hpa", &["tls", "pod-monitor"]),
    ] {
        let name = format!("{overlay} with {}", components.join(", "));
        all.push((name, with(tools, overlay, components)));
    }
    all
}
