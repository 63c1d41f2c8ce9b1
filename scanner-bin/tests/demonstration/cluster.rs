//! A Kubernetes, as whoever has `kubectl` sees it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::metrics::Scrape;
use crate::support::{http, kube};

/// The namespace in which everything is.
pub const NAMESPACE: &str = "scanner";

/// The cluster that `KUBECONFIG` names.
pub struct Cluster {
    /// The runtime's own tool, for what Kubernetes does not tell: which process a container is.
    ctr: PathBuf,
}

/// A pod of the scanner.
#[derive(Debug, Clone)]
pub struct Pod {
    pub name: String,
    pub address: Option<IpAddr>,
    pub is_ready: bool,
    /// It has been asked to end.
    pub is_leaving: bool,
    pub restarts: u64,
    /// `containerd://…`, while there is a running one.
    pub container: Option<String>,
}

impl Cluster {
    /// The one that `tests/kube/run` has started in `dir`.
    pub fn of(dir: &Path) -> Self {
        Self {
            ctr: dir.join("bin/ctr"),
        }
    }

    /// What kubectl prints. A panic if it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments, "");
        assert!(output.status.success(), "kubectl {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// kubectl with something to read.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new("kubectl")
            .args(["--namespace", NAMESPACE, "--request-timeout=30s"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl cannot be started: run `make k8s-demo`");
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// The scanner's pods, by name.
    pub fn pods(&self) -> Vec<Pod> {
        let selector = "--selector=app.kubernetes.io/name=scanner-bin";
        let text = self.kubectl(&["get", "pods", selector, "--output=json"]);
        let list: Value = serde_json::from_str(&text).unwrap();
        let mut pods: Vec<_> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(Pod::of)
            .collect();
        pods.sort_by(|one, other| one.name.cmp(&other.name));
        pods
    }

    /// As `kubectl get pods` shows them: the first columns, which fit on a page.
    pub fn table(&self) -> String {
        let text = self.kubectl(&["get", "pods", "--output=wide"]);
        // Columns begin where their headings do.
        let width = text.find("NODE").unwrap_or(text.len());
        text.lines().fold(String::new(), |table, line| {
            table + line.get(..width).unwrap_or(line).trim_end() + "\n"
        })
    }

    /// What the pod has written, the container before this one included if it has restarted.
    pub fn log(&self, pod: &Pod) -> String {
        let before = self
            .try_kubectl(&["logs", &pod.name, "--previous"], "")
            .stdout;
        let now = self.try_kubectl(&["logs", &pod.name], "").stdout;
        String::from_utf8_lossy(&[before, now].concat()).into_owned()
    }

    /// The pod's process, as this machine numbers it.
    pub fn process(&self, pod: &Pod) -> Option<u32> {
        kube::process_of(&self.ctr, pod.container.as_deref()?)
    }

    /// Ask for an eviction, as `kubectl drain` does. What the API server says to it.
    pub fn evict(&self, pod: &Pod) -> Result<(), String> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}/eviction", pod.name);
        let eviction = serde_json::json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": NAMESPACE},
        });
        let output = self.try_kubectl(
            &["create", "--raw", &path, "--filename=-"],
            &eviction.to_string(),
        );
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }
}

impl Pod {
    fn of(item: &Value) -> Self {
        let status = &item["status"];
        let container = &status["containerStatuses"][0];
        let is_running = container["state"]["running"].is_object();
        Self {
            name: item["metadata"]["name"].as_str().unwrap().to_owned(),
            address: status["podIP"].as_str().and_then(|text| text.parse().ok()),
            is_ready: container["ready"].as_bool().unwrap_or_default(),
            is_leaving: item["metadata"]["deletionTimestamp"].is_string(),
            restarts: container["restartCount"].as_u64().unwrap_or_default(),
            container: container["containerID"]
                .as_str()
                .filter(|_| is_running)
                .map(str::to_owned),
        }
    }

    /// Its `/metrics`, while it answers.
    pub fn scrape(&self) -> Option<Scrape> {
        let url = format!("http://{}:9090/metrics", self.address?);
        let (status, page) = http::get(&url)?;
        (status == 200).then(|| Scrape::of(&page))
    }
}
