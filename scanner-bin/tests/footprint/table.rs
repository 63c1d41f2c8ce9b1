//! What was measured, as a table.

use std::fmt;

/// One replica.
#[derive(Debug)]
pub struct Row {
    pub replica: String,
    /// How its scans are isolated; nothing for what is no scanner.
    pub isolation: &'static str,
    /// Signatures that it has loaded.
    pub signatures: u64,
    /// Seconds until it was ready.
    pub ready_after: f64,
    /// Bytes after its work: each page once, and RSS.
    pub steady: u64,
    pub resident: u64,
    /// The most until then, with the load.
    pub most_before: u64,
    /// The most with a reload, and what it holds after that.
    pub most: u64,
    pub after: u64,
}

/// The table of a run.
pub struct Table<'t>(pub &'t [Row]);

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// 1234567 as 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| replica | isolation | signatures loaded | ready after | at work | at most, with the start | at most, with a reload | after it |\n\
             |---|---|---:|---:|---:|---:|---:|---:|"
        )?;
        for row in self.0 {
            writeln!(
                f,
                "| {} | {} | {} | {:.0} s | {} MiB | {} MiB | {} MiB | {} MiB |",
                row.replica,
                row.isolation,
                grouped(row.signatures),
                row.ready_after,
                mib(row.steady),
                mib(row.most_before),
                mib(row.most),
                mib(row.after),
            )?;
        }
        Ok(())
    }
}
