//! libclamav in processes of its own.
//!
//! ```text
//! main process     Kafka, secrets, rules, prefilter; no engine
//!   └─ spawner     forked before there are threads or secrets; forks templates        spawner.rs
//!        └─ template    loads one engine, single-threaded, and never scans            template.rs, remote.rs
//!             └─ scanning process    shares that memory, copy on write; confined;     scanning.rs, processes.rs
//!                                    threads scan what arrives on their lanes
//! ```
//!
//! A scanning process reads what attackers write, in C. It may crash: the object is scanned once more, alone, in another one. It may hang:
//! it is killed. It may be taken over: then it has the objects of its lanes, a directory of its own, and nothing else; see `confine.rs`.
//!
//! Every process ends with its parent, however that ends.

mod channel;
mod charsets;
mod child;
mod confine;
mod mapped;
mod processes;
mod remote;
mod scanning;
mod spawner;
mod template;
mod wire;

pub(super) use channel::Channel;
pub use confine::{Confinement, ProcessRights, confine_process};
pub use processes::{IsolationOptions, IsolationStatus};
pub(super) use processes::{Processes, Scanned};
pub(super) use remote::{Failure, RemoteEngine, Watchers};
pub use spawner::{Isolation, IsolationError};
