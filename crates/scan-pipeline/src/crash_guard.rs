//! Keeps a record that brings the process down from doing so for ever.
//!
//! libclamav parses hostile input in C, in this process. If a record makes it crash, the offset was
//! not committed, so the next process reads the same record, and crashes as well. Therefore each
//! worker notes the record it is about to scan in a small file that outlives the process. What
//! stands there at the next start was being scanned at the end. A record that was under way in
//! two ends in a row is not scanned again: it is answered as an error, and the original goes
//! to the dead-letter topic.
//!
//! The notes are written without `fsync`: they have to survive this process, not the machine. An
//! ordinary kill leaves notes too, which is why one end proves nothing.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Files that processes in one directory may hold, one each.
const FILES: u32 = 64;
/// Bytes of one note: partition, offset and count, as text, ended by a line feed.
const NOTE: usize = 48;
/// Suspects that are remembered from one process to the next.
const SUSPECTS: usize = 256;

/// Partition and offset of a record.
type Place = (i32, i64);

/// The notes of this process, and what those of the last one say.
#[derive(Debug)]
pub struct CrashGuard {
    file: File,
    path: PathBuf,
    /// Ends of the process in a row after which a record is suspected.
    limit: u32,
    /// How many ends in a row each record has been under way in.
    ends: BTreeMap<Place, u32>,
    /// Numbers of the notes that no worker holds.
    free: Mutex<Vec<u64>>,
}

impl CrashGuard {
    /// Takes over the first file in `dir` that no living process holds. `stream` names the cluster
    /// and the topic, in characters that a file name may have; `workers` may scan at a time. A record is suspected that was under way
    /// when the process ended `limit` times in a row.
    ///
    /// # Errors
    /// The directory cannot be made or is somebody else's, or the file cannot be written.
    pub fn open(dir: &Path, stream: &str, workers: usize, limit: u32) -> io::Result<CrashGuard> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let (file, path) = (0..FILES)
            .find_map(|number| claim(dir.join(format!("{stream}-{number}.journal"))).transpose())
            .unwrap_or_else(|| Err(io::Error::other("every journal there is in use")))?;
        let (before, now) = read(&file)?;
        let mut ends: BTreeMap<Place, u32> = now
            .into_iter()
            .map(|place| (place, before.get(&place).unwrap_or(&0) + 1))
            .collect();
        // One that is suspected is not scanned, so it cannot be under way again; it stays suspected.
        ends.extend(before.into_iter().filter(|(_, count)| *count >= limit));
        while ends.len() > SUSPECTS {
            ends.pop_first();
        }
        let first = begin(&file, &ends, workers)?;
        let free = (0..workers as u64).map(|number| first + number).collect();
        Ok(CrashGuard {
            file,
            path,
            limit,
            ends,
            free: Mutex::new(free),
        })
    }

    /// Where the notes are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For each partition the first and the last record that was being scanned when a process ended: between them records are
    /// scanned one at a time, each committed before the next. Otherwise the answers of those that share a batch with a record that crashes the
    /// process would be lost with it, again and again.
    pub fn careful(&self) -> BTreeMap<i32, RangeInclusive<i64>> {
        let mut ranges = BTreeMap::new();
        // In order of offsets within a partition.
        for (partition, offset) in self.ends.keys() {
            ranges
                .entry(*partition)
                .and_modify(|range: &mut RangeInclusive<i64>| *range = *range.start()..=*offset)
                .or_insert(*offset..=*offset);
        }
        ranges
    }

    /// Whether scanning this record is what brought the last processes down.
    pub fn is_suspect(&self, partition: i32, offset: i64) -> bool {
        self.ends
            .get(&(partition, offset))
            .is_some_and(|&count| count >= self.limit)
    }

    /// A place for the notes of one worker.
    pub fn note(&self) -> Note<'_> {
        let number = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        Note {
            guard: self,
            number,
        }
    }

    fn write(&self, number: u64, text: &str) -> io::Result<()> {
        self.file
            .write_all_at(line(text).as_bytes(), number * NOTE as u64)
    }
}

