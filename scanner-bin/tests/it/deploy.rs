//! What is in `deploy` says what an operator relies on. That it runs, too, is for `make pod-test`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::{announce, in_ci, workspace};

fn pod() -> Value {
    let text = fs::read_to_string(workspace().join("deploy/pod.yaml")).unwrap();
    serde_saphyr::from_str(&text).expect("deploy/pod.yaml is not YAML")
}

/// The only container.
fn container(pod: &Value) -> &Value {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "one container, no sidecar");
    &containers[0]
}

/// Bytes of a quantity such as 128Mi.
fn bytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().expect("a quantity is text");
    let mebibytes = text.strip_suffix("Mi").expect("sizes are in Mi here");
    mebibytes.parse::<u64>().unwrap() << 20
}

fn mounted<'p>(pod: &'p Value, path: &str) -> (&'p Value, &'p Value) {
    let mounts = container(pod)["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["mountPath"] == path);
    let mount = mount.unwrap_or_else(|| panic!("nothing is mounted on {path}"));
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let volume = volumes
        .iter()
        .find(|volume| volume["name"] == mount["name"]);
    (mount, volume.expect("a mount without a volume"))
}

fn setting(pod: &Value, name: &str) -> String {
    let variables = container(pod)["env"].as_array().unwrap();
    let variable = variables.iter().find(|variable| variable["name"] == name);
    let variable = variable.unwrap_or_else(|| panic!("{name} is not set"));
    variable["value"].as_str().unwrap().to_owned()
}

/// The pod standard "restricted", and more.
#[test]
fn the_pod_may_do_nothing_but_its_work() {
    let pod = pod();
    assert_eq!(pod["kind"], "Pod");
    let spec = &pod["spec"];
    for absent in [
        "initContainers",
        "ephemeralContainers",
        "hostNetwork",
        "hostPID",
        "hostIPC",
    ] {
        assert_eq!(spec[absent], Value::Null, "{absent}");
    }
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["enableServiceLinks"], false);
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(spec["securityContext"]["runAsUser"], 65532);
    assert_eq!(
        spec["securityContext"]["seccompProfile"],
        json!({"type": "RuntimeDefault"})
    );
    assert_eq!(
        container(&pod)["securityContext"],
        json!({
            "allowPrivilegeEscalation": false,
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        })
    );
    // Without an API server there is neither of these.
    let text = pod.to_string();
    for absent in ["secretKeyRef", "configMap", "serviceAccountName"] {
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn the_pod_writes_to_memory_and_to_a_volume_of_its_own_only_and_both_are_bounded() {
    let pod = pod();
    let (_, tmp) = mounted(&pod, &setting(&pod, "SCANNER_SCAN__TMP_DIR"));
    assert_eq!(tmp["emptyDir"]["medium"], "Memory");
    let journal = setting(&pod, "SCANNER_SCAN__CRASH_JOURNAL");
    let parent = Path::new(&journal).parent().unwrap();
    let (_, state) = mounted(&pod, parent.to_str().unwrap());
    assert_ne!(state["emptyDir"]["sizeLimit"], Value::Null);
    // Each an own directory in it.
    let kept = setting(&pod, "SCANNER_SCAN__STATE_DIR");
    assert_eq!(Path::new(&kept).parent(), Some(parent));
    assert_ne!(kept, journal);
    let (mount, database) = mounted(&pod, &setting(&pod, "SCANNER_SCAN__DATABASE"));
    assert_eq!(mount["readOnly"], true);
    assert_ne!(database["hostPath"], Value::Null);
    assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 3);

    // One object that libclamav unpacks, for each thread; memory holds that besides the scanner's own.
    let threads: u64 = setting(&pod, "SCANNER_SCAN__THREADS").parse().unwrap();
    let object = scanlib::Limits::default().max_file_bytes;
    let size = bytes(&tmp["emptyDir"]["sizeLimit"]);
    assert!(
        size >= threads * object,
        "/tmp has {size} bytes for {threads} × {object}"
    );
    let resources = &container(&pod)["resources"];
    let request = bytes(&resources["requests"]["memory"]);
    assert!(bytes(&resources["limits"]["memory"]) >= request + size);
}

/// What systemd is given is what the service knows and what systemd knows.
#[test]
fn the_unit_sets_what_the_service_knows_and_leaves_it_time() {
    let path = workspace().join("deploy/systemd/scanner-bin.service");
    let unit = fs::read_to_string(&path).unwrap();
    let lines = |name: &str| -> Vec<&str> {
        let lines = unit.lines();
        lines.filter_map(|line| line.strip_prefix(name)).collect()
    };
    let settings = lines("Environment=");
    assert!(!settings.is_empty());
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanner-bin"));
    command.args(["config", "show"]);
    for setting in &settings {
        let (name, value) = setting.split_once('=').unwrap();
        command.env(name, value);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let stop: u64 = lines("TimeoutStopSec=")[0].parse().unwrap();
    assert!(
        stop > scanner_bin::config::KafkaConfig::default()
            .drain_timeout
            .as_secs()
    );

    let Ok(output) = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .output()
    else {
        announce!("left out: what systemd says to the unit, for there is no systemd-analyze");
        return;
    };
    // That the program is not installed here is no fault of the unit's.
    let said = String::from_utf8(output.stderr).unwrap();
    let faults: Vec<_> = said
        .lines()
        .filter(|line| !line.contains("/usr/bin/scanner-bin is not executable"))
        .collect();
    assert_eq!(faults, [""; 0]);
}

/// An answer that is awaited longer than the kubelet waits ends the pod in the middle of its drain.
#[test]
fn the_probes_ask_the_services_own_endpoints_and_leave_it_time() {
    let pod = pod();
    let container = container(&pod);
    let program = |question: &str| json!({"command": ["/usr/bin/scanner-bin", "probe", question]});
    assert_eq!(container["startupProbe"]["exec"], program("startup"));
    assert_eq!(container["livenessProbe"]["exec"], program("live"));
    assert_eq!(
        container["readinessProbe"]["httpGet"],
        json!({"path": "/readyz", "port": 9090})
    );
    let times = |probe: &str| {
        let number = |name: &str| container[probe][name].as_u64().unwrap();
        number("periodSeconds") * number("failureThreshold")
    };
    assert_eq!(
        ["startupProbe", "livenessProbe", "readinessProbe"].map(times),
        [600, 60, 15]
    );
    let grace = pod["spec"]["terminationGracePeriodSeconds"]
        .as_u64()
        .unwrap();
    let drain = scanner_bin::config::KafkaConfig::default().drain_timeout;
    assert!(grace >= drain.as_secs() * 2, "{grace} s for {drain:?}");
}

/// A setting of another version would be an error at the start of every replica.
#[test]
fn the_service_takes_the_pods_settings() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanner-bin"));
    command.args(["config", "show"]).env_clear();
    for variable in container(&pod())["env"].as_array().unwrap() {
        let text = |name: &str| variable[name].as_str().unwrap();
        command.env(text("name"), text("value"));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_pods_image_is_the_one_that_make_image_builds() {
    let image = container(&pod())["image"].as_str().unwrap().to_owned();
    assert_eq!(
        image,
        format!("localhost/scanner-bin:{}", env!("CARGO_PKG_VERSION"))
    );
}

/// Whoever packs the same files gets the same digest: on another day, with another umask, in another directory.
#[test]
fn the_same_files_packed_twice_are_the_same_image() {
    for tool in ["jq", "tar", "gzip"] {
        if Command::new(tool).arg("--version").output().is_err() {
            assert!(!in_ci(), "CI must pack an image, and {tool} is not there");
            announce!("left out: packing an image; {tool} is not there (make image installs it)");
            return;
        }
    }
    let pack = |umask: &str, names: [&str; 3], content: &str| {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join(format!("tree-{umask}"));
        let archive = dir.path().join("image.tar");
        let files = names
            .map(|name| format!("mkdir -p $(dirname {name}); printf '%s' '{content}' >{name}"));
        let script = format!(
            "umask {umask}; mkdir {tree}; cd {tree}; {}; ln -s usr/b link; {pack} {archive} localhost/x:1 '{{\"a\": \"b\"}}' {tree}",
            files.join("; "),
            tree = tree.display(),
            archive = archive.display(),
            pack = workspace().join("deploy/image/pack").display(),
        );
        let output = Command::new("bash")
            .args(["-euc", &script])
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        let digest = said.lines().find_map(|line| line.strip_prefix("digest: "));
        (digest.unwrap().to_owned(), fs::read(archive).unwrap())
    };
    let one = pack("022", ["usr/a", "usr/b", "etc/c"], "text");
    let other = pack("077", ["etc/c", "usr/b", "usr/a"], "text");
    assert!(one.1 == other.1, "{} and {}", one.0, other.0);
    assert_ne!(one.0, pack("022", ["usr/a", "usr/b", "etc/c"], "else").0);
}
