//! The replicas, their quotas, and what they do in a window of time.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cgroup::{Controller, Group};
use crate::report::Step;
use crate::support::machine::Machine;
use crate::support::process::Scanner;
use crate::support::scene::Scene;
use crate::support::tally::Millis;
use crate::support::{announce, now_ms, wait_for};
use crate::watch::Watch;
use crate::{PARTITIONS, PATIENCE, Plan, QUOTA};

/// How replicas share the partitions: 6, 3+3, 2+2+2.
pub fn even(replicas: usize) -> Vec<usize> {
    vec![PARTITIONS as usize / replicas; replicas]
}

/// One replica with its quota.
pub struct Replica {
    // First, so that it is gone when its group is removed.
    pub scanner: Scanner,
    group: Option<Group>,
}

/// The replicas and all that they are measured with.
pub struct Measuring<'s> {
    pub scene: &'s Scene<'s>,
    pub plan: &'s Plan,
    pub database: &'s Path,
    pub controller: Option<Controller>,
    pub replicas: Vec<Replica>,
    pub watch: &'s Watch<'s>,
}

impl Measuring<'_> {
    /// One more replica. Its quota begins when its signatures are loaded, which is when it joins. Returns when that was.
    pub fn add(&mut self) -> Millis {
        let number = self.replicas.len();
        let group = self.controller.as_ref().map(|controller| {
            let name = format!("{}-{number}", std::process::id());
            controller
                .group(&name, QUOTA)
                .unwrap_or_else(|reason| panic!("no quota for a replica: {reason}"))
        });
        let mut launch = self
            .scene
            .replica(&format!("replica-{number}"))
            // A line for each detection is not what is measured, and this program would have to keep them.
            .env("SCANNER_OPS__LOG", "error");
        if self.plan.signatures.is_some() {
            launch = launch.flag("--database", self.database);
        }
        let scanner = launch.start();
        wait_for("the signatures", PATIENCE, || {
            scanner
                .get("/startupz")
                .filter(|(status, _)| *status == 200)
        });
        if let Some(group) = &group {
            group.add(scanner.pid()).unwrap();
        }
        self.replicas.push(Replica { scanner, group });
        self.watch.set_replicas(self.replicas.len());
        now_ms()
    }

    pub fn shared(&self, sizes: &[usize]) -> Vec<BTreeSet<i32>> {
        let replicas: Vec<_> = self
            .replicas
            .iter()
            .map(|replica| &replica.scanner)
            .collect();
        self.scene.wait_until_shared(&replicas, sizes, PATIENCE)
    }

    fn used(&self) -> Vec<Duration> {
        self.replicas
            .iter()
            .filter_map(|replica| Some(replica.group.as_ref()?.used()))
            .collect()
    }

    pub fn results(&self) -> i64 {
        self.scene.broker.ends(&self.scene.output).values().sum()
    }

    /// What the replicas do in a window, and when that was.
    pub fn step(&self, owned: &[BTreeSet<i32>]) -> (Step, RangeInclusive<Millis>) {
        std::thread::sleep(self.plan.warm_up);
        let (used, machine, results) = (self.used(), Machine::now(), self.results());
        let (started, from) = (Instant::now(), now_ms());
        std::thread::sleep(self.plan.window);
        let (used_then, machine_then, results_then) = (self.used(), Machine::now(), self.results());
        let (seconds, to) = (started.elapsed().as_secs_f64(), now_ms());
        let records = u64::try_from(results_then - results).unwrap();
        let used: Vec<_> = used
            .iter()
            .zip(&used_then)
            .map(|(before, then)| (*then - *before).as_secs_f64())
            .collect();
        let (idle, niced) = machine_then.shares_since(&machine);
        let sent: i64 = self.scene.broker.ends(&self.scene.input).values().sum();
        let step = Step {
            replicas: self.replicas.len(),
            owned: owned
                .iter()
                .map(|owned| owned.iter().copied().collect())
                .collect(),
            seconds,
            records,
            cpu_us: used.iter().sum::<f64>() * 1e6 / (records.max(1) as f64),
            used: used.iter().map(|used| used / seconds / QUOTA).collect(),
            idle,
            niced,
            lag: sent - results_then,
            longest_gap_ms: 0,
        };
        announce!(
            "scaling: {} replica(s): {:.0} records/s",
            step.replicas,
            step.per_second()
        );
        (step, from..=to)
    }
}
