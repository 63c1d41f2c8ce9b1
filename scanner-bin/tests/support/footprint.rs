//! Memory that processes hold together, independent of what else runs on the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use rustix::param::page_size;

/// Bits of an entry of `/proc/PID/pagemap`: the page is in memory, and belongs to a file or to shared memory.
const PRESENT: u64 = 1 << 63;
const SHARED_OR_FILE: u64 = 1 << 61;
const ENTRY_BYTES: usize = size_of::<u64>();

/// A process, and every process below it: identifier and name. Zombies are left out.
pub fn family(root: u32) -> Vec<(u32, String)> {
    let mut children: BTreeMap<u32, Vec<(u32, String)>> = BTreeMap::new();
    let mut family = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // PID (NAME) STATE PARENT …, and a name may hold anything.
        let (head, rest) = stat.rsplit_once(')').unwrap();
        let (pid, name) = head.split_once(" (").unwrap();
        let mut rest = rest.split_whitespace();
        if rest.next() == Some("Z") {
            continue;
        }
        let process = (pid.parse().unwrap(), name.to_owned());
        if process.0 == root {
            family.push(process.clone());
        }
        let parent = rest.next().unwrap().parse().unwrap();
        children.entry(parent).or_default().push(process);
    }
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            parents.push(child.0);
            family.push(child);
        }
    }
    family
}

/// Bytes of memory that processes hold: each page once, however many of them map it, and in full, even if processes that are not among
/// them map it, too. On a machine where nothing else maps the same files this is the sum of PSS.
///
/// # Panics
/// A process is there, but must not be read: those of `scan.isolation = "process"` can be read by root only.
pub fn held(pids: impl IntoIterator<Item = u32>) -> u64 {
    let mut pages = BTreeSet::new();
    let mut anonymous = 0;
    for pid in pids {
        match of_process(pid, &mut pages) {
            Ok(bytes) => anonymous += bytes,
            // It has just ended.
            Err(error) if is_gone(&error) => {}
            Err(error) => panic!("the memory of process {pid} cannot be read: {error}"),
        }
    }
    anonymous + pages.len() as u64 * page_size() as u64
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// The part of its anonymous memory that is this process's, as PSS divides it; adds its pages of files and of shared memory: the file, and
/// the number of the page in it.
fn of_process(pid: u32, pages: &mut BTreeSet<(String, u64)>) -> io::Result<u64> {
    let page_bytes = page_size() as u64;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
    for mapping in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        // START-END PERMISSIONS OFFSET DEVICE INODE PATH
        let fields: Vec<&str> = mapping.splitn(6, ' ').collect();
        let [range, _, offset, device, inode, _] = fields[..] else {
            continue;
        };
        if inode == "0" {
            continue;
        }
        let hex = |digits: &str| u64::from_str_radix(digits, 16).unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let (start, end) = (hex(start) / page_bytes, hex(end) / page_bytes);
        let mut entries = vec![0; (end - start) as usize * ENTRY_BYTES];
        let read = pagemap.read_at(&mut entries, start * ENTRY_BYTES as u64)?;
        let file = format!("{device} {inode}");
        let first = hex(offset) / page_bytes;
        for (number, entry) in entries[..read].chunks_exact(ENTRY_BYTES).enumerate() {
            let entry = u64::from_ne_bytes(entry.try_into().unwrap());
            if entry & PRESENT != 0 && entry & SHARED_OR_FILE != 0 {
                pages.insert((file.clone(), first + number as u64));
            }
        }
    }
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss_Anon:"));
    // Empty where the process has ended meanwhile.
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    Ok(kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024)
}
