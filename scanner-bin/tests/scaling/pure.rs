//! What decides whether a run counts, without a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cgroup::Controller;
use crate::chart::chart;
use crate::report::{Conditions, LEAST_SPEEDUP, Run, Step};
use crate::support::machine::Machine;
use crate::support::tally::{Origin, Tally, quantile};
use crate::support::workspace;

/// Three replicas that did `speedup` times what one did, all with these shares.
fn run(used: f64, idle: f64, niced: f64, niced_counts: bool) -> Run {
    let step = |replicas: usize| Step {
        replicas,
        owned: vec![vec![0; 6 / replicas]; replicas],
        seconds: 2.0,
        records: 20_000 * replicas as u64,
        used: vec![used; replicas],
        idle,
        niced,
        lag: 1,
        ..Step::default()
    };
    Run {
        conditions: Conditions {
            quota: Some(0.2),
            niced_counts,
            ..Conditions::default()
        },
        steps: (1..=3).map(step).collect(),
        ..Run::default()
    }
}

#[test]
fn a_run_counts_only_if_quotas_were_used_and_the_machine_had_room() {
    assert_eq!(run(0.9, 0.1, 0.0, true).find_void(), [""; 0]);
    let held_back = run(0.89, 0.5, 0.0, true).find_void();
    assert_eq!(held_back.len(), 6, "{held_back:?}");
    assert!(
        held_back[0].contains("with 1 replica(s), replica 0 used 89 % of its quota"),
        "{held_back:?}"
    );
    let full = run(1.0, 0.05, 0.04, true).find_void();
    assert_eq!(full.len(), 3, "{full:?}");
    assert!(
        full[2].contains("with 3 replica(s), 5 % of the machine was idle and 4 % went to niced"),
        "{full:?}"
    );
    assert_eq!(
        run(1.0, 0.05, 0.05, true).find_void(),
        [""; 0],
        "niced processes would have given way"
    );
    assert_eq!(
        run(1.0, 0.05, 0.9, false).find_void().len(),
        3,
        "the niced processes are the run's own"
    );
    let mut unlimited = run(1.0, 0.5, 0.0, true);
    unlimited.conditions.quota = None;
    assert_eq!(unlimited.find_void(), ["the replicas were not limited"]);
    let mut dry = run(1.0, 0.5, 0.0, true);
    dry.steps[2].lag = 0;
    assert_eq!(dry.find_void(), ["with 3 replica(s), the topic ran dry"]);
}

#[test]
fn a_void_run_says_so_in_its_table_and_in_its_chart() {
    let mut void = run(0.5, 0.5, 0.0, true);
    assert!(!void.markdown().contains("void") && !chart(&void).contains("VOID"));
    void.void = void.find_void();
    assert!(
        void.markdown()
            .starts_with("**This run is void**: with 1 replica(s), replica 0 used 50 %")
    );
    assert!(chart(&void).contains("VOID"));
    assert!(chart(&void).contains(">30000, × 3.00<"), "{}", chart(&void));
}

#[test]
fn a_run_is_the_same_after_it_was_written_and_read() {
    let run = run(0.95, 0.4, 0.1, true);
    assert_eq!(
        serde_json::from_str::<Run>(&serde_json::to_string(&run).unwrap()).unwrap(),
        run
    );
}

#[test]
fn the_kernel_is_read_as_it_writes() {
    let before = Machine::of("cpu  100 20 30 400 50 6 7 8 9 10\ncpu0 1 2 3\n");
    assert_eq!(
        before,
        Machine {
            idle: 450,
            niced: 20,
            total: 621
        }
    );
    let after = Machine::of("cpu  110 40 30 450 70 6 7 8 9 10\n");
    assert_eq!(after.shares_since(&before), (0.7, 0.2));
}

#[test]
fn either_version_of_control_groups_is_found() {
    let found = |mounts: &str, own: &str| Controller::of(mounts, own);
    let one = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /c/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\ncgroup2 /c/unified cgroup2 rw 0 0\n";
    let both = PathBuf::from("/c/cpu,cpuacct");
    assert_eq!(
        found(one, "3:cpu:/\n"),
        Ok(Controller::One {
            cpu: both.clone(),
            cpuacct: both
        })
    );
    let apart = "cgroup /c/cpu cgroup rw,cpu 0 0\ncgroup /c/cpuset cgroup rw,cpuset 0 0\ncgroup /c/acct cgroup rw,cpuacct 0 0\n";
    assert_eq!(
        found(apart, ""),
        Ok(Controller::One {
            cpu: "/c/cpu".into(),
            cpuacct: "/c/acct".into()
        })
    );
    let two = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
    let parents = [
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/user.slice",
        "/sys/fs/cgroup/user.slice/a.scope",
    ];
    assert_eq!(
        found(two, "0::/user.slice/a.scope\n"),
        Ok(Controller::Two {
            parents: parents.map(PathBuf::from).to_vec()
        })
    );
    assert!(
        found("proc /proc proc rw 0 0\n", "")
            .unwrap_err()
            .contains("no cgroup hierarchy")
    );
}

