//! What the demo shows: a live table on a terminal, plain lines elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use super::proof::{Proof, word};
use crate::escape::Escaped;

/// Writes to standard output.
#[derive(Debug)]
pub(super) struct Screen {
    live: bool,
    colour: bool,
    status_shown: bool,
    rows: u32,
}

/// Width of the column for names: the longest one of the demo.
const NAME_WIDTH: usize = 40;

impl Screen {
    /// Live on a terminal; in colour unless `NO_COLOR` is set.
    pub(super) fn new() -> Screen {
        let live = io::stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Screen {
            live,
            colour: live && !no_colour,
            status_shown: false,
            rows: 0,
        }
    }

    /// What is done next.
    pub(super) fn step(&mut self, text: &str) -> io::Result<()> {
        self.line(&format!("{} {text}", self.paint("36", "»")))
    }

    /// A result in which something was found.
    pub(super) fn row(&mut self, result: &Value) -> io::Result<()> {
        if self.rows == 0 {
            self.line(&format!(
                "  {:<8}  {:<NAME_WIDTH$}  {:<30}  {:<9}  µs",
                "severity", "threat", "libclamav", "p/offset"
            ))?;
        }
        self.rows += 1;
        let severity = word(result, "severity");
        let colour = match severity {
            "critical" | "high" => "31",
            _ => "33",
        };
        let place = format!(
            "{}/{}",
            result["kafka"]["partition"], result["kafka"]["offset"]
        );
        self.line(&format!(
            "  {}  {:<NAME_WIDTH$}  {:<30}  {place:<9}  {}",
            self.paint(colour, &format!("{severity:<8}")),
            Escaped(word(result, "threat_name").as_bytes()).to_string(),
            Escaped(result["clamav_result"].as_str().unwrap_or("-").as_bytes()).to_string(),
            result["scanner"]["duration_us"],
        ))
    }

    /// How far it is; shown on a terminal only, and overwritten by what comes next.
    pub(super) fn status(&mut self, text: &str) -> io::Result<()> {
        if !self.live {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        write!(out, "\r\x1b[K  {text}")?;
        self.status_shown = true;
        out.flush()
    }

    /// What was proven, and what was not.
    pub(super) fn proofs(&mut self, proofs: &[Proof]) -> io::Result<()> {
        self.line("")?;
        for proof in proofs {
            let mark = match proof.holds {
                true => self.paint("32", "proven "),
                false => self.paint("31", "MISSING"),
            };
            let mut line = format!("  {mark}  {}", proof.claim);
            // Writing to a String cannot fail.
            let _infallible = write!(line, ": {}", Escaped(proof.seen.as_bytes()));
            self.line(&line)?;
        }
        Ok(())
    }

    /// A line of its own.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if std::mem::take(&mut self.status_shown) {
            write!(out, "\r\x1b[K")?;
        }
        writeln!(out, "{text}")?;
        out.flush()
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
