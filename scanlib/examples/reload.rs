//! New signatures while scans go on: each scan uses the detector of its moment, and a database that does not load
//! changes nothing.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::{fs, thread};

use scanlib::{Detector, DetectorSlot, EngineBuilder, Library, Payload, Request, ScanError};

const OBJECT: &[u8] = b"a text with the word gargoyle in it";

fn load(database: &Path) -> Result<Detector, Box<dyn Error>> {
    let engine = EngineBuilder::new(Library::init()?)?
        .database(database)?
        .compile()?;
    Ok(Detector::builder().engine(engine).build()?)
}

fn scan(slot: &DetectorSlot) -> Result<String, ScanError> {
    let report = slot
        .load()
        .scanner()
        .scan(Payload::Bytes(OBJECT), &Request::new())?;
    let name = report.verdict.detections().first().map(|found| &found.name);
    Ok(format!("{name:?}, says detector {}", report.generation))
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let database = dir.path().join("demo.ndb"); // NAME:TYPE:OFFSET:HEX
    fs::write(&database, "Unicorn:0:*:756e69636f726e\n")?;
    let slot = DetectorSlot::new(load(&database)?);

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let scans = scope.spawn(|| {
            while !stop.load(Relaxed) {
                scan(&slot)?;
            }
            Ok::<_, ScanError>("scans went on meanwhile")
        });
        println!("first: {}", scan(&slot)?);
        for signature in [
            "Gargoyle:0:*:not hexadecimal\n",
            "Gargoyle:0:*:676172676f796c65\n",
        ] {
            fs::write(&database, signature)?;
            match slot.reload_with(|_| load(&database)) {
                Ok(_) => println!("now: {}", scan(&slot)?),
                Err(error) => println!("refused: {error}\nstill: {}", scan(&slot)?),
            }
        }
        stop.store(true, Relaxed);
        println!("{}", scans.join().unwrap_or(Ok("they panicked"))?);
        Ok(())
    })
}
