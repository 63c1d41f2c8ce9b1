//! One engine for many threads: the signatures are in memory once, and each thread has a scanner of its own.

use std::error::Error;
use std::thread;

use scanlib::{Detector, EngineBuilder, Library, Payload, Request, ScanError, eicar};

const THREADS: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let engine = EngineBuilder::new(Library::init()?)?
        .builtin_signatures()?
        .compile()?;
    let detector = Detector::builder().engine(engine).build()?;

    // Every tenth object is infected.
    let objects: Vec<String> = (0..1000)
        .map(|n| match n % 10 {
            0 => format!("upload {n}: {}", eicar::text()),
            _ => format!("upload {n}: a harmless text"),
        })
        .collect();

    let infected_in = |objects: &[String]| -> Result<u64, ScanError> {
        let mut scanner = detector.scanner();
        for object in objects {
            let _report = scanner.scan(Payload::Bytes(object.as_bytes()), &Request::new())?;
        }
        Ok(scanner.stats().infected)
    };
    let infected = thread::scope(|scope| -> Result<u64, Box<dyn Error>> {
        let shares = objects.chunks(objects.len().div_ceil(THREADS));
        let threads: Vec<_> = shares
            .map(|share| scope.spawn(|| infected_in(share)))
            .collect();
        let mut infected = 0;
        for thread in threads {
            infected += thread.join().map_err(|_| "a scan panicked")??;
        }
        Ok(infected)
    })?;
    println!(
        "{THREADS} threads: {infected} of {} objects are infected",
        objects.len()
    );
    Ok(())
}
