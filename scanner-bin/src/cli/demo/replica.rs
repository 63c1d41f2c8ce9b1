//! One replica of the service, on threads of this process.

use std::io::Write;
use std::num::NonZeroUsize;
use std::thread::JoinHandle;

use scanlib::{Detector, DetectorSlot, Engine, EngineBuilder, Library};

use crate::cli::run;
use crate::config::Config;
use crate::service::{self, ExitReport, ServiceError, Watch};
use crate::shutdown::Shutdown;

/// A running replica.
#[derive(Debug)]
pub(super) struct Replica {
    /// Its name in results.
    pub(super) name: String,
    watch: Watch,
    shutdown: Shutdown,
    thread: JoinHandle<Result<ExitReport, ServiceError>>,
}

impl Replica {
    /// Starts the service with one scanning thread; the engine is shared with the other replicas.
    pub(super) fn start(
        number: usize,
        config: &Config,
        detector: &Detector,
    ) -> std::io::Result<Replica> {
        let name = format!("replica-{number}");
        let mut config = config.clone();
        config.ops.instance.clone_from(&name);
        config.scan.threads = NonZeroUsize::MIN;
        let watch = run::watch(&config);
        let shutdown = Shutdown::new();
        let slot = DetectorSlot::new(detector.clone());
        let (watched, stop) = (watch.clone(), shutdown.clone());
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || service::run(&config, &slot, &watched, &stop))?;
        Ok(Replica {
            name,
            watch,
            shutdown,
            thread,
        })
    }

    /// Partitions that it owns.
    pub(super) fn partitions(&self) -> i64 {
        self.watch.metrics.assigned_partitions.get()
    }

    /// It is not running any more.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops it as SIGTERM would, and waits.
    pub(super) fn stop(self) -> Result<ExitReport, String> {
        self.shutdown.request();
        match self.thread.join() {
            Ok(ended) => ended.map_err(|error| error.to_string()),
            Err(_) => Err("its thread panicked".to_owned()),
        }
    }
}

/// An engine that knows one signature, of something that the demo does not send.
pub(super) fn engine_without_eicar() -> Result<Engine, Box<dyn std::error::Error>> {
    let mut database = tempfile::Builder::new().suffix(".ndb").tempfile()?;
    writeln!(database, "Demo.Nothing:0:*:{}", "00".repeat(64))?;
    Ok(EngineBuilder::new(Library::init()?)?
        .database(database.path())?
        .compile()?)
}
