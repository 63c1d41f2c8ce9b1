//! `db tune`: counts of the user's own log lines, for the prefilter to choose its texts by.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use scanlib::prefilter::TextModel;

use crate::cli::lines::LineBatches;
use crate::cli::unpack::unpack;
use crate::cli::{MAX_MESSAGE_BYTES, fail, print, say};
use crate::files;

/// What is counted, and where the counts go.
#[derive(Args, Debug)]
#[command(after_help = "\
The prefilter looks for the rarest text of each signature. Which texts are rare it takes from counts
of many kinds of logs; counts of your own logs make it faster, and never change a verdict. Some
100,000 lines are enough.

Examples:
  scanner-bin db tune --output my.model /var/log/syslog /var/log/nginx/access.log
  scanner-bin db tune --output my.model /var/log/syslog.*.gz
  scanner-bin db info --database /var/lib/clamav --text-model my.model")]
pub struct TuneArgs {
    /// Log files, each line a message, or such files as gzip, bzip2, xz or zstd data; - reads standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// File to write, whole or not at all [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs the subcommand.
pub(super) fn run(args: &TuneArgs) -> ExitCode {
    let model = match count(&args.files) {
        Ok(model) => model,
        Err(error) => return fail(&error),
    };
    let Some(output) = &args.output else {
        return print(model.as_bytes());
    };
    match files::replace_shared(output, model.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&named(output, &error)),
    }
}

/// The model of all the files, as text.
fn count(files: &[PathBuf]) -> io::Result<String> {
    let mut model = TextModel::default();
    let mut lines = 0;
    for path in files {
        let counted = match path.as_os_str().as_encoded_bytes() {
            b"-" => add(&mut model, io::stdin().lock(), None),
            _ => File::open(path).and_then(|file| add(&mut model, file, Some(path))),
        };
        lines += counted.map_err(|error| named(path, &error))?;
    }
    let text = model.write();
    if text.is_empty() {
        return Err(io::Error::other(format!(
            "{lines} lines hold no text to count"
        )));
    }
    let counts = text.lines().count();
    say(format_args!(
        "scanner-bin: {lines} lines counted, {counts} sequences of three characters kept"
    ));
    Ok(text)
}

/// Counts the lines of a stream, and how many there are.
fn add(model: &mut TextModel, from: impl Read, name: Option<&Path>) -> io::Result<u64> {
    let reader = unpack(BufReader::with_capacity(256 << 10, from), name)?.reader;
    let mut batches = LineBatches::new(reader, MAX_MESSAGE_BYTES);
    let mut lines = 0;
    while let Some(batch) = batches.next_batch()? {
        for (_, line, _) in batch.iter() {
            model.add_message(line);
            lines += 1;
        }
    }
    Ok(lines)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
