//! How a process is held, by what the kernel says of it: whatever the file asks for, this is what it got.

use std::fs;
use std::path::PathBuf;

/// What is in force for a process.
#[derive(Debug)]
pub struct Confinement {
    pub user: u32,
    pub capabilities: u64,
    pub no_new_privileges: bool,
    /// 2 is a filter.
    pub seccomp: u32,
    pub root_is_read_only: bool,
    /// Kind and options of what is mounted on /tmp.
    pub tmp: Option<(String, String)>,
    /// Options of what is mounted on /var/lib/clamav.
    pub database: Option<String>,
    pub has_default_route: bool,
    pub memory_limit: u64,
}

impl Confinement {
    pub fn of(pid: u32) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        let status = read("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().split_whitespace().next().unwrap().to_owned()
        };
        let mounts = read("mounts");
        let mount = |path: &str| {
            let mut found = mounts
                .lines()
                .rev()
                .map(|line| line.split(' ').collect::<Vec<_>>());
            found
                .find(|fields| fields[1] == path)
                .map(|fields| (fields[2].to_owned(), fields[3].to_owned()))
        };
        let read_only = |options: &str| options.split(',').any(|option| option == "ro");
        Self {
            user: field("Uid:").parse().unwrap(),
            capabilities: u64::from_str_radix(&field("CapEff:"), 16).unwrap()
                | u64::from_str_radix(&field("CapPrm:"), 16).unwrap()
                | u64::from_str_radix(&field("CapBnd:"), 16).unwrap(),
            no_new_privileges: field("NoNewPrivs:") == "1",
            seccomp: field("Seccomp:").parse().unwrap(),
            root_is_read_only: read_only(&mount("/").unwrap().1),
            tmp: mount("/tmp"),
            database: mount("/var/lib/clamav").map(|(_, options)| options),
            // Destination 0 of mask 0.
            has_default_route: read("net/route").lines().skip(1).any(|line| {
                let fields: Vec<_> = line.split_whitespace().collect();
                fields[1] == "00000000" && fields[7] == "00000000"
            }),
            memory_limit: memory(pid, "memory.limit_in_bytes", "memory.max"),
        }
    }
}

/// The most memory that the container has held, its /tmp included, in bytes.
pub fn peak_memory(pid: u32) -> u64 {
    memory(pid, "memory.max_usage_in_bytes", "memory.peak")
}

/// What the process itself holds, in bytes.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kibibytes.parse::<u64>().unwrap() << 10
}

/// Processor time that the container has used, in microseconds, probes that are programs included.
pub fn processor_time(pid: u32) -> u64 {
    let number = |path: PathBuf| fs::read_to_string(path).ok();
    if let Some(group) = group(pid, "cpuacct") {
        let text = number(group.join("cpuacct.usage")).unwrap();
        return text.trim().parse::<u64>().unwrap() / 1000;
    }
    let text = number(group(pid, "").unwrap().join("cpu.stat")).unwrap();
    let usage = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    usage.unwrap().parse().unwrap()
}

/// A number of the memory controller, by the name it has in either version of control groups.
fn memory(pid: u32, one: &str, two: &str) -> u64 {
    let path = match group(pid, "memory") {
        Some(group) => group.join(one),
        None => group(pid, "").unwrap().join(two),
    };
    let text = fs::read_to_string(&path).unwrap();
    text.trim().parse().unwrap_or(u64::MAX)
}

/// The process's group in the hierarchy of a controller of version 1, or with no name in that of version 2.
fn group(pid: u32, controller: &str) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let wanted = controllers.split(',').any(|found| found == controller);
        wanted.then(|| PathBuf::from("/sys/fs/cgroup").join(controller).join(path))
    })
}
