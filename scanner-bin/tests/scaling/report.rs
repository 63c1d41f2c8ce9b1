//! What a run found, whether it counts, and how it is told.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// The least share of its quota that each replica has to use while it is measured: else something else held it back.
pub const LEAST_USED: f64 = 0.9;
/// The least share of the machine that has to be left: else the machine held the replicas back, and not their quotas.
pub const LEAST_IDLE: f64 = 0.1;
/// The least that three replicas have to do of what one does.
pub const LEAST_SPEEDUP: f64 = 2.8;
/// Without results of partitions that stay with their replica while others move.
pub const LONGEST_STALL_MS: i64 = 500;

/// Everything that is known of a run; `scaling.json` is this.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub conditions: Conditions,
    pub steps: Vec<Step>,
    pub joins: Vec<Join>,
    pub half_load: HalfLoad,
    pub takeover: Takeover,
    pub count: Count,
    pub samples: Vec<Sample>,
    /// Why the run does not count; empty if it does.
    pub void: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    pub cpu: String,
    pub cores: usize,
    pub broker: String,
    pub partitions: i32,
    /// Share of one core that each replica has; `None` if they were not limited.
    pub quota: Option<f64>,
    pub signatures: u64,
    pub lines: usize,
    pub bytes_per_line: usize,
    /// Seconds of each measurement.
    pub window: f64,
    /// Whether time of niced processes is others' and would be given way.
    pub niced_counts: bool,
}

/// So many replicas, working off the topic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub replicas: usize,
    /// Who owns what.
    pub owned: Vec<Vec<i32>>,
    pub seconds: f64,
    pub records: u64,
    /// Share of its quota that each replica used; empty without quotas.
    pub used: Vec<f64>,
    /// Processor time for a record, in microseconds; 0 without quotas.
    pub cpu_us: f64,
    /// Share of the machine that nobody used, and that niced processes used.
    pub idle: f64,
    pub niced: f64,
    /// Records without a result at the end.
    pub lag: i64,
    /// The longest time without a result of any partition, in milliseconds.
    pub longest_gap_ms: i64,
}

/// One more replica.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Join {
    pub replicas: usize,
    pub before: Vec<usize>,
    pub after: Vec<usize>,
    /// From its signatures' being loaded until the partitions are shared anew.
    pub settled_ms: i64,
    /// The longest time without a result around it, of partitions that stayed, and of those that moved.
    pub stayed_ms: i64,
    pub moved_ms: i64,
}

/// All replicas, with half of what they can do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HalfLoad {
    pub per_second: f64,
    pub records: usize,
    pub p50_ms: i64,
    pub p99_ms: i64,
    pub most_ms: i64,
}

/// One replica is killed under half load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Takeover {
    pub partitions: Vec<i32>,
    pub after: Vec<usize>,
    pub after_ms: i64,
    /// The longest time without a result of its partitions, and of the others'.
    pub taken_over_ms: i64,
    pub others_ms: i64,
}

/// Records and results.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Count {
    pub records: i64,
    pub lost: u64,
    /// Answered more than once: of partitions of the killed one, and of others.
    pub twice_killed: u64,
    pub twice_others: u64,
}

/// The topic at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub second: f64,
    pub replicas: usize,
    /// Records that are not committed.
    pub lag: i64,
    /// Results that there are.
    pub results: i64,
}

impl Step {
    pub fn per_second(&self) -> f64 {
        self.records as f64 / self.seconds
    }
}

impl Run {
    /// How many times as much so many replicas do as one.
    pub fn speedup(&self, step: &Step) -> f64 {
        step.per_second() / self.steps[0].per_second()
    }

