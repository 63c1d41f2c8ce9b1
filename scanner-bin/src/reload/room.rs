//! How much memory there is, and what an engine takes of it: whether two have room at once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::ReloadMode;

/// A second engine needs so many times what the first one took: loading takes more than what is loaded.
const MARGIN: f64 = 1.2;

/// How to put new signatures in place of those in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Load them beside those in use.
    Swap,
    /// Free those in use first; records wait meanwhile.
    Drain,
}

/// What to do. `engine` is what those in use took, in bytes; `free` what is left of the limit.
pub(crate) fn plan(mode: ReloadMode, has_way_back: bool, engine: u64, free: Option<u64>) -> Plan {
    let is_short = free.is_some_and(|free| free < second(engine));
    match mode {
        // Without a copy of those in use nothing would be left if the new ones are no good.
        _ if !has_way_back => Plan::Swap,
        ReloadMode::Swap => Plan::Swap,
        ReloadMode::Drain => Plan::Drain,
        ReloadMode::Auto if is_short => Plan::Drain,
        ReloadMode::Auto => Plan::Swap,
    }
}

/// What a second engine needs beside one that took so many bytes.
pub(crate) fn second(engine: u64) -> u64 {
    (engine as f64 * MARGIN) as u64
}

/// Bytes that this process may still take: of its control groups' limits and of the machine's memory, whichever is nearest.
pub(crate) fn free() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_groups = free_in_groups(Path::new("/sys/fs/cgroup"), &groups);
    let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of_machine = kib(&machine, "MemAvailable:").map(|kib| kib * 1024);
    of_groups.into_iter().chain(of_machine).min()
}

/// Bytes of memory that this process holds.
pub(crate) fn held() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    kib(&status, "VmRSS:").unwrap_or(0) * 1024
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The same for the control groups, of either version, that `groups` (a `/proc/PID/cgroup`) names.
fn free_in_groups(root: &Path, groups: &str) -> Option<u64> {
    let free = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let names = match controllers {
            "" => ["memory.max", "memory.current", "inactive_file "],
            _ if controllers.split(',').any(|one| one == "memory") => [
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file ",
            ],
            _ => return None,
        };
        let root = match controllers {
            "" => root.to_owned(),
            _ => root.join("memory"),
        };
        let leaf = root.join(path.trim_start_matches('/'));
        // In a container the path may be that of the host, of which only the root is there.
        let above = leaf
            .ancestors()
            .take_while(|group| group.starts_with(&root));
        above
            .filter_map(|group| free_in(group.to_owned(), names))
            .min()
    };
    groups.lines().filter_map(free).min()
}

/// What is left of the limit of one group, if it has one. Pages of files that nobody used lately are given back when need be.
fn free_in(group: PathBuf, [limit, used, inactive]: [&str; 3]) -> Option<u64> {
    let number = |name: &str| {
        fs::read_to_string(group.join(name))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let (limit, used) = (number(limit)?, number(used)?);
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let inactive = stat.lines().find_map(|line| line.strip_prefix(inactive));
    let inactive: u64 = inactive
        .and_then(|bytes| bytes.trim().parse().ok())
        .unwrap_or(0);
    // Version 1 writes "no limit" as a number that no machine has.
    (limit < 1 << 60).then(|| limit.saturating_sub(used.saturating_sub(inactive)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_engines_are_loaded_at_once_only_where_both_have_room() {
        let auto = |engine, free| plan(ReloadMode::Auto, true, engine, free);
        assert_eq!(auto(100, Some(120)), Plan::Swap);
        assert_eq!(auto(100, Some(119)), Plan::Drain);
        assert_eq!(auto(100, None), Plan::Swap, "no limit is known");
        assert_eq!(plan(ReloadMode::Drain, true, 1, Some(1000)), Plan::Drain);
        assert_eq!(plan(ReloadMode::Swap, true, 100, Some(1)), Plan::Swap);
        for mode in [ReloadMode::Auto, ReloadMode::Drain] {
            assert_eq!(
                plan(mode, false, 100, Some(1)),
                Plan::Swap,
                "there is no way back"
            );
        }
    }

    fn group(root: &Path, path: &str, files: &[(&str, &str)]) {
        fs::create_dir_all(root.join(path)).unwrap();
        for (name, text) in files {
            fs::write(root.join(path).join(name), text).unwrap();
        }
    }

    #[test]
    fn the_nearest_limit_of_all_groups_counts_without_idle_pages_of_files() {
        let dir = tempfile::tempdir().unwrap();
        let stat = "anon 5\ninactive_file 300\nactive_file 9\n";
        group(
            dir.path(),
            "pods/one",
            &[
                ("memory.max", "max\n"),
                ("memory.current", "900\n"),
                ("memory.stat", stat),
            ],
        );
        let in_one = || free_in_groups(dir.path(), "0::/pods/one\n");
        assert_eq!(in_one(), None);
        group(dir.path(), "pods/one", &[("memory.max", "1000\n")]);
        assert_eq!(in_one(), Some(400));
        group(
            dir.path(),
            "pods",
            &[("memory.max", "1100\n"), ("memory.current", "1000\n")],
        );
        assert_eq!(in_one(), Some(100));
        assert_eq!(free_in_groups(dir.path(), "0::/\n"), None);
        assert_eq!(free_in_groups(dir.path(), "nonsense\n"), None);
    }

    #[test]
    fn groups_of_the_first_version_are_read_too() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("memory.limit_in_bytes", "1000\n"),
            ("memory.usage_in_bytes", "700\n"),
            ("memory.stat", "inactive_file 1\ntotal_inactive_file 50\n"),
        ];
        group(dir.path(), "memory/docker/one", &files);
        group(
            dir.path(),
            "memory",
            &[
                ("memory.limit_in_bytes", "9223372036854771712"),
                ("memory.usage_in_bytes", "1"),
            ],
        );
        let groups = "5:cpu,cpuacct:/docker/one\n4:memory:/docker/one\n";
        assert_eq!(free_in_groups(dir.path(), groups), Some(350));
    }

    #[test]
    fn this_process_holds_memory_and_the_machine_has_some() {
        assert!(held() > 1 << 20);
        assert!(free().is_some());
    }
}
