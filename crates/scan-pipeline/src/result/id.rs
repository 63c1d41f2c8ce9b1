//! The identity of a result.

use uuid::{Uuid, uuid};

/// Chosen once; another value would give every record another identity.
const NAMESPACE: Uuid = uuid!("6f5b1c1e-3f0e-4e0b-9d55-7b1f2a8c4d10");

/// The UUID (version 5) of a record's place: the same record gets the same identity in every scan, so
/// that a redelivered result can be told from a new one.
pub fn scan_id(cluster: &str, topic: &str, partition: i32, offset: i64) -> Uuid {
    // Neither a cluster's identity nor a topic's name can hold a slash.
    Uuid::new_v5(
        &NAMESPACE,
        format!("{cluster}/{topic}/{partition}/{offset}").as_bytes(),
    )
}
