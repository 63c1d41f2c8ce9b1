//! What the run found, and how it is told.

use std::fmt::Write as _;

use serde::Serialize;

/// The least that three pods have to do of what one does.
pub const LEAST_SPEEDUP: f64 = 2.8;
/// The least share of its limit that each pod has to use while it is measured: else something else held it back.
pub const LEAST_USED: f64 = 0.9;
/// The least share of the machine that has to be left, idle or used by niced processes, which give way: else the machine held the pods back,
/// and not their limits.
pub const LEAST_LEFT: f64 = 0.1;

/// Everything that is told.
#[derive(Debug, Default, Serialize)]
pub struct Run {
    pub conditions: Conditions,
    pub first: State,
    /// From the first apply until one pod was ready and had all partitions.
    pub first_ms: u128,
    pub verdicts: Vec<Verdict>,
    pub log_lines: Vec<String>,
    pub one: Rate,
    /// From `kubectl scale` until each of three pods was ready and had one partition.
    pub scaled_ms: u128,
    pub three: State,
    pub three_rate: Rate,
    /// Records that waited when no more came, and how long it took until none did.
    pub waited: i64,
    pub drained_ms: u128,
    pub deleted: Fault,
    pub killed: Fault,
    pub eviction: Eviction,
    pub last: State,
    pub back_ms: u128,
    pub count: Count,
    pub events: Vec<Event>,
    pub samples: Vec<Sample>,
    /// Why the rates do not count; empty if they do.
    pub void: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
pub struct Conditions {
    pub cpu: String,
    pub cores: usize,
    pub kubernetes: String,
    pub broker: String,
    pub partitions: i32,
    /// Share of a core that each pod may use.
    pub limit: f64,
    pub signatures: u64,
    pub lines: usize,
    pub bytes_per_line: usize,
}

/// Pods, and who has which partitions.
#[derive(Debug, Default, Serialize)]
pub struct State {
    pub table: String,
    pub owned: Vec<(String, Vec<i32>)>,
}

/// A planted message and its result.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    pub text: String,
    pub status: String,
    pub name: String,
    pub severity: String,
    pub engines: String,
}

/// So many records in so much time, and what held the pods back.
#[derive(Debug, Default, Serialize)]
pub struct Rate {
    pub records: i64,
    pub seconds: f64,
    /// Of each pod's limit.
    pub used: Vec<f64>,
    /// Of the machine, idle or used by processes that give way.
    pub left: f64,
    /// The fewest records that waited meanwhile.
    pub least_lag: i64,
}

impl Rate {
    pub fn per_second(&self) -> f64 {
        self.records as f64 / self.seconds
    }
}

/// A pod that went under load.
#[derive(Debug, Default, Serialize)]
pub struct Fault {
    pub pod: String,
    /// Until three pods were ready and had a partition each.
    pub healed_ms: u128,
    /// The longest time without a result: of the partitions it had, and of others.
    pub its_gap_ms: i64,
    pub others_gap_ms: i64,
    pub restarts: u64,
    pub state: State,
}

/// Two pods are asked for at once.
#[derive(Debug, Default, Serialize)]
pub struct Eviction {
    pub granted: String,
    pub refused: String,
    pub reason: String,
    /// Until the second was granted, the first one's place being filled.
    pub granted_after_ms: u128,
}

/// All records and their results.
#[derive(Debug, Default, Serialize)]
pub struct Count {
    pub records: i64,
    pub lost: u64,
    /// Answered more than once: of the killed pod's partitions, and of others.
    pub twice_killed: u64,
    pub twice_others: u64,
    pub dead_letters: i64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Event {
    pub second: f64,
    pub what: String,
}

/// At a moment: what waits, and how many results there are so far.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    pub second: f64,
    pub lag: i64,
    pub results: i64,
}

impl Run {
    pub fn speedup(&self) -> f64 {
        self.three_rate.per_second() / self.one.per_second()
    }

