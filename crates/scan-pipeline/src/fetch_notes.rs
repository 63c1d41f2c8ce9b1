//! Notes from which offset each partition is fetched, until that has come to something.
//!
//! A fetch that decompresses to more than memory allows ends the process before any record of it is seen: the next process fetches the same
//! offset, and ends as well, with nothing to show for it. Therefore the committed offset of a partition is noted before
//! its first fetch, and the note is removed when a later offset is committed. An offset whose note was found by several starts in a row
//! is a suspect: it is not fetched before it has been looked at in a child process, see [`unreadable`](super::unreadable).
//!
//! As in [`crash_guard`](super::crash_guard) nothing is synced: the notes outlive the process, not the machine.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::rebalance::GroupContext;

/// Partitions that are noted. More than one replica can own.
const NOTES: usize = 4096;
/// Longest note in bytes.
const NOTE: usize = 48;
/// How long the group may take to tell what is committed.
pub(super) const ASK: Duration = Duration::from_secs(1);
/// The offset of a partition of which nothing is committed.
pub(super) const NOTHING: i64 = -1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Note {
    offset: i64,
    /// Ends of the process in a row while this offset was fetched.
    ends: u32,
    is_fetched: bool,
}

/// The notes of this process and of the ones before.
#[derive(Debug)]
pub struct FetchNotes {
    file: File,
    path: PathBuf,
    limit: u32,
    notes: BTreeMap<i32, Note>,
}

impl FetchNotes {
    /// Takes over the notes in `path`, which no other process may use. An offset is a suspect after `limit` ends in a row.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path, limit: u32) -> io::Result<FetchNotes> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        let mut text = Vec::new();
        file.by_ref()
            .take((NOTE * NOTES) as u64)
            .read_to_end(&mut text)?;
        let mut notes = FetchNotes {
            file,
            path: path.to_owned(),
            limit,
            notes: read(&String::from_utf8_lossy(&text)),
        };
        notes.write();
        Ok(notes)
    }

    /// This offset is going to be fetched. Returns the ends in a row after which it is a suspect and must not be.
    pub fn begin(&mut self, partition: i32, offset: i64) -> Option<u32> {
        let known = self.notes.get(&partition).filter(|n| n.offset == offset);
        let ends = known.map_or(0, |note| note.ends);
        let is_suspect = ends >= self.limit;
        let note = Note {
            offset,
            ends,
            is_fetched: !is_suspect,
        };
        if self.notes.len() < NOTES {
            self.notes.insert(partition, note);
        }
        self.write();
        is_suspect.then_some(ends)
    }

    /// A suspect is going to be fetched all the same.
    pub fn fetch(&mut self, partition: i32) {
        if let Some(note) = self.notes.get_mut(&partition) {
            note.is_fetched = true;
            self.write();
        }
    }

    /// Something behind the noted offset is committed, or there is nothing at it.
    pub fn passed(&mut self, partition: i32, committed: i64) {
        let note = self.notes.get(&partition);
        if note.is_some_and(|note| note.is_fetched && committed > note.offset) {
            self.clear(partition);
        }
    }

    /// Whether there is a note of a partition.
    pub fn has(&self, partition: i32) -> bool {
        self.notes.contains_key(&partition)
    }

    /// The partition is fetched no more.
    pub fn clear(&mut self, partition: i32) {
        if self.notes.remove(&partition).is_some() {
            self.write();
        }
    }

    /// A full disk costs the notes, not the fetch.
    fn write(&mut self) {
        let lines = self.notes.iter().map(|(partition, note)| {
            let word = if note.is_fetched { "fetched" } else { "held" };
            format!("{partition} {} {} {word}\n", note.offset, note.ends)
        });
        let text: String = lines.collect();
        let _unnoted = self
            .file
            .write_all_at(text.as_bytes(), 0)
            .and_then(|()| self.file.set_len(text.len() as u64));
    }
}

