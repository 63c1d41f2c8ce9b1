//! Scans one file: `scan_file FILE [DATABASE]`. Exit status as clamscan's: 0 clean, 1 infected, 2 not examined in full.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use scanlib::{Detector, EngineBuilder, Library, Payload, Request, Verdict};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let path = args.next().ok_or("usage: scan_file FILE [DATABASE]")?;

    let builder = EngineBuilder::new(Library::init()?)?;
    let engine = match args.next() {
        Some(database) => builder.database(database)?.compile()?,
        None => builder.builtin_signatures()?.compile()?, // finds EICAR only
    };
    let detector = Detector::builder().engine(engine).build()?;
    let report = detector
        .scanner()
        .scan(Payload::Path(&path), &Request::new())?;

    let name = path.display().to_string().escape_debug().to_string();
    Ok(match report.verdict {
        Verdict::Clean => {
            println!("{name}: OK");
            ExitCode::SUCCESS
        }
        Verdict::Infected(found) => {
            println!("{name}: {} FOUND", found.headline().name);
            ExitCode::from(1)
        }
        Verdict::Incomplete { cause, .. } => {
            println!("{name}: not examined in full: {cause}");
            ExitCode::from(2)
        }
        _ => unreachable!("a verdict that this example does not know"),
    })
}