    /// Why the rates say nothing about the pods.
    pub fn find_void(&self) -> Vec<String> {
        let mut void = Vec::new();
        for (pods, rate) in [(1, &self.one), (3, &self.three_rate)] {
            for used in &rate.used {
                if *used < LEAST_USED {
                    void.push(format!(
                        "with {pods}, a pod used {:.0} % of its limit only",
                        used * 100.0
                    ));
                }
            }
            if rate.left < LEAST_LEFT {
                void.push(format!(
                    "with {pods}, only {:.0} % of the machine were left",
                    rate.left * 100.0
                ));
            }
            if rate.least_lag <= 0 {
                void.push(format!("with {pods}, at some moment nothing waited"));
            }
        }
        void
    }

    /// `docs/scaling-demonstration.md`.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).unwrap();
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let c = &self.conditions;
        writeln!(
            out,
            "# The demonstration: from one pod to three\n\n\
             The deployment that came before this one (Python, with clamd beside it in each pod) had a report of being scaled from one replica to\n\
             three. This is the same again, and every number, table and line below is written by the run that measured it:\n\n\
             ```sh\nmake k8s-demo      # writes this page and its chart; needs root and Go 1.24\n```\n\n\
             A real Kubernetes {} (one node: kubelet, API server, controllers, scheduler), a real Apache Kafka {} with {} partitions, the image of\n\
             `make image` and [deploy/kustomize/overlays/three](../deploy/kustomize/overlays/three) with {} of a core for each pod. {} signatures; {} different log\n\
             lines of {} B in the mean. {}, {} cores, which the broker and the load have to share with the pods.\n",
            c.kubernetes,
            c.broker,
            c.partitions,
            c.limit,
            c.signatures,
            c.lines,
            c.bytes_per_line,
            c.cpu,
            c.cores
        )?;
        if !self.void.is_empty() {
            writeln!(out, "**The rates are void: {}.**\n", self.void.join("; "))?;
        }
        writeln!(
            out,
            "![Records a second and records that wait, over time; numbers are explained at the end](scaling-demonstration.svg)\n"
        )?;
        self.write_pods(out)?;
        self.write_threats(out)?;
        self.write_scaling(out)?;
        self.write_faults(out)?;
        self.write_end(out)
    }

    fn write_pods(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "## 1. The pod runs\n\n\
             *Before:* said to be operational; its pod was `1/2 CrashLoopBackOff` with 55 restarts, and the first assignment of partitions was empty.\n\n\
             *Measured:* from `kubectl apply` until the pod was ready and had all partitions: {:.1} s.\n\n```\n{}```\n\n{}",
            seconds(self.first_ms),
            self.first.table,
            owners(&self.first)
        )
    }

    fn write_threats(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "## 2. Threats are found, by name\n\n\
             *Before:* four kinds found by patterns; the virus scanner's own result was `null` in every one of them.\n\n\
             *Measured:* each message behind a syslog header, through `syslog-raw`; what `scan-results` says, `engines` being those that finished:\n\n\
             | message | status | threat_name | severity | engines |\n|---|---|---|---|---|"
        )?;
        for verdict in &self.verdicts {
            writeln!(
                out,
                "| `{}` | {} | {} | {} | {} |",
                verdict.text, verdict.status, verdict.name, verdict.severity, verdict.engines
            )?;
        }
        writeln!(
            out,
            "\nand in the pod's log:\n\n```json\n{}\n```\n",
            self.log_lines.join("\n")
        )
    }

    fn write_scaling(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "## 3. `kubectl scale --replicas=3`\n\n\
             *Before:* three partitions, one for each of three pods.\n\n\
             *Measured:* each pod ready and with one partition after {:.1} s.\n\n```\n{}```\n\n{}",
            seconds(self.scaled_ms),
            self.three.table,
            owners(&self.three)
        )?;
        writeln!(
            out,
            "## 4. Records a second\n\n\
             *Before:* three times as many, in a table of what was expected; nothing was measured.\n\n\
             *Measured*, with more on the topic than the pods can do:\n\n\
             | pods | records | seconds | records/s | × one | limit used | machine left |\n|---:|---:|---:|---:|---:|---|---:|"
        )?;
        for (pods, rate) in [(1, &self.one), (3, &self.three_rate)] {
            let used: Vec<_> = rate
                .used
                .iter()
                .map(|used| format!("{:.0} %", used * 100.0))
                .collect();
            writeln!(
                out,
                "| {pods} | {} | {:.1} | {:.0} | {:.2} | {} | {:.0} % |",
                rate.records,
                rate.seconds,
                rate.per_second(),
                rate.per_second() / self.one.per_second(),
                used.join(", "),
                rate.left * 100.0
            )?;
        }
        writeln!(
            out,
            "\nThe rates would be void unless each pod used {:.0} % of its limit, a tenth of the machine was left (idle, or\n\
             used by niced processes, which give way), and records waited all the time. At least {LEAST_SPEEDUP} is demanded.\n\n\
             ## 5. What waits is worked off\n\n\
             *Measured:* when no more came, {} records waited; the three pods had answered and committed them after {:.1} s.\n",
            LEAST_USED * 100.0,
            self.waited,
            seconds(self.drained_ms)
        )
    }

    fn write_faults(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "## 6. Pods go under load\n\n\
             *Before:* offsets were committed on a timer, so what was under way when a pod went was lost.\n\n\
             *Measured:* with half of what the three can do, one pod is deleted (`kubectl delete pod`), and later the process of one is killed\n\
             (`SIGKILL`). No results for so long, at most:\n\n\
             | what | three pods ready, a partition each, after | of its partitions | of the others | restarts |\n|---|---:|---:|---:|---:|"
        )?;
        for (what, fault) in [("deleted", &self.deleted), ("killed", &self.killed)] {
            writeln!(
                out,
                "| {what} | {:.1} s | {} ms | {} ms | {} |",
                seconds(fault.healed_ms),
                fault.its_gap_ms,
                fault.others_gap_ms,
                fault.restarts
            )?;
        }
        writeln!(
            out,
            "\nA deleted pod drains: it answers what it has read, commits and leaves the group, and its partitions are taken over at once. Nobody is\n\
             told of a killed one; its partitions wait until its session is over (`kafka.session_timeout`).\n\n\
             ```\n{}```\n",
            self.killed.state.table
        )?;
        writeln!(
            out,
            "## 7. One at a time\n\n\
             *Measured:* two evictions at once, as `kubectl drain` asks for them. `{}` may go, `{}` has to stay:\n\n\
             > {}\n\n\
             It may go {:.1} s later, when the first one's place is filled.\n",
            self.eviction.granted,
            self.eviction.refused,
            self.eviction.reason,
            seconds(self.eviction.granted_after_ms)
        )
    }

    fn write_end(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "## 8. Back to one\n\n\
             *Measured:* `kubectl scale --replicas=1`, and one pod has all partitions after {:.1} s.\n\n```\n{}```\n\n{}",
            seconds(self.back_ms),
            self.last.table,
            owners(&self.last)
        )?;
        let count = &self.count;
        writeln!(
            out,
            "## 9. The count\n\n\
             *Measured:* {} records, counted by partition and offset: {} without a result. Answered twice: {} of the killed pod's partitions,\n\
             {} of others. {} dead letters.\n\n\
             The numbers of the chart:\n\n\
             | | second | what |\n|---:|---:|---|",
            count.records, count.lost, count.twice_killed, count.twice_others, count.dead_letters
        )?;
        for (number, event) in (1..).zip(&self.events) {
            writeln!(out, "| {number} | {:.0} | {} |", event.second, event.what)?;
        }
        Ok(())
    }
}

fn seconds(millis: u128) -> f64 {
    millis as f64 / 1000.0
}

/// Who has which partitions, as a table.
fn owners(state: &State) -> String {
    let mut text = String::from("| pod | partitions |\n|---|---|\n");
    for (pod, partitions) in &state.owned {
        let list: Vec<_> = partitions.iter().map(ToString::to_string).collect();
        writeln!(text, "| `{pod}` | {} |", list.join(", ")).unwrap();
    }
    text
}
