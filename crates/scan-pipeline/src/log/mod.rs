//! Bounds on log lines: how long their texts are, and how many there are.

mod cut;
mod detection;
mod detection_limit;
mod throttle;

pub use cut::{LONGEST_RECORD_TEXT, LONGEST_TEXT, cut};
pub use detection::threat_detected;
pub use detection_limit::{DetectionLimit, DetectionLog, MAX_KEYS, Suppressed};
pub use throttle::Throttle;
