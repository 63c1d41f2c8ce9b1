//! What a Kubernetes does not tell.

use std::path::Path;
use std::process::Command;

/// The first process of a running container, as this machine numbers it. `container` is what the status of a pod has,
/// `containerd://…`; `ctr` asks the runtime.
pub fn process_of(ctr: &Path, container: &str) -> Option<u32> {
    let id = container.strip_prefix("containerd://")?;
    let output = Command::new(ctr).args(["tasks", "list"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let tasks = String::from_utf8(output.stdout).unwrap();
    let task = tasks.lines().find(|line| line.starts_with(id))?;
    task.split_whitespace().nth(1)?.parse().ok()
}
