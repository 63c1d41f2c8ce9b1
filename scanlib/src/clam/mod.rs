//! libclamav made safe. The only module with `unsafe`; what it relies on is this:
//!
//! 1. **The library is initialised first.** [`RawEngine::new`](handle::RawEngine::new) wants a [`Library`], which
//!    only [`Library::init`] makes.
//! 2. **An engine has one owner.** `RawEngine` is not cloned and frees on drop; libclamav's own reference count is not
//!    used.
//! 3. **A compiled engine does not change.** Setters want `&mut RawEngine`; after `compile` the handle is behind an
//!    `Arc` and only `&` remains. This is what makes [`Engine`] `Sync`.
//! 4. **C borrows, it does not keep.** Data, name, options and observer of a scan are locals of the caller and outlive the
//!    call. libclamav copies settings that are strings. Who listens to a load is taken back before the call is left.
//! 5. **Callbacks run inside the call**, on the thread that scans, one at a time, and reach nothing but that scan's
//!    own observation. No panic leaves one; it goes on after C returned.
//! 6. **A string from C may be NULL** and lives until the next call into the library; it is copied at once.
//! 7. **Nothing else in the process** sets libclamav's log callback after [`Library::init`], or touches our engines.
//!
//! Never "clean" without having looked: a scan counts as complete only if our callback saw libclamav begin, libclamav
//! returned clean or infected, and it logged no error on that thread meanwhile.

mod allocator;
mod builder;
mod call;
mod cancel;
mod code;
mod engine;
mod exclusions;
mod file_map;
mod handle;
mod isolation;
mod join;
mod library;
mod limits;
mod load;
mod log;
mod map;
mod names;
mod options;
mod payload;
mod progress;
mod reaper;
mod request;
mod tmp;

pub use allocator::hold_little_memory;
pub use builder::{DatabaseOptions, EngineBuilder};
pub use cancel::CancelToken;
pub use engine::{Engine, EngineInfo, EngineScan};
pub use exclusions::UnmatchedExclusion;
pub use file_map::FileMap;
pub use isolation::{
    Confinement, Isolation, IsolationError, IsolationOptions, IsolationStatus, ProcessRights,
    confine_process,
};
pub use join::SCAN_STACK_BYTES;
pub use library::{Library, LibraryVersion};
pub use limits::Limits;
pub use options::ScanOptions;
pub use payload::Payload;
pub use progress::{BuildStep, Progress};
pub use request::Request;
