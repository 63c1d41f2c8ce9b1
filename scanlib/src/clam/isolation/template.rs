//! A template: loads one engine on its only thread, never scans, and forks scanning processes that share the engine's memory.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use clamav_sys as sys;
use rustix::process::Pid;

use super::channel::{Channel, Packet};
use super::child;
use super::confine;
use super::mapped;
use super::scanning::{self, Equipment};
use super::wire::{self, Bounds, Child, Event, Order};
use crate::clam::Library;
use crate::clam::allocator;
use crate::clam::exclusions::Exclusions;
use crate::clam::handle::{CompiledEngine, RawEngine};
use crate::clam::log::{self, Log};
use crate::clam::names::Names;
use crate::clam::progress::{BuildStep, Listener};
use crate::clam::tmp::{self, Identity, ScratchDir};
use crate::error::ClamCode;

/// Time between two reports about the progress of a load.
const REPORT_EVERY: Duration = Duration::from_millis(20);
/// Bytes of names in one packet, and how many at most.
const NAMES_BYTES: usize = 32 << 10;
const NAMES: usize = 2_000;

enum Engine {
    Loading(RawEngine),
    Compiled(CompiledEngine),
    /// Lost by a failed compilation.
    None,
}

struct Template {
    control: Arc<Channel>,
    library: Library,
    engine: Engine,
    names: Option<Names>,
    exclusions: Vec<String>,
    /// Shared with every scanning process: how often a scan ran short of room for temporary files.
    troubles: &'static AtomicU64,
    children: Vec<Pid>,
    tmp_dir: Option<TmpDir>,
}

/// The life of a template.
pub(super) fn run(control: Channel, library: Library) -> io::Result<Infallible> {
    child::close_all_but(&[control.descriptor()]);
    confine::be_first_to_go();
    let engine = RawEngine::new(library).ok_or_else(|| io::Error::other("no memory"))?;
    let mut template = Template {
        control: Arc::new(control),
        library,
        engine: Engine::Loading(engine),
        names: None,
        exclusions: Vec::new(),
        troubles: shared_counter()?,
        children: Vec::new(),
        tmp_dir: None,
    };
    let mut buffer = Vec::new();
    loop {
        let control = Arc::clone(&template.control);
        match control.receive(&mut buffer, true)? {
            Some(packet) => template.carry_out(packet)?,
            None => {
                for pid in template.children.drain(..) {
                    child::end(pid);
                }
                child::exit(0);
            }
        }
    }
}

impl Template {
    fn carry_out(&mut self, packet: Packet<'_>) -> io::Result<()> {
        let (order, _) = packet.parse()?;
        let nothing = Log::default();
        match order {
            Order::Confine { sources, tmp_base } => {
                let sources: Vec<_> = sources.iter().map(|bytes| path(bytes)).collect();
                let tmp_base = path(&tmp_base);
                let answer = match TmpDir::create(&tmp_base) {
                    Ok(tmp_dir) => {
                        confine::files(&confine::loading(&sources, &tmp_base));
                        let path = tmp_dir.scratch.path().as_os_str().as_bytes().to_vec();
                        self.tmp_dir = Some(tmp_dir);
                        Child::Directory { path }
                    }
                    Err(error) => failed(&error),
                };
                self.control.send(&answer, &[], &[])
            }
            Order::Create { path } => {
                let created = self.below(&path).and_then(|path| {
                    if let Some(directory) = path.parent() {
                        fs::create_dir_all(directory)?;
                    }
                    File::create_new(path)
                });
                match created {
                    Ok(file) => self.control.send(&Child::Done, &[], &[file.as_fd()]),
                    Err(error) => self.control.send(&failed(&error), &[], &[]),
                }
            }
            Order::Remove { path } => {
                let removed = self.below(&path).and_then(|path| match path.is_dir() {
                    true => tmp::remove_tree(&path),
                    false => fs::remove_file(path),
                });
                self.answer(removed)
            }
            Order::Check => {
                let checked = match &self.tmp_dir {
                    Some(tmp_dir) => tmp_dir.scratch.check(),
                    None => Err(no_directory()),
                };
                self.answer(checked)
            }
            Order::Number { field, value } => {
                let set = self.loading().map(|it| it.set_number(field, value));
                self.done(flat(set), nothing)
            }
            Order::CacheEntries(entries) => {
                let set = self.loading().map(|it| it.set_cache_entries(entries));
                self.done(flat(set), nothing)
            }
            Order::TmpDir(dir) => {
                let set = c_string(&dir).and_then(|dir| {
                    let engine = self.loading()?;
                    Ok(engine.set_text(sys::CL_ENGINE_TMPDIR, &dir))
                });
                self.done(flat(set), nothing)
            }
            Order::Exclude(name) => {
                self.exclusions.push(name);
                self.done(Ok(0), nothing)
            }
            Order::Names => {
                self.names = Some(Names {
                    exclusions: Exclusions::new(&self.exclusions),
                    ..Names::default()
                });
                self.done(Ok(0), nothing)
            }
            Order::Verify { path, options } => {
                let (verified, log) = log::capture(|| {
                    let path = c_string(&path)?;
                    let engine = RawEngine::new(self.library);
                    let mut engine = engine.ok_or_else(|| ClamCode::new(sys::CL_EMEM))?;
                    engine.load_nothing(&path, options)
                });
                self.done(verified.map(|()| 0), log)
            }
            Order::Load { path, options } => self.load(&path, options),
            Order::Compile => self.compile(),
            Order::Start { number, bounds } => {
                let lanes = packet.descriptors.into_iter().map(Channel::from).collect();
                let answer = self.start(lanes, number, bounds);
                self.control.send(&answer, &[], &[])
            }
            Order::End { pid, number } => {
                let how = self.end(pid);
                // What it had no time to remove; here, as it may be deep and take many descriptors. A failure shows as a lack of room,
                // if there is one.
                if let Some(tmp_dir) = &self.tmp_dir {
                    let _gone = tmp::remove_tree(&tmp_dir.of_process(number));
                }
                self.control.send(&Child::Ended { how }, &[], &[])
            }
            Order::Leave => {
                for pid in self.children.drain(..) {
                    child::end(pid);
                }
                let removed = match self.tmp_dir.take() {
                    Some(tmp_dir) => tmp::remove_tree(tmp_dir.scratch.path()),
                    None => Ok(()),
                };
                self.answer(removed)
            }
        }
    }