impl Drop for CrashGuard {
    fn drop(&mut self) {
        // An orderly end with nothing to remember. Should another process have opened the file just
        // now, it goes on with one that has no name, and its own end is not noted.
        if self.ends.is_empty() {
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

/// What a worker is about to scan. Dropped, it is about to scan nothing.
#[derive(Debug)]
pub struct Note<'g> {
    guard: &'g CrashGuard,
    /// `None` if more workers scan than were announced: these are not guarded.
    number: Option<u64>,
}

impl Note<'_> {
    /// The scan of this record begins.
    pub fn scanning(&self, partition: i32, offset: i64) {
        self.write(&format!("{partition} {offset}"));
    }

    /// The worker scans nothing for a while.
    pub fn clear(&self) {
        self.write("");
    }

    fn write(&self, text: &str) {
        if let Some(number) = self.number {
            // A full disk costs the guard, not the scan.
            let _unguarded = self.guard.write(number, text);
        }
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        self.clear();
        if let Some(number) = self.number {
            self.guard
                .free
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(number);
        }
    }
}

/// Opens and locks a file; `None` if a living process holds it.
fn claim(path: PathBuf) -> io::Result<Option<(File, PathBuf)>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)?;
    // In a directory for all, the name could have been taken by somebody else.
    let own = rustix::process::getuid().as_raw();
    if file.metadata()?.uid() != own {
        return Err(io::Error::other(format!(
            "{} belongs to another user",
            path.display()
        )));
    }
    match file.try_lock() {
        Ok(()) => Ok(Some((file, path))),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// What was suspected before, and what was under way at the end. Lines that make no sense are of a
/// write that the end cut short.
fn read(mut file: &File) -> io::Result<(BTreeMap<Place, u32>, Vec<Place>)> {
    let mut text = Vec::new();
    file.by_ref()
        .take((NOTE * (SUSPECTS + 4096)) as u64)
        .read_to_end(&mut text)?;
    let (mut before, mut now) = (BTreeMap::new(), Vec::new());
    for line in String::from_utf8_lossy(&text).lines() {
        let mut words = line.split_whitespace();
        let mut word = || words.next();
        let (Some(Ok(partition)), Some(Ok(offset))) =
            (word().map(str::parse), word().map(str::parse))
        else {
            continue;
        };
        match word().map(str::parse) {
            None => now.push((partition, offset)),
            Some(Ok(count)) => drop(before.insert((partition, offset), count)),
            Some(Err(_)) => {}
        }
    }
    Ok((before, now))
}

/// Begins the file anew: the suspects, then an empty note for each worker. Returns the number of the
/// first of these.
fn begin(file: &File, ends: &BTreeMap<Place, u32>, workers: usize) -> io::Result<u64> {
    let suspects = ends
        .iter()
        .map(|((partition, offset), count)| format!("{partition} {offset} {count}"));
    let notes = std::iter::repeat_n(String::new(), workers);
    let text: String = suspects.chain(notes).map(|text| line(&text)).collect();
    // In this order an end in between leaves too many notes, not too few.
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)?;
    Ok(ends.len() as u64)
}

