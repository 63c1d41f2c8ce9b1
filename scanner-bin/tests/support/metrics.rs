//! `/metrics`, as an operator reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::process::Scanner;
use super::wait_for;

/// Every series of one scrape and its value.
#[derive(Debug, Clone)]
pub struct Scrape(BTreeMap<String, f64>);

impl Scanner {
    /// What `/metrics` says now. A process that has only just started is waited for.
    pub fn scrape(&self) -> Scrape {
        let (status, page) = wait_for("an answer of /metrics", Duration::from_secs(10), || {
            self.get("/metrics")
        });
        assert_eq!(status, 200);
        Scrape::of(&page)
    }

    /// The partitions that it owns.
    pub fn owned(&self) -> BTreeSet<i32> {
        self.scrape().owned()
    }
}

impl Scrape {
    /// From the text of the page.
    pub fn of(page: &str) -> Self {
        let series = page.lines().filter(|line| !line.starts_with('#'));
        let parsed = series.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a series without a value");
            (
                name.to_owned(),
                value.parse().expect("a value that is no number"),
            )
        });
        Self(parsed.collect())
    }

    /// The partitions that the replica owns.
    pub fn owned(&self) -> BTreeSet<i32> {
        self.by_partition("scanner_partition_owned")
            .into_keys()
            .collect()
    }

    /// One series, with its labels as the page writes them; 0 if it is not there.
    pub fn get(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or_default()
    }

    /// All series of a name, added up.
    pub fn sum(&self, name: &str) -> f64 {
        let of_name = |series: &&String| series.split('{').next() == Some(name);
        self.0
            .keys()
            .filter(of_name)
            .map(|series| self.get(series))
            .sum()
    }

    /// The series of a name by their only label, the partition.
    pub fn by_partition(&self, name: &str) -> BTreeMap<i32, f64> {
        let partition = |series: &str| {
            let label = series.strip_prefix(name)?.strip_prefix("{partition=\"")?;
            label.strip_suffix("\"}")?.parse().ok()
        };
        self.0
            .iter()
            .filter_map(|(series, value)| Some((partition(series)?, *value)))
            .collect()
    }
}