/// A made-up group of version 2, in which the kernel's files are ordinary ones.
fn group(dir: &Path, enabled: &str) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("cgroup.subtree_control"), enabled).unwrap();
}

#[test]
fn a_quota_of_version_2_is_set_below_the_first_group_that_allows_it() {
    let root = tempfile::tempdir().unwrap();
    let below = root.path().join("a.slice");
    // A directory in place of the file: it cannot be written, as in a group that may not have children.
    fs::create_dir_all(root.path().join("cgroup.subtree_control")).unwrap();
    group(&below, "cpu memory\n");
    let controller = Controller::Two {
        parents: vec![root.path().to_owned(), below.clone()],
    };
    let group = controller.group("1", 0.2).unwrap();
    let dir = below.join("scanner-scaling-1");
    assert_eq!(
        fs::read_to_string(dir.join("cpu.max")).unwrap(),
        "20000 100000"
    );
    group.add(4711).unwrap();
    assert_eq!(
        fs::read_to_string(dir.join("cgroup.procs")).unwrap(),
        "4711"
    );
    fs::write(
        dir.join("cpu.stat"),
        "usage_usec 1234567\nuser_usec 1\nsystem_usec 2\n",
    )
    .unwrap();
    assert_eq!(group.used(), Duration::from_micros(1_234_567));

    let nowhere = Controller::Two {
        parents: vec![root.path().to_owned()],
    };
    let refused = nowhere.group("2", 0.2).unwrap_err();
    assert!(
        refused.contains("cgroup.subtree_control") && refused.contains("cannot write +cpu"),
        "{refused}"
    );
}

fn origin(partition: i32, offset: i64, timestamp: i64) -> Origin {
    Origin {
        partition,
        offset,
        timestamp: Some(timestamp),
    }
}

#[test]
fn a_tally_counts_what_is_lost_and_what_is_doubled_and_finds_gaps() {
    let mut tally = Tally::default();
    for (offset, arrived) in [(0, 100), (1, 100), (1, 110), (3, 450), (4, 460)] {
        tally.add(&origin(2, offset, 90), arrived);
    }
    let (lost, twice) = tally.count(&[(2, 6), (3, 2)].into());
    assert_eq!(
        (lost, twice),
        (4, [(2, 1), (3, 0)].into()),
        "2 and 5 of partition 2, all of partition 3"
    );
    assert_eq!(tally.longest_gap(2, &(100..=500)), 340);
    assert_eq!(
        tally.longest_gap(2, &(120..=400)),
        280,
        "nothing came at all"
    );
    assert_eq!(
        tally.longest_gap(2, &(450..=900)),
        440,
        "and nothing at the end"
    );
    assert_eq!(tally.latencies(&(90..=90)), [10, 10, 20, 360, 370]);
    assert_eq!(tally.latencies(&(0..=89)), [0_i64; 0]);
}

#[test]
fn quantiles_are_values_that_were_measured() {
    let sorted: Vec<i64> = (1..=200).collect();
    assert_eq!(
        [0.5, 0.99, 1.0].map(|share| quantile(&sorted, share)),
        [100, 198, 200]
    );
    assert_eq!(quantile(&[7], 0.99), 7);
}

/// The table and the chart in the documents are those of the run that is kept beside them, and that run counts.
#[test]
fn the_documents_show_the_run_that_is_kept() {
    const BEGIN: &str = "<!-- the run, from scaling.json -->\n";
    const END: &str = "<!-- the end of it -->\n";
    let docs = workspace().join("docs");
    let read = |name: &str| fs::read_to_string(docs.join(name)).unwrap();
    let run: Run = serde_json::from_str(&read("scaling.json")).unwrap();
    assert_eq!(run.find_void(), [""; 0]);
    assert!(run.speedup(&run.steps[2]) >= LEAST_SPEEDUP);
    let page = read("scaling.md");
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = [
        (
            "scaling.md",
            [before, BEGIN, &run.markdown(), END, after].concat(),
        ),
        ("scaling.svg", chart(&run)),
    ];
    if std::env::var_os("UPDATE_DOCS").is_some() {
        wanted
            .iter()
            .for_each(|(name, text)| fs::write(docs.join(name), text).unwrap());
    }
    for (name, text) in wanted {
        assert!(
            read(name) == text,
            "run the test once with UPDATE_DOCS=1 to write docs/{name} anew"
        );
    }
}
