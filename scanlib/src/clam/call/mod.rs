//! One scan of one object, from the call into libclamav to what it means.
//!
//! `examine` makes the call with an [`Observation`](observation::Observation) for the callbacks, `conclusion` turns what
//! they saw into names and a failure, and `trial` decides whether a failure is an environment error.

mod conclusion;
mod examine;
mod observation;
mod trial;

use std::fs::File;
use std::time::Instant;

use super::handle::CompiledEngine;
use super::limits::Limits;
use super::map::MemoryMap;
use super::request::Request;
use super::tmp::ScratchDir;
use crate::report::Incomplete;

pub(super) use examine::examine;
pub(super) use trial::{trial_object, works};

/// Bytes to scan, alive and open for the length of the borrow.
pub(super) enum Input<'i> {
    Memory(&'i MemoryMap<'i>),
    File(&'i File),
}

/// What a scan is done with.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'s> {
    pub(super) engine: &'s CompiledEngine,
    pub(super) limits: &'s Limits,
    pub(super) scratch: &'s ScratchDir,
    /// libclamav remembers clean objects.
    pub(super) caches: bool,
}

/// Why a scan is not wanted any more, if it is not.
pub(super) fn stop_reason(request: &Request<'_>) -> Option<Incomplete> {
    if request.is_cancelled() {
        Some(Incomplete::Cancelled)
    } else if request.deadline.is_some_and(|at| Instant::now() >= at) {
        Some(Incomplete::Deadline)
    } else {
        None
    }
}