impl Drop for FetchNotes {
    fn drop(&mut self) {
        // An orderly end.
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// What was being fetched when the process ended has one more end to it.
fn read(text: &str) -> BTreeMap<i32, Note> {
    let note = |line: &str| {
        let mut words = line.split_whitespace();
        let partition = words.next()?.parse().ok()?;
        let offset = words.next()?.parse().ok()?;
        let ends: u32 = words.next()?.parse().ok()?;
        let ended = match words.next()? {
            "fetched" => 1,
            "held" => 0,
            _ => return None,
        };
        let note = Note {
            offset,
            ends: ends.saturating_add(ended),
            is_fetched: false,
        };
        Some((partition, note))
    };
    text.lines().filter_map(note).take(NOTES).collect()
}

/// Asks the group what is committed, on a thread that may wait.
pub(super) struct Positions {
    questions: Sender<Vec<i32>>,
    answers: Receiver<BTreeMap<i32, i64>>,
    thread: JoinHandle<()>,
}

impl Positions {
    pub(super) fn start(
        consumer: Arc<BaseConsumer<GroupContext>>,
        topic: String,
    ) -> io::Result<Positions> {
        let (questions, asked) = bounded::<Vec<i32>>(1);
        let (found, answers) = bounded(1);
        let poll_thread = thread::current();
        let thread = thread::Builder::new()
            .name("positions".to_owned())
            .spawn(move || {
                for partitions in asked {
                    let mut list = TopicPartitionList::with_capacity(partitions.len());
                    for partition in &partitions {
                        list.add_partition(&topic, *partition);
                    }
                    let offset = |offset| match offset {
                        Offset::Offset(offset) => offset,
                        _ => NOTHING,
                    };
                    // Without an answer nothing is known of them, and nothing is noted.
                    let committed = consumer.committed_offsets(list, ASK).map_or_else(
                        |_| BTreeMap::new(),
                        |list| {
                            let elements = list.elements();
                            let good = elements.iter().filter(|e| e.error().is_ok());
                            good.map(|e| (e.partition(), offset(e.offset()))).collect()
                        },
                    );
                    // An answer that nobody waited for gives way.
                    if found
                        .try_send(committed)
                        .is_err_and(|e| e.is_disconnected())
                    {
                        return;
                    }
                    poll_thread.unpark();
                }
            })?;
        Ok(Positions {
            questions,
            answers,
            thread,
        })
    }

    /// False if it is busy.
    pub(super) fn ask(&self, partitions: Vec<i32>) -> bool {
        while self.answers.try_recv().is_ok() {}
        self.questions.try_send(partitions).is_ok()
    }

    pub(super) fn answer(&self) -> Option<BTreeMap<i32, i64>> {
        self.answers.try_recv().ok()
    }

    /// Ends the thread, and waits for it.
    pub(super) fn stop(self) {
        drop(self.questions);
        drop(self.answers);
        let _panic = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that fetches `offset` of partition 3 and ends as `ends` does; returns whether it had to hold it back.
    fn process(path: &Path, offset: i64, end: impl FnOnce(&mut FetchNotes)) -> Option<u32> {
        let mut notes = FetchNotes::open(path, 2).unwrap();
        let suspect = notes.begin(3, offset);
        end(&mut notes);
        // A kill runs no destructor.
        std::mem::forget(notes);
        suspect
    }

    fn is_killed(_: &mut FetchNotes) {}

    #[test]
    fn an_offset_that_was_fetched_in_two_ends_in_a_row_is_held_back_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t-0.fetch");
        assert_eq!(process(&path, 10, is_killed), None);
        assert_eq!(
            process(&path, 10, is_killed),
            None,
            "one end proves nothing"
        );
        assert_eq!(process(&path, 10, is_killed), Some(2));
        assert_eq!(process(&path, 10, is_killed), Some(2), "it was not fetched");
        let fetched = process(&path, 10, |notes| notes.fetch(3));
        assert_eq!(fetched, Some(2));
        assert_eq!(process(&path, 10, is_killed), Some(3), "it was fetched");
        assert_eq!(process(&path, 11, is_killed), None, "another offset");
    }

    #[test]
    fn ends_after_a_later_commit_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t-0.fetch");
        for _ in 0..4 {
            let killed = process(&path, 10, |notes| notes.passed(3, 11));
            assert_eq!(killed, None);
        }
        for _ in 0..2 {
            let killed = process(&path, 10, |notes| notes.passed(3, 10));
            assert_eq!(killed, None);
        }
        assert_eq!(process(&path, 10, is_killed), Some(2), "no later commit");
    }

    #[test]
    fn an_orderly_end_leaves_nothing_and_nonsense_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t-0.fetch");
        for _ in 0..3 {
            let mut notes = FetchNotes::open(&path, 1).unwrap();
            assert_eq!(notes.begin(3, NOTHING), None);
        }
        assert!(!path.exists());
        let nonsense = "3 10\n\u{0}\n3 x 7 held\n4 5 9 eaten\n2 1 4294967295 fetched\n";
        std::fs::write(&path, nonsense).unwrap();
        let mut notes = FetchNotes::open(&path, 1).unwrap();
        assert_eq!((notes.has(3), notes.has(4)), (false, false));
        assert_eq!(notes.begin(2, 1), Some(u32::MAX));
    }
}
