//! What the whole machine did meanwhile.

use std::fs;

/// Processor time since the machine started, of all cores together, in the kernel's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    pub idle: u64,
    /// Of processes with a nice value above 0.
    pub niced: u64,
    pub total: u64,
}

impl Machine {
    pub fn now() -> Self {
        Self::of(&fs::read_to_string("/proc/stat").unwrap())
    }

    /// From the text of `/proc/stat`.
    pub fn of(stat: &str) -> Self {
        let line = stat
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("cpu "));
        let ticks: Vec<u64> = line
            .expect("/proc/stat without a line for all cores")
            .split_whitespace()
            .map(|field| field.parse().unwrap())
            .collect();
        Self {
            // Waiting for a disk is idle, too: another process could run.
            idle: ticks[3] + ticks[4],
            niced: ticks[1],
            // What follows after the eighth is counted in the first two already.
            total: ticks.iter().take(8).sum(),
        }
    }

    /// Shares of the time since `before`: idle, and used by niced processes.
    pub fn shares_since(&self, before: &Self) -> (f64, f64) {
        let total = (self.total - before.total).max(1) as f64;
        let share = |now: u64, before: u64| now.saturating_sub(before) as f64 / total;
        (
            share(self.idle, before.idle),
            share(self.niced, before.niced),
        )
    }
}

/// Whether this program, and with it all that it starts, is niced itself.
pub fn is_niced() -> bool {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let mut fields = stat.rsplit(')').next().unwrap().split_whitespace();
    // The 19th field of all; the first two are before this.
    fields.nth(16).unwrap().parse::<i32>().unwrap() > 0
}