    /// Why it does not count, in words.
    pub fn find_void(&self) -> Vec<String> {
        let mut void = Vec::new();
        if self.conditions.quota.is_none() {
            void.push(String::from("the replicas were not limited"));
        }
        for step in &self.steps {
            let with = format!("with {} replica(s)", step.replicas);
            for (number, used) in step
                .used
                .iter()
                .enumerate()
                .filter(|(_, used)| **used < LEAST_USED)
            {
                let (used, least) = (used * 100.0, LEAST_USED * 100.0);
                void.push(format!(
                    "{with}, replica {number} used {used:.0} % of its quota: less than {least:.0} %"
                ));
            }
            let niced = if self.conditions.niced_counts {
                step.niced
            } else {
                0.0
            };
            if step.idle + niced < LEAST_IDLE {
                let (idle, niced, least) = (step.idle * 100.0, niced * 100.0, LEAST_IDLE * 100.0);
                void.push(format!(
                    "{with}, {idle:.0} % of the machine was idle and {niced:.0} % went to niced processes: less than {least:.0} %"
                ));
            }
            if step.lag <= 0 {
                void.push(format!("{with}, the topic ran dry"));
            }
        }
        void
    }

    /// The table.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let c = &self.conditions;
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let quota = c.quota.map_or(String::from("not limited"), |share| {
            format!("limited to {} of a core each", percent(share))
        });
        let mut line = |line: String| writeln!(text, "{line}").unwrap();
        for reason in &self.void {
            line(format!("**This run is void**: {reason}.\n"));
        }
        line(format!(
            "{}, {} cores; Apache Kafka {} beside it; {} partitions; replicas {quota}; {} signatures; {} different log lines of {} B \
             in the mean; {:.0} s for each count.\n",
            c.cpu,
            c.cores,
            c.broker,
            c.partitions,
            c.signatures,
            c.lines,
            c.bytes_per_line,
            c.window
        ));
        line(String::from(
            "| replicas | partitions | records/s | × one | quota used | µs of processor a record | idle | niced | longest gap |",
        ));
        line(String::from("|---:|---|---:|---:|---|---:|---:|---:|---:|"));
        for step in &self.steps {
            line(format!(
                "| {} | {} | {:.0} | {:.2} | {} | {:.1} | {} | {} | {} ms |",
                step.replicas,
                sizes(&step.owned.iter().map(Vec::len).collect::<Vec<_>>()),
                step.per_second(),
                self.speedup(step),
                step.used
                    .iter()
                    .map(|used| percent(*used))
                    .collect::<Vec<_>>()
                    .join(", "),
                step.cpu_us,
                percent(step.idle),
                percent(step.niced),
                step.longest_gap_ms
            ));
        }
        line(String::from(
            "\n| what happens | partitions | shared anew after | no results of those that stayed | of those that moved |",
        ));
        line(String::from("|---|---|---:|---:|---:|"));
        for join in &self.joins {
            line(format!(
                "| replica {} joins | {} → {} | {} ms | {} ms | {} ms |",
                join.replicas,
                sizes(&join.before),
                sizes(&join.after),
                join.settled_ms,
                join.stayed_ms,
                join.moved_ms
            ));
        }
        let t = &self.takeover;
        line(format!(
            "| one of {} is killed | {} → {} | {} ms | {} ms | {} ms |\n",
            self.steps.len(),
            sizes(
                &self.steps[self.steps.len() - 1]
                    .owned
                    .iter()
                    .map(Vec::len)
                    .collect::<Vec<_>>()
            ),
            sizes(&t.after),
            t.after_ms,
            t.others_ms,
            t.taken_over_ms
        ));
        let h = &self.half_load;
        line(format!(
            "At half load, {:.0} records/s over {} replicas, from a record's time until the broker has its result: p50 {} ms, p99 {} ms, \
             most {} ms, of {} records.\n",
            h.per_second,
            self.steps.len(),
            h.p50_ms,
            h.p99_ms,
            h.most_ms,
            h.records
        ));
        let n = &self.count;
        line(format!(
            "{} records, {} without a result; answered twice: {} of the killed replica's partitions, {} of others.",
            n.records, n.lost, n.twice_killed, n.twice_others
        ));
        text
    }
}

fn sizes(sizes: &[usize]) -> String {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    sizes
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join("+")
}
