//! The promises of rule sets.
use scanlib::rules::*;
#[test]
fn every_sample_of_the_builtin_rules_does_what_the_file_says() {
    let rules = RuleSet::parse("builtin.toml", include_str!("../src/rules/builtin.toml"))
        .unwrap_or_else(|e| panic!("{e}"));
    let failures: Vec<_> = check_samples(&rules)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(failures.is_empty(), "{failures:#?}");
}
