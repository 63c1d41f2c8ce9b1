//! A broker, topics, signatures, and the overlay with what an operator fills in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::{Cluster, NAMESPACE, Pod};
use crate::report::State;
use crate::support::broker::Broker;
use crate::support::scene::{LARGE, Scene};
use crate::support::{announce, corpus, data, wait_for, workspace};

pub const PARTITIONS: i32 = 3;
/// How long the cluster and the group may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// Share of a core that each pod may use: so little that three pods, the broker and the load fit on two cores.
pub const LIMIT: &str = "200m";

pub struct Stage {
    pub cluster: Cluster,
    pub broker: Broker,
    /// With a kustomization that builds on the overlay.
    overlay: PathBuf,
}

/// The isolation mode: that of the manifests, unless `TEST_ISOLATION` overrides it.
pub fn isolation() -> String {
    std::env::var("TEST_ISOLATION").unwrap_or_else(|_| "process".to_owned())
}

impl Stage {
    pub fn set() -> Self {
        let variable = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make k8s-demo`"))
        };
        let cluster = Cluster::of(&PathBuf::from(variable("KUBELET_DIR")));
        let broker = Broker::start_on(variable("KUBE_NODE_IP").parse().unwrap());
        announce!(
            "broker: Apache Kafka {} on {}",
            broker.version(),
            broker.bootstrap()
        );
        broker.create_topic("syslog-raw", PARTITIONS, &[LARGE]);
        // The broker stamps results when it has them.
        let stamped = ("message.timestamp.type", "LogAppendTime");
        broker.create_topic("scan-results", PARTITIONS, &[LARGE, stamped]);
        broker.create_topic("scan-results-dlq", 1, &[LARGE]);

        let out = workspace().join("target/demonstration");
        fs::remove_dir_all(&out).ok();
        let (overlay, signatures) = (out.join("overlay"), out.join("signatures"));
        fs::create_dir_all(&overlay).unwrap();
        fs::create_dir_all(&signatures).unwrap();
        if let Some(ours) = data("sigs/official-main-part1.ldb.zst") {
            corpus::official(ours.parent().unwrap(), &signatures);
        }
        // Read by a user who is nobody here.
        for file in fs::read_dir(&signatures).unwrap() {
            fs::set_permissions(file.unwrap().path(), PermissionsExt::from_mode(0o644)).unwrap();
        }
        let kustomization = include_str!("kustomization.yaml")
            .replace("BOOTSTRAP", broker.bootstrap())
            .replace("ISOLATION_MODE", &isolation())
            .replace("LIMIT", LIMIT);
        let volume =
            include_str!("volume.yaml").replace("SIGNATURES", signatures.to_str().unwrap());
        fs::write(overlay.join("kustomization.yaml"), kustomization).unwrap();
        fs::write(overlay.join("volume.yaml"), volume).unwrap();
        Self {
            cluster,
            broker,
            overlay,
        }
    }

    pub fn scene(&self) -> Scene<'_> {
        let mut scene = Scene::without_topics(&self.broker, "demonstration");
        scene.input = "syslog-raw".into();
        scene.output = "scan-results".into();
        scene.dead_letters = "scan-results-dlq".into();
        scene.group = "syslog-scanner-group".into();
        scene
    }

    /// `kubectl apply` of everything.
    pub fn apply(&self) {
        self.cluster.kubectl(&["create", "namespace", NAMESPACE]);
        // The strictest of Kubernetes' standards for pods is enforced, not only warned of.
        let label = "pod-security.kubernetes.io/enforce=restricted";
        self.cluster
            .kubectl(&["label", "namespace", NAMESPACE, label]);
        let overlay = self.overlay.to_str().unwrap();
        self.cluster
            .kubectl(&["apply", "--validate=strict", "--kustomize", overlay]);
    }

    /// Wait until there are that many pods, all ready, and the partitions are shared between them evenly. Returns them with what each has.
    pub fn settled(&self, pods: usize) -> Vec<(Pod, BTreeSet<i32>)> {
        let what = format!("{pods} ready pods that share {PARTITIONS} partitions evenly");
        wait_for(&what, PATIENCE, || {
            let here = self.cluster.pods();
            let is_so =
                here.len() == pods && here.iter().all(|pod| pod.is_ready && !pod.is_leaving);
            if !is_so {
                return None;
            }
            let owned: Option<Vec<_>> = here
                .into_iter()
                .map(|pod| pod.scrape().map(|scrape| (pod, scrape.owned())))
                .collect();
            let owned = owned?;
            let each = PARTITIONS as usize / pods;
            let all: BTreeSet<_> = owned
                .iter()
                .flat_map(|(_, partitions)| partitions)
                .collect();
            let is_even = owned.iter().all(|(_, partitions)| partitions.len() == each);
            (is_even && all.len() == PARTITIONS as usize).then_some(owned)
        })
    }

    /// The same, told.
    pub fn state(&self, settled: &[(Pod, BTreeSet<i32>)]) -> State {
        State {
            table: self.cluster.table(),
            owned: settled
                .iter()
                .map(|(pod, owned)| (pod.name.clone(), owned.iter().copied().collect()))
                .collect(),
        }
    }

    /// How often the containers have been started again, by pod.
    pub fn restarts(&self) -> BTreeMap<String, u64> {
        let pods = self.cluster.pods();
        pods.into_iter()
            .map(|pod| (pod.name, pod.restarts))
            .collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let pods = self
                .cluster
                .try_kubectl(&["get", "pods,events,pvc", "--output=wide"], "");
            announce!("{}", String::from_utf8_lossy(&pods.stdout));
            for pod in self.cluster.pods() {
                let log = self.cluster.log(&pod);
                let lines: Vec<_> = log.lines().collect();
                let last = &lines[lines.len().saturating_sub(15)..];
                announce!("{} wrote:\n{}", pod.name, last.join("\n"));
            }
        }
    }
}
