//! A trial scan of a harmless object, to tell environment errors from content errors.

use std::sync::atomic::{AtomicU64, Ordering};

use super::conclusion::Room;
use super::examine::scan;
use super::{Input, Surroundings};
use crate::clam::map::MemoryMap;
use crate::clam::request::Request;

/// Attempts of a trial scan beside which another scan runs short of room.
const TRIALS: usize = 3;

/// Whether a harmless object can be examined now: it is unpacked three times over, so that libclamav makes directories and temporary files,
/// and holds several of them open, as for most objects that hold others.
pub(in crate::clam) fn works(with: Surroundings<'_>) -> bool {
    for _ in 0..TRIALS {
        let object = trial_object();
        let Some(map) = MemoryMap::new(&object) else {
            return false;
        };
        let outcome = scan(with, &Input::Memory(&map), None, &Request::new());
        match outcome.failure {
            None => return true,
            Some(failure) if failure.room == Room::ShortElsewhere => {}
            Some(_) => return false,
        }
    }
    false
}

/// A text of more than a page, which an engine with a cache has not seen before, in three layers of gzip.
pub(in crate::clam) fn trial_object() -> Vec<u8> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let text = format!("trial scan {number:020}\n").repeat(150);
    (0..3).fold(text.into_bytes(), |object, _| stored_gzip(&object))
}

/// The data, of at most 64 KiB, as a gzip file that does not compress it.
fn stored_gzip(data: &[u8]) -> Vec<u8> {
    let length = data.len() as u16;
    let mut file = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01".to_vec();
    file.extend(length.to_le_bytes());
    file.extend((!length).to_le_bytes());
    file.extend(data);
    let checksum = data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    file.extend((!checksum).to_le_bytes());
    file.extend(u32::from(length).to_le_bytes());
    file
}