    fn loading(&mut self) -> Result<&mut RawEngine, ClamCode> {
        match &mut self.engine {
            Engine::Loading(engine) => Ok(engine),
            _ => Err(ClamCode::new(sys::CL_EARG)),
        }
    }

    /// The last event of an order.
    fn done(&self, result: Result<u64, ClamCode>, log: Log) -> io::Result<()> {
        let Log { lines, error } = log;
        let last = lines.len();
        for (number, line) in lines.into_iter().enumerate() {
            // Whether there was an error is known of all lines together.
            let error = error && number + 1 == last;
            self.control.send(&Event::Log { line, error }, &[], &[])?;
        }
        let (code, signatures) = match result {
            Ok(signatures) => (sys::CL_SUCCESS, signatures),
            Err(code) => (code.number as u32, 0),
        };
        self.control
            .send(&Event::Done { code, signatures }, &[], &[])
    }

    fn listener(&self) -> Listener {
        let control = Arc::clone(&self.control);
        let mut last: Option<Instant> = None;
        Listener::new(move |at| {
            let is_due = last.is_none_or(|last| last.elapsed() >= REPORT_EVERY);
            if is_due || at.done == at.total {
                last = Some(Instant::now());
                let (done, total) = (at.done, at.total);
                // Whoever listened is gone: the next order shows it.
                let _gone = control.send(&Event::Progress { done, total }, &[], &[]);
            }
        })
    }

    fn load(&mut self, path: &[u8], options: u32) -> io::Result<()> {
        let mut listener = self.listener();
        let mut names = self.names.take();
        let (loaded, log) = log::capture(|| {
            let c_path = c_string(path)?;
            let engine = self.loading()?;
            listener.during(BuildStep::Load(Path::new("")), engine, |engine| {
                let load = |engine: &mut RawEngine| engine.load(&c_path, options);
                match &mut names {
                    Some(names) => names.during(engine, load),
                    None => load(engine),
                }
            })
        });
        if let Some(names) = &mut names {
            self.report(names)?;
        }
        self.names = names;
        self.done(loaded, log)
    }

    /// Hands over what was named since the last time.
    fn report(&self, names: &mut Names) -> io::Result<()> {
        let send = |event: &Event| self.control.send(event, &[], &[]);
        if std::mem::take(&mut names.loaded.incomplete) {
            send(&Event::NamesIncomplete)?;
        }
        let mut packet = Vec::new();
        let mut bytes = 0;
        for named in names.loaded.signatures.drain(..) {
            let length = named.name.len();
            if length > NAMES_BYTES {
                send(&Event::NamesIncomplete)?;
                continue;
            }
            if bytes + length > NAMES_BYTES || packet.len() == NAMES {
                send(&Event::Named(std::mem::take(&mut packet)))?;
                bytes = 0;
            }
            bytes += length;
            packet.push((named.kind.into(), named.name.into_vec()));
        }
        send(&Event::Named(packet))?;
        for (kind, name, count) in names.exclusions.take_excluded() {
            let kind = kind.map(Into::into);
            send(&Event::LeftOut(kind, name.into_vec(), count))?;
        }
        Ok(())
    }

    fn compile(&mut self) -> io::Result<()> {
        let mut listener = self.listener();
        let (compiled, log) =
            log::capture(|| match std::mem::replace(&mut self.engine, Engine::None) {
                Engine::Loading(mut engine) => listener
                    .during(BuildStep::Compile, &mut engine, RawEngine::compile)
                    .map(|()| engine.compiled()),
                _ => Err(ClamCode::new(sys::CL_EARG)),
            });
        let compiled = compiled.map(|engine| self.engine = Engine::Compiled(engine));
        self.names = None;
        // Every scanning process starts with what this one holds.
        allocator::give_back();
        mapped::give_back();
        let resident = confine::resident_bytes().unwrap_or_default();
        self.done(compiled.map(|()| resident), log)
    }

