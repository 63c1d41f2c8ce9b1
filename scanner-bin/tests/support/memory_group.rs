//! A limit of memory for a process and those it starts, by the kernel's control groups of either version: what a container's limit is.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// What the names of our groups begin with.
const PREFIX: &str = "scanner-memory-";

/// A group. Dropped, it is removed; its processes have to be gone by then.
#[derive(Debug)]
pub struct MemoryGroup {
    dir: PathBuf,
    /// The file that counts the processes which the kernel ended, and the name of the count in it.
    kills: (&'static str, &'static str),
}

impl MemoryGroup {
    /// A group whose processes together get so much memory.
    ///
    /// # Errors
    /// Says why this machine or this user has none.
    pub fn new(name: &str, bytes: u64) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
        let mounts: Vec<Vec<&str>> = mounts
            .lines()
            .map(|line| line.split(' ').collect())
            .collect();
        let name = format!("{PREFIX}{}-{name}", std::process::id());
        let first = mounts.iter().find(|mount| {
            mount[2] == "cgroup" && mount[3].split(',').any(|option| option == "memory")
        });
        if let Some(mount) = first {
            let group = Self {
                dir: make(Path::new(mount[1]), &name)?,
                kills: ("memory.oom_control", "oom_kill "),
            };
            group.write("memory.limit_in_bytes", &bytes.to_string())?;
            return Ok(group);
        }
        let second = mounts.iter().find(|mount| mount[2] == "cgroup2");
        let root = Path::new(second.ok_or("no cgroup hierarchy is mounted")?[1]);
        write(&root.join("cgroup.subtree_control"), "+memory")?;
        let group = Self {
            dir: make(root, &name)?,
            kills: ("memory.events", "oom_kill "),
        };
        group.write("memory.max", &bytes.to_string())?;
        // Only where there is swap.
        group.write("memory.swap.max", "0").ok();
        // As kubelets have it since 1.28: all processes of a container end together.
        group.write("memory.oom.group", "1")?;
        Ok(group)
    }

    /// The file to which a process writes 0 to join.
    pub fn joined_through(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    /// Processes that the kernel ended because the limit was met.
    pub fn kills(&self) -> u64 {
        let (file, name) = self.kills;
        let text = fs::read_to_string(self.dir.join(file)).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix(name));
        count.expect("a count of kills").trim().parse().unwrap()
    }

    fn write(&self, file: &str, text: &str) -> Result<(), String> {
        write(&self.dir.join(file), text)
    }
}

fn make(parent: &Path, name: &str) -> Result<PathBuf, String> {
    let dir = parent.join(name);
    fs::create_dir(&dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
    Ok(dir)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text)
        .map_err(|error| format!("cannot write {text} to {}: {error}", path.display()))
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // The kernel needs a moment to see that a killed process is gone.
        for _ in 0..40 {
            if fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}
