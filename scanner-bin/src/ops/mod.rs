//! What operators see of a running service: metrics, health probes and the HTTP endpoints that
//! serve them.

pub mod health;
pub mod heartbeat;
pub mod metrics;
pub mod server;
