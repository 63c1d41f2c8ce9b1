//! A scanner behind a Unix socket: `tiny_service SOCKET`. Whoever connects sends an object, ends its side, and gets one
//! line back: `socat -t 5 - UNIX-CONNECT:SOCKET < FILE`.

use std::error::Error;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use scanlib::{
    Detector, DetectorSlot, EngineBuilder, Library, Pool, Request, Verdict, Work, Worker,
};

struct Client(UnixStream);

impl Client {
    fn serve(&mut self, worker: &mut Worker) -> Result<(), Box<dyn Error>> {
        self.0.set_read_timeout(Some(Duration::from_secs(10)))?;
        let engine = worker.detector().engine().ok_or("no engine")?;
        let mut spool = engine.spool(); // bounded: a client without an end is told "too large"
        spool.read_from(&self.0)?;
        let payload = spool.payload()?;
        let report = worker.scan(|scanner| scanner.scan(payload, &Request::new()))?;
        match report.verdict {
            Verdict::Clean => writeln!(self.0, "OK")?,
            Verdict::Infected(found) => writeln!(self.0, "FOUND {}", found.headline().name)?,
            other => writeln!(self.0, "PARTIAL {other:?}")?,
        }
        Ok(())
    }
}

impl Work for Client {
    type Output = (); // each job answers its own client
    type Receipt = ();

    fn cost_bytes(&self) -> u64 {
        0 // nothing is read before a worker has time
    }

    fn receipt(&self) {}

    fn run(mut self, worker: &mut Worker) {
        if let Err(error) = self.serve(worker) {
            let _client_is_gone = writeln!(self.0, "ERROR {error}");
        }
    }

    fn panicked((): (), _message: String) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::args_os()
        .nth(1)
        .ok_or("usage: tiny_service SOCKET")?;
    let engine = EngineBuilder::new(Library::init()?)?
        .builtin_signatures()?
        .compile()?;
    let slot = DetectorSlot::new(Detector::builder().engine(engine).build()?);
    let pool = Pool::builder(slot).start_detached()?;
    for client in UnixListener::bind(socket)?.incoming() {
        pool.submit(Client(client?))?; // waits while all workers are busy and the queue is full
    }
    Ok(())
}
