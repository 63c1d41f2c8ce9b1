//! What a container uses of the processor time that it may use, as the kernel counts it: its probes are part of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A container's control group.
#[derive(Debug)]
pub struct Quota {
    group: PathBuf,
    /// Where version 1 counts time, which may be another hierarchy.
    account: Option<PathBuf>,
}

impl Quota {
    /// Of the container whose process this is.
    pub fn of(pid: u32) -> Self {
        let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let group = |wanted: &str| {
            own.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let controllers = fields.next()?;
                let has_it = controllers.split(',').any(|name| name == wanted);
                has_it.then(|| format!("/sys/fs/cgroup/{controllers}{}", fields.next().unwrap()))
            })
        };
        let two = own.lines().find_map(|line| line.strip_prefix("0::"));
        let (one, account) = (group("cpu"), group("cpuacct"));
        let two = two.map(|path| format!("/sys/fs/cgroup{path}"));
        Self {
            group: one.or(two).expect("a process in no control group").into(),
            account: account.map(PathBuf::from),
        }
    }

    fn read(&self, name: &str) -> String {
        read(&self.group.join(name))
    }

    /// How much of a core it may use; `None` if as much as there is.
    pub fn share(&self) -> Option<f64> {
        let text = if self.account.is_some() {
            format!(
                "{} {}",
                self.read("cpu.cfs_quota_us").trim(),
                self.read("cpu.cfs_period_us")
            )
        } else {
            self.read("cpu.max")
        };
        let (quota, period) = text.trim().split_once(' ').unwrap();
        let quota: f64 = quota.parse().ok().filter(|quota| *quota > 0.0)?;
        Some(quota / period.parse::<f64>().unwrap())
    }

    /// Processor time used so far.
    pub fn used(&self) -> Duration {
        if let Some(account) = &self.account {
            let usage = read(&account.join("cpuacct.usage"));
            return Duration::from_nanos(usage.trim().parse().unwrap());
        }
        let stat = self.read("cpu.stat");
        let usage = stat
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "));
        Duration::from_micros(usage.unwrap().parse().unwrap())
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