/// A note of full length.
fn line(text: &str) -> String {
    format!("{text:<width$}\n", width = NOTE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 2;

    /// A process that scans `under_way` when it is killed; returns whether `place` was suspected.
    fn process(dir: &Path, under_way: &[Place], place: Place) -> bool {
        limited(dir, LIMIT, under_way, place)
    }

    fn limited(dir: &Path, limit: u32, under_way: &[Place], place: Place) -> bool {
        let guard = CrashGuard::open(dir, "t", 4, limit).unwrap();
        for &(partition, offset) in under_way {
            let note = guard.note();
            note.scanning(partition, offset);
            std::mem::forget(note);
        }
        let suspected = guard.is_suspect(place.0, place.1);
        // A kill runs no destructor; it does end the lock.
        guard.file.unlock().unwrap();
        std::mem::forget(guard);
        suspected
    }

    #[test]
    fn a_record_under_way_in_two_ends_in_a_row_is_suspected_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let bad = (3, 4711);
        assert!(
            !process(dir.path(), &[bad, (0, 1)], bad),
            "nothing is known"
        );
        assert!(
            !process(dir.path(), &[bad, (0, 2)], bad),
            "one end proves nothing"
        );
        assert!(process(dir.path(), &[(0, 3)], bad));
        assert!(
            process(dir.path(), &[(0, 3)], bad),
            "it is not scanned any more, and stays suspected"
        );
        assert!(process(dir.path(), &[], (0, 3)), "so is the next one");
        assert!(!process(dir.path(), &[], (0, 1)));
    }

    #[test]
    fn records_between_the_first_and_the_last_note_are_to_be_scanned_with_care() {
        let dir = tempfile::tempdir().unwrap();
        process(dir.path(), &[(3, 9), (3, 4), (0, 1)], (0, 0));
        let guard = CrashGuard::open(dir.path(), "t", 4, LIMIT).unwrap();
        let ranges: Vec<_> = guard.careful().into_iter().collect();
        assert_eq!(ranges, [(0, 1..=1), (3, 4..=9)]);
        let fresh = CrashGuard::open(dir.path(), "u", 4, LIMIT).unwrap();
        assert!(fresh.careful().is_empty());
    }

    #[test]
    fn ends_that_are_not_in_a_row_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let place = (0, 7);
        assert!(!process(dir.path(), &[place], place));
        assert!(
            !process(dir.path(), &[], place),
            "it was scanned in between"
        );
        assert!(!process(dir.path(), &[place], place));
        assert!(!process(dir.path(), &[], place));
    }

    #[test]
    fn a_scan_that_ends_leaves_no_note() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            let guard = CrashGuard::open(dir.path(), "t", 1, LIMIT).unwrap();
            guard.note().scanning(0, 1);
            assert!(!guard.is_suspect(0, 1));
        }
    }

    #[test]
    fn living_processes_have_a_file_each_and_a_dead_ones_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let first = CrashGuard::open(dir.path(), "t", 1, LIMIT).unwrap();
        let second = CrashGuard::open(dir.path(), "t", 1, LIMIT).unwrap();
        assert_ne!(first.path(), second.path());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists(), "an orderly end leaves nothing");
        assert_eq!(
            CrashGuard::open(dir.path(), "t", 1, LIMIT).unwrap().path(),
            path
        );
        let other = CrashGuard::open(dir.path(), "other", 1, LIMIT).unwrap();
        assert_ne!(
            other.path(),
            path,
            "offsets of another topic are other records"
        );
    }

    #[test]
    fn a_file_of_nonsense_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("t-0.journal"),
            b"0 x\n\xff\xfe\n9 9 9 9\n1 2",
        )
        .unwrap();
        let guard = CrashGuard::open(dir.path(), "t", 1, LIMIT).unwrap();
        assert!(!guard.is_suspect(1, 2), "one end");
        drop(guard);
        std::fs::write(dir.path().join("t-0.journal"), vec![b'1'; 1 << 20]).unwrap();
        CrashGuard::open(dir.path(), "t", 1, LIMIT).unwrap();
    }

    #[test]
    fn as_many_ends_in_a_row_as_are_said_make_a_suspect() {
        let place = (0, 7);
        for limit in 1..5 {
            let dir = tempfile::tempdir().unwrap();
            for ends in 0..limit {
                let suspected = limited(dir.path(), limit, &[place], place);
                assert!(!suspected, "after {ends} of {limit}");
            }
            assert!(limited(dir.path(), limit, &[], place), "{limit}");
        }
    }
}