    fn answer(&self, done: io::Result<()>) -> io::Result<()> {
        let answer = match done {
            Ok(()) => Child::Done,
            Err(error) => failed(&error),
        };
        self.control.send(&answer, &[], &[])
    }

    /// A path below the engine's directory.
    fn below(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = path(bytes);
        let is_below = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        match &self.tmp_dir {
            Some(tmp_dir) if is_below => Ok(tmp_dir.scratch.path().join(path)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Forks a scanning process, which answers for itself on its first lane.
    fn start(&mut self, lanes: Vec<Channel>, number: u64, bounds: Bounds) -> Child {
        let Some(tmp_dir) = &mut self.tmp_dir else {
            return failed(&no_directory());
        };
        if let Some(error) = tmp_dir.replaced() {
            return Child::Replaced { error };
        }
        let started = tmp_dir
            .for_process(number)
            .and_then(|tmp_dir| self.fork(lanes, &tmp_dir, bounds));
        match started {
            Ok(pid) => Child::Started {
                pid: pid.as_raw_nonzero().get(),
            },
            Err(error) => Child::NotStarted {
                error: error.to_string(),
            },
        }
    }

    fn fork(&mut self, lanes: Vec<Channel>, tmp_dir: &Path, bounds: Bounds) -> io::Result<Pid> {
        let Engine::Compiled(engine) = &mut self.engine else {
            return Err(io::Error::other("no engine is compiled"));
        };
        let held = confine::held_bytes();
        let equipment = Equipment {
            engine,
            tmp_dir,
            troubles: self.troubles,
            memory_bytes: held.map(|held| held.saturating_add(bounds.memory_bytes)),
            bounds,
        };
        // SAFETY: this process has one thread: libclamav starts none while it loads, and the template never does.
        let pid = unsafe { child::fork(c"scan-worker", move || scanning::run(lanes, equipment)) }?;
        self.children.push(pid);
        Ok(pid)
    }

    fn end(&mut self, pid: i32) -> String {
        let place = self
            .children
            .iter()
            .position(|child| child.as_raw_nonzero().get() == pid);
        match place {
            Some(place) => child::end(self.children.swap_remove(place)),
            None => "has ended before".to_owned(),
        }
    }
}

/// The engine's directory for temporary files, and the base directory it is in, which somebody else may remove or replace.
struct TmpDir {
    base: PathBuf,
    /// Landlock's rights belong to this directory, not to the path.
    identity: Identity,
    scratch: ScratchDir,
}

impl TmpDir {
    fn create(base: &Path) -> io::Result<TmpDir> {
        let scratch = ScratchDir::create(base)?;
        Ok(TmpDir {
            base: base.to_owned(),
            identity: Identity::of(base)?,
            scratch,
        })
    }

    /// A sentence if another directory is now at the path of the base directory.
    fn replaced(&self) -> Option<String> {
        // While it is missing another one may still come, and which one it is decides.
        let now = Identity::of(&self.base).ok()?;
        (now != self.identity).then(|| {
            format!(
                "another directory is now at {}: the signatures have to be loaded again",
                self.base.display()
            )
        })
    }

    fn of_process(&self, number: u64) -> PathBuf {
        self.scratch.path().join(wire::directory(number))
    }

    /// Creates the directory of a scanning process, and the engine's own if somebody removed that.
    fn for_process(&mut self, number: u64) -> io::Result<PathBuf> {
        let directory = self.of_process(number);
        let created = self
            .scratch
            .restore()
            .and_then(|()| fs::create_dir(&directory));
        created.map_err(|error| {
            let problem = format!("{} cannot be created: {error}", directory.display());
            io::Error::new(error.kind(), problem)
        })?;
        Ok(directory)
    }
}

fn failed(error: &io::Error) -> Child {
    Child::Failed {
        error: error.to_string(),
    }
}

fn no_directory() -> io::Error {
    io::Error::other("no directory for temporary files was created")
}

fn flat(set: Result<Result<(), ClamCode>, ClamCode>) -> Result<u64, ClamCode> {
    set.and_then(|set| set.map(|()| 0))
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

fn c_string(bytes: &[u8]) -> Result<CString, ClamCode> {
    CString::new(bytes).map_err(|_| ClamCode::new(sys::CL_EARG))
}

/// A number that this process and those it forks share.
fn shared_counter() -> io::Result<&'static AtomicU64> {
    // SAFETY: a new page at a place of the kernel's choice.
    let page = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            size_of::<AtomicU64>(),
            rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
            rustix::mm::MapFlags::SHARED,
        )
    }?;
    // SAFETY: a page is large enough and aligned, holds zeros, and is never unmapped. Other processes change it atomically.
    Ok(unsafe { &*page.cast::<AtomicU64>() })
}
