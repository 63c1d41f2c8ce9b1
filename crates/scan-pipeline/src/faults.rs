//! Deliberate faults, to see that the chaos suite finds them (`make chaos-mutants`). Only a build with the feature `chaos-faults` has
//! this module; in that build the environment variable `CHAOS_FAULT` chooses one.

use std::sync::OnceLock;

/// One thing that this service never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A record counts as answered once its result was handed to the client.
    CommitBeforeAck,
    /// Results and offsets of leases that have ended count, and offsets go without the group's generation.
    NoGenerationCheck,
    /// When partitions are lost, what is acknowledged or in the open transaction is committed all the same.
    CommitOnLost,
    /// After an aborted transaction, what was acknowledged in it is not sent again.
    NoRewind,
    /// The watermark is behind the highest record that was scanned, whatever is open before it.
    HighestSeen,
    /// Offsets are committed by the consumer, after the transaction and not in it.
    OffsetsOutside,
    /// A record whose scan was lost with a scanning process or its template is clean.
    LostScanIsClean,
}

const ALL: [(&str, Fault); 7] = [
    ("commit-before-ack", Fault::CommitBeforeAck),
    ("no-generation-check", Fault::NoGenerationCheck),
    ("commit-on-lost", Fault::CommitOnLost),
    ("no-rewind", Fault::NoRewind),
    ("highest-seen", Fault::HighestSeen),
    ("offsets-outside", Fault::OffsetsOutside),
    ("lost-scan-is-clean", Fault::LostScanIsClean),
];

/// Whether this is the one that was chosen.
///
/// # Panics
/// There is none of that name: a run that proves nothing must not pass for one.
pub(super) fn is(fault: Fault) -> bool {
    static CHOSEN: OnceLock<Option<Fault>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("CHAOS_FAULT").ok()?;
        let known = ALL.iter().find(|(of, _)| *of == name);
        let (_, fault) = known.unwrap_or_else(|| panic!("CHAOS_FAULT: there is no fault {name:?}"));
        tracing::warn!(fault = name, "This build makes a deliberate fault");
        Some(*fault)
    });
    *chosen == Some(fault)
}
