//! Measurements that need a process of their own: what a load costs where nothing was loaded before, and memory.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// What a child is to measure.
const ROLE: &str = "BENCH_CHILD";

/// What this process was started for by [`measure`]; `None` for the bench itself.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Starts this program again for one measurement, with these variables in its environment.
///
/// # Panics
///
/// It cannot be started, fails, or tells what is no number: a bench cannot go on.
#[allow(clippy::expect_used)]
pub fn measure(role: &str, variables: &[(&str, &str)]) -> Numbers {
    let program = std::env::current_exe().expect("this program has a name");
    let output = Command::new(program)
        .env(ROLE, role)
        .envs(variables.iter().copied())
        .stderr(Stdio::inherit())
        .output()
        .expect("this program starts again");
    let status = output.status;
    assert!(
        status.success(),
        "the child that measures {role} ends with {status}"
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |line: &str| -> Option<(String, f64)> {
        let (name, value) = line.split_once('\t')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    Numbers(text.lines().filter_map(number).collect())
}

/// Tells a number to the process that started this one.
pub fn tell(name: &str, value: f64) {
    println!("{name}\t{value}");
}

/// What a child told.
#[derive(Clone, Debug)]
pub struct Numbers(BTreeMap<String, f64>);

impl Numbers {
    /// # Panics
    ///
    /// The child did not tell it.
    pub fn get(&self, name: &str) -> f64 {
        let number = self.0.get(name).copied();
        number.unwrap_or_else(|| panic!("the child did not tell {name}: {self:?}"))
    }

    /// Of several children the middle one's number.
    pub fn middle(of: &[Numbers], name: &str) -> f64 {
        let mut all: Vec<f64> = of.iter().map(|numbers| numbers.get(name)).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    }
}
