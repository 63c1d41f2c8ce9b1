//! What runs the pod: a real kubelet, or podman. Both are given the same file; `tests/pod` has started, or prepared, them.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use super::support::process::is_alive;
use super::support::{announce, http, kube, wait_for};

/// Something that runs pods.
pub enum Runtime {
    /// Runs what lies in a directory.
    Kubelet { dir: PathBuf, pods: String },
    /// Is told what to run.
    Podman { program: PathBuf, network: String },
}

/// The pod as its runtime sees it.
#[derive(Debug)]
pub struct Seen {
    pub address: IpAddr,
    /// The scanner's process, as this machine numbers it.
    pub pid: u32,
    pub restarts: u64,
    /// By the runtime's own probes, where it has them.
    pub ready: bool,
    /// How the container ended the last time.
    pub last_exit: Option<i64>,
}

impl Runtime {
    /// The one that the environment names, and the address on which pods reach this machine.
    pub fn of_environment() -> (Self, IpAddr) {
        let variable = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make pod-test`"))
        };
        let address = variable("KUBE_NODE_IP").parse().unwrap();
        let runtime = match variable("SCANNER_TEST_POD").as_str() {
            "kubelet" => Self::Kubelet {
                dir: variable("KUBELET_DIR").into(),
                pods: variable("KUBELET_PODS"),
            },
            "podman" => Self::Podman {
                program: variable("SCANNER_TEST_PODMAN").into(),
                network: variable("SCANNER_TEST_PODMAN_NETWORK"),
            },
            other => panic!("SCANNER_TEST_POD={other} is neither kubelet nor podman"),
        };
        (runtime, address)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Kubelet { .. } => "kubelet",
            Self::Podman { .. } => "podman",
        }
    }

    /// Have the pod run that the file at `path` describes.
    pub fn apply(&self, path: &Path) {
        match self {
            Self::Kubelet { dir, .. } => {
                fs::copy(path, dir.join("manifests/scanner.yaml")).unwrap();
            }
            Self::Podman { program, network } => {
                // In a directory of its own: podman builds an image from a folder of the image's name.
                let mut command = Command::new(program);
                command
                    .args(["play", "kube", "--network", network])
                    .arg(path);
                run(command.current_dir(path.parent().unwrap()));
            }
        }
    }

    /// The pod, once it has a running container.
    pub fn look(&self) -> Option<Seen> {
        match self {
            Self::Kubelet { dir, pods } => {
                let pod = &get_json(pods)?["items"][0];
                let status = &pod["status"];
                let container = &status["containerStatuses"][0];
                let pid =
                    kube::process_of(&dir.join("bin/ctr"), container["containerID"].as_str()?)?;
                container["state"]["running"].as_object()?;
                Some(Seen {
                    address: status["podIP"].as_str()?.parse().ok()?,
                    pid,
                    restarts: container["restartCount"].as_u64()?,
                    ready: container["ready"].as_bool()?,
                    last_exit: container["lastState"]["terminated"]["exitCode"].as_i64(),
                })
            }
            Self::Podman { program, .. } => {
                let container = inspect(program, "scanner-scanner")?;
                let pod = run(Command::new(program).args(["pod", "inspect", "scanner"]));
                let pod: Value = serde_json::from_slice(&pod.stdout).unwrap();
                let infra = inspect(program, pod["InfraContainerID"].as_str()?)?;
                let networks = infra["NetworkSettings"]["Networks"].as_object()?;
                let address = networks.values().next()?["IPAddress"].as_str()?;
                let pid = container["State"]["Pid"].as_u64()?;
                container["State"]["Running"].as_bool()?.then_some(Seen {
                    address: address.parse().ok()?,
                    pid: u32::try_from(pid).ok()?,
                    restarts: container["RestartCount"].as_u64()?,
                    // podman knows no readiness.
                    ready: true,
                    last_exit: container["State"]["ExitCode"].as_i64(),
                })
            }
        }
    }

    /// Wait until the runtime says that the pod is ready, after so many restarts. `None`: whatever their number, for a kubelet that is
    /// given a pod again goes on counting if it has not forgotten it.
    pub fn wait_until_ready(&self, restarts: Option<u64>) -> Seen {
        let what = format!("{}: a ready pod after {restarts:?} restarts", self.name());
        wait_for(&what, Duration::from_secs(180), || {
            let seen = self.look()?;
            let wanted = restarts.unwrap_or(seen.restarts);
            assert!(
                seen.restarts <= wanted,
                "more restarts than asked for: {seen:?}"
            );
            let is_ready = seen.ready && seen.restarts == wanted;
            (is_ready && get(&seen, "/readyz")?.0 == 200).then_some(seen)
        })
    }

    /// The liveness probe as podman runs it, which takes systemd for its times. Not before the pod is ready, and not often: some
    /// failures in a row end the container. A kubelet runs it by itself, and a pod that is ready has passed.
    pub fn is_live(&self) -> bool {
        let Self::Podman { program, .. } = self else {
            return true;
        };
        let container = inspect(program, "scanner-scanner").unwrap();
        let mut command = Command::new(program);
        if container["Config"]["Healthcheck"]["Test"][0] == "CMD-SHELL" {
            announce!(
                "podman: this version puts probes into a shell, and the image has none; the probe is run without"
            );
            command.args([
                "exec",
                "scanner-scanner",
                "/usr/bin/scanner-bin",
                "probe",
                "live",
            ]);
        } else {
            command.args(["healthcheck", "run", "scanner-scanner"]);
        }
        command.output().unwrap().status.success()
    }

    /// Have the runtime end the pod as it does when nobody wants it any more, and wait until it has. Returns the exit status where
    /// the runtime keeps it.
    pub fn remove(&self) -> Option<i64> {
        match self {
            Self::Kubelet { dir, .. } => {
                // It forgets the pod at once, and ends it after that.
                let running = self.look().expect("no pod to remove");
                fs::remove_file(dir.join("manifests/scanner.yaml")).unwrap();
                wait_for("the end of the pod", Duration::from_secs(120), || {
                    (!is_alive(running.pid)).then_some(())
                });
                None
            }
            Self::Podman { program, .. } => {
                // The container alone and first: podman 4 would take the pod's network from under a drain, and kill after 10 s whatever
                // the file says.
                run(Command::new(program).args(["stop", "--time", "60", "scanner-scanner"]));
                let container = inspect(program, "scanner-scanner").unwrap();
                run(Command::new(program).args(["pod", "rm", "--force", "scanner"]));
                container["State"]["ExitCode"].as_i64()
            }
        }
    }

    /// What the scanner has written, for a message.
    pub fn log(&self) -> String {
        let output = match self {
            Self::Kubelet { dir, .. } => {
                let script = format!("cat {}/podlogs/*/scanner/*.log", dir.display());
                Command::new("sh").args(["-c", &script]).output()
            }
            Self::Podman { program, .. } => Command::new(program)
                .args(["logs", "scanner-scanner"])
                .output(),
        };
        output.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    }
}

/// GET `path` from the pod: status and body, or `None` while nobody answers.
pub fn get(seen: &Seen, path: &str) -> Option<(u16, String)> {
    http::get(&format!("http://{}:9090{path}", seen.address))
}

fn get_json(url: &str) -> Option<Value> {
    serde_json::from_str(&http::get(url)?.1).ok()
}

fn inspect(program: &Path, name: &str) -> Option<Value> {
    let output = Command::new(program)
        .args(["inspect", name])
        .output()
        .unwrap();
    let list: Vec<Value> = serde_json::from_slice(&output.stdout).ok()?;
    list.into_iter().next()
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}
