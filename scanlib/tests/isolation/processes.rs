//! The processes below this one, as the system lists them.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) name: String,
    pub(crate) parent: i32,
    /// `Z` if it has ended and nobody has taken notice.
    pub(crate) state: char,
}

impl Process {
    fn of(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (before, after) = stat.rsplit_once(") ")?;
        let mut fields = after.split(' ');
        Some(Process {
            pid,
            name: before.split_once('(')?.1.to_owned(),
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
        })
    }
}

/// All processes that descend from this one.
pub(crate) fn below(root: i32) -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: HashMap<i32, Process> = pids
        .filter_map(Process::of)
        .map(|process| (process.pid, process))
        .collect();
    let mut below: Vec<Process> = Vec::new();
    for process in all.values() {
        let mut at = process;
        while let Some(parent) = all.get(&at.parent) {
            if parent.pid == root {
                below.push(process.clone());
                break;
            }
            at = parent;
        }
    }
    below
}

/// Those of this name below this process, zombies left out.
pub(crate) fn named(name: &str) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap();
    let mut pids: Vec<i32> = below(own)
        .into_iter()
        .filter(|it| it.name == name && it.state != 'Z')
        .map(|it| it.pid)
        .collect();
    pids.sort_unstable();
    pids
}

pub(crate) fn send(pid: i32, signal: Signal) {
    // It may have ended meanwhile.
    let _gone = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// Whether a process of this number runs.
pub(crate) fn runs(pid: i32) -> bool {
    Process::of(pid).is_some_and(|it| it.state != 'Z')
}

/// Waits until something holds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < until, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Number of descriptors that a process has.
pub(crate) fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// A line of `/proc/PID/status`, in bytes.
pub(crate) fn memory(pid: i32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|it| it.strip_prefix(line)).unwrap();
    let kib = value.trim_matches(|c: char| !c.is_ascii_digit());
    kib.parse::<u64>().unwrap() << 10
}
