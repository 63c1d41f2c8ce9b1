//! A quota of processor time for a process, by the kernel's control groups of either version.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the names of our groups begin with.
const PREFIX: &str = "scanner-scaling-";
/// The period over which a quota counts; Kubernetes' too.
const PERIOD: Duration = Duration::from_millis(100);

/// Where groups can be made.
#[derive(Debug, PartialEq, Eq)]
pub enum Controller {
    /// Version 1: quotas are set in one hierarchy, time is counted in another, or in the same.
    One { cpu: PathBuf, cpuacct: PathBuf },
    /// Version 2: the groups that may have children, from the root down to our own.
    Two { parents: Vec<PathBuf> },
}

impl Controller {
    /// What this machine has, or why it has none.
    pub fn find() -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
        Self::of(&read("/proc/self/mounts")?, &read("/proc/self/cgroup")?)
    }

    /// By the mounts, and by the groups that this process is in.
    pub fn of(mounts: &str, own: &str) -> Result<Self, String> {
        let mounts: Vec<_> = mounts
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ').skip(1);
                Some((fields.next()?, fields.next()?, fields.next()?))
            })
            .collect();
        let with = |controller: &str| {
            let found = mounts.iter().find(|(_, kind, options)| {
                *kind == "cgroup" && options.split(',').any(|option| option == controller)
            });
            found.map(|(path, ..)| PathBuf::from(path))
        };
        if let (Some(cpu), Some(cpuacct)) = (with("cpu"), with("cpuacct")) {
            return Ok(Self::One { cpu, cpuacct });
        }
        let root = mounts.iter().find(|(_, kind, _)| *kind == "cgroup2");
        let root = root.ok_or("no cgroup hierarchy with the cpu controller is mounted")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let mut parents = vec![PathBuf::from(root.0)];
        for part in own.unwrap_or_default().split('/').filter(|p| !p.is_empty()) {
            let next = parents[parents.len() - 1].join(part);
            parents.push(next);
        }
        Ok(Self::Two { parents })
    }

    /// A group whose processes together get this share of one core.
    pub fn group(&self, name: &str, share: f64) -> Result<Group, String> {
        let name = format!("{PREFIX}{name}");
        let quota = PERIOD.mul_f64(share).as_micros().to_string();
        let period = PERIOD.as_micros().to_string();
        match self {
            Self::One { cpu, cpuacct } => {
                let mut group = Group::new(make(cpu, &name)?, Usage::Nanoseconds);
                if cpuacct != cpu {
                    group.account = make(cpuacct, &name)?;
                }
                write(&group.dir.join("cpu.cfs_period_us"), &period)?;
                write(&group.dir.join("cpu.cfs_quota_us"), &quota)?;
                Ok(group)
            }
            Self::Two { parents } => {
                let mut reasons = Vec::new();
                for parent in parents {
                    match make_in(parent, &name) {
                        Ok(dir) => {
                            let group = Group::new(dir, Usage::Stat);
                            write(&group.dir.join("cpu.max"), &format!("{quota} {period}"))?;
                            return Ok(group);
                        }
                        Err(reason) => reasons.push(reason),
                    }
                }
                Err(reasons.join("; "))
            }
        }
    }

    /// Remove what runs that were killed have left; what is in use stays.
    pub fn sweep(&self) {
        let parents: Vec<&PathBuf> = match self {
            Self::One { cpu, cpuacct } => vec![cpu, cpuacct],
            Self::Two { parents } => parents.iter().collect(),
        };
        for entry in parents
            .into_iter()
            .filter_map(|dir| fs::read_dir(dir).ok())
            .flatten()
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                fs::remove_dir(entry.path()).ok();
            }
        }
    }
}

/// A group below one that hands the controller on to its children.
fn make_in(parent: &Path, name: &str) -> Result<PathBuf, String> {
    let control = parent.join("cgroup.subtree_control");
    let has_cpu = fs::read_to_string(&control)
        .is_ok_and(|text| text.split_whitespace().any(|word| word == "cpu"));
    if !has_cpu {
        write(&control, "+cpu")?;
    }
    make(parent, name)
}

fn make(parent: &Path, name: &str) -> Result<PathBuf, String> {
    let dir = parent.join(name);
    fs::create_dir_all(&dir)
        .map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
    Ok(dir)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text)
        .map_err(|error| format!("cannot write {text} to {}: {error}", path.display()))
}

#[derive(Clone, Copy, Debug)]
enum Usage {
    /// `cpuacct.usage`
    Nanoseconds,
    /// `usage_usec` in `cpu.stat`
    Stat,
}

/// A group. Dropped, it is removed; its processes should be gone by then.
#[derive(Debug)]
pub struct Group {
    dir: PathBuf,
    /// Where time is counted.
    account: PathBuf,
    usage: Usage,
}

impl Group {
    fn new(dir: PathBuf, usage: Usage) -> Self {
        Self {
            account: dir.clone(),
            dir,
            usage,
        }
    }

    /// Move a process with all of its threads into the group.
    pub fn add(&self, pid: u32) -> Result<(), String> {
        write(&self.dir.join("cgroup.procs"), &pid.to_string())?;
        if self.account != self.dir {
            write(&self.account.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Processor time that the group has used.
    pub fn used(&self) -> Duration {
        let read = |name: &str| fs::read_to_string(self.account.join(name)).unwrap();
        match self.usage {
            Usage::Nanoseconds => {
                Duration::from_nanos(read("cpuacct.usage").trim().parse().unwrap())
            }
            Usage::Stat => {
                let stat = read("cpu.stat");
                let usage = stat
                    .lines()
                    .find_map(|line| line.strip_prefix("usage_usec "));
                Duration::from_micros(usage.expect("cpu.stat without usage_usec").parse().unwrap())
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel needs a moment to see that a killed process is gone.
        for _ in 0..20 {
            let all =
                [&self.account, &self.dir].map(|dir| fs::remove_dir(dir).is_ok() || !dir.exists());
            if all == [true, true] {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
