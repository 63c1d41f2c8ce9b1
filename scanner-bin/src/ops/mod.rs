//! What operators see of a running service: metrics, health probes and the HTTP endpoints that
//! serve them.

pub mod server;

pub use scan_pipeline::{health, heartbeat, metrics};
