//! A scanning process: threads that share the engine it was forked with, one for each lane. It may crash, hang, or be taken over by
//! what it scans.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use super::channel::Channel;
use super::child;
use super::confine::{self, Confinement, Paths};
use super::wire::{self, Answer, Bounds, Object, Task};
use crate::clam::call::{self, Input, Surroundings};
use crate::clam::engine::EngineScan;
use crate::clam::file_map::FileMap;
use crate::clam::handle::CompiledEngine;
use crate::clam::limits::Limits;
use crate::clam::map::MemoryMap;
use crate::clam::request::Request;
use crate::clam::tmp::ScratchDir;
use crate::report::Incomplete;

/// Stack of each thread, in bytes: some of libclamav's parsers recurse.
const STACK_BYTES: usize = 8 << 20;

/// How long a thread stays awake for the next object.
const NEXT_OBJECT: Duration = Duration::from_micros(50);

/// What a scanning process is forked with.
pub(super) struct Equipment<'t> {
    pub(super) engine: &'t mut CompiledEngine,
    /// Its own; the template removes it.
    pub(super) tmp_dir: &'t Path,
    pub(super) troubles: &'static AtomicU64,
    /// Private memory that it may hold; `None` if its present size is not known.
    pub(super) memory_bytes: Option<u64>,
    pub(super) bounds: Bounds,
}

struct Bench<'e> {
    engine: &'e CompiledEngine,
    limits: Limits,
    scratch: ScratchDir,
    caches: bool,
}

/// The life of a scanning process.
pub(super) fn run(lanes: Vec<Channel>, with: Equipment<'_>) -> io::Result<Infallible> {
    let keep: Vec<BorrowedFd<'_>> = lanes.iter().map(Channel::descriptor).collect();
    child::close_all_but(&keep);
    drop(keep);
    child::silence(true)?;
    with.engine
        .set_tmp_dir(with.tmp_dir)
        .map_err(|code| io::Error::other(code.to_string()))?;
    let bench = Bench {
        engine: with.engine,
        limits: Limits {
            max_file_bytes: with.bounds.max_file_bytes,
            max_scan_time: with.bounds.max_scan_time,
            ..Limits::default()
        },
        scratch: ScratchDir::of(with.tmp_dir, with.troubles)?,
        caches: with.bounds.caches,
    };
    let mut confinement = Confinement {
        landlock: confine::files(&Paths {
            read: Vec::new(),
            write: vec![PathBuf::from(with.tmp_dir)],
        }),
        memory_limit: confine::resources(with.memory_bytes),
        ..confine::give_up_privileges()
    };
    let lanes: Vec<Arc<Channel>> = lanes.into_iter().map(Arc::new).collect();
    thread::scope(|scope| {
        for lane in &lanes {
            let bench = &bench;
            thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, move || {
                    // Without its peer there is nothing to do; a defect ends the process, which the peer sees.
                    let served = catch_unwind(AssertUnwindSafe(|| bench.serve(lane)));
                    child::exit(i32::from(!matches!(served, Ok(Ok(())))))
                })?;
        }
        // After the threads, which are among what it forbids; before the first object, which comes after this answer.
        confinement.seccomp = confine::system_calls();
        if let Some(first) = lanes.first() {
            first.send(&Answer::Ready(confinement), &[], &[])?;
        }
        Ok::<(), io::Error>(())
    })?;
    Err(io::Error::other("no lanes"))
}

impl Bench<'_> {
    /// Scans what arrives on a lane, until its other end is gone.
    fn serve(&self, lane: &Channel) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            let Some(mut packet) = lane.receive(&mut buffer, true)? else {
                return Ok(());
            };
            let object = packet.descriptors.pop().map(File::from);
            let (task, body): (Task<'_>, _) = packet.parse()?;
            let Task::Scan {
                name,
                options,
                time_left,
                object: place,
            } = task
            else {
                // Cancelled when it was answered already.
                continue;
            };
            let mut request = Request::new().options(options.into());
            request.name = name;
            request.deadline = time_left.and_then(|left| Instant::now().checked_add(left));
            request.lane = Some(lane);
            let scanned = catch_unwind(AssertUnwindSafe(|| {
                self.scan(place, object.as_ref(), body, &request)
            }));
            match scanned {
                Ok(scan) => {
                    for answer in wire::answers(scan) {
                        lane.send(&answer, &[], &[])?;
                    }
                }
                Err(panic) => {
                    let text = crate::error::panic_message(&*panic);
                    lane.send(&Answer::Panicked(wire::cut(text)), &[], &[])?;
                }
            }
            // The next object often follows at once.
            lane.expect(NEXT_OBJECT);
        }
    }

    fn scan(
        &self,
        place: Object,
        object: Option<&File>,
        body: &[u8],
        request: &Request<'_>,
    ) -> EngineScan {
        let scanned = match (place, object) {
            (Object::Body, _) => self.memory(body, request),
            (Object::Memory { len }, Some(file)) => match FileMap::sealed(file) {
                Ok(map) if map.len() as u64 == len => self.memory(&map, request),
                Ok(_) => Err("memory of another length".to_owned()),
                Err(error) => Err(format!("no memory for an object: {error}")),
            },
            (Object::File, Some(file)) => Ok(self.look(&Input::File(file), request)),
            (Object::Memory { .. } | Object::File, None) => Err("no descriptor".to_owned()),
        };
        scanned.unwrap_or_else(|problem| {
            EngineScan::nothing(Some(Incomplete::EngineError {
                code: Some(clamav_sys::CL_EMEM as i32),
                log: vec![problem],
            }))
        })
    }

    fn memory(&self, data: &[u8], request: &Request<'_>) -> Result<EngineScan, String> {
        let map = MemoryMap::new(data).ok_or_else(|| "no memory for a map".to_owned())?;
        Ok(self.look(&Input::Memory(&map), request))
    }

    fn look(&self, input: &Input<'_>, request: &Request<'_>) -> EngineScan {
        let with = Surroundings {
            engine: self.engine,
            limits: &self.limits,
            scratch: &self.scratch,
            caches: self.caches,
        };
        call::examine(with, input, request.name, request)
    }
}
