//! Every seed, and every input that the fuzzers kept, without a fuzzer.

use std::fs;
use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    for kind in ["seeds", "corpus"] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(kind)
            .join(target);
        let entries = fs::read_dir(&directory);
        let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut inputs = 0;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let input =
                fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let outcome = std::panic::catch_unwind(|| check(&input));
            assert!(outcome.is_ok(), "{}: see above", path.display());
            inputs += 1;
        }
        assert!(
            inputs > 10,
            "only {inputs} inputs in {}",
            directory.display()
        );
    }
}

#[test]
fn every_kept_record_is_parsed_and_loses_nothing() {
    replay("message", fuzz::message::check);
}

#[test]
fn every_kept_record_has_bounded_and_true_views() {
    replay("views", fuzz::views::check);
}

#[test]
fn every_kept_rule_file_does_what_its_expressions_say() {
    replay("rules", fuzz::rules::check);
}

#[test]
fn every_kept_configuration_is_taken_or_refused_with_reasons() {
    replay("config", fuzz::config::check);
}

#[test]
fn every_kept_signature_file_is_read_and_clears_nothing_that_libclamav_reports() {
    replay("signatures", fuzz::signatures::check);
}

#[test]
fn every_kept_message_that_the_gate_clears_is_clean() {
    replay("gate", fuzz::gate::check);
}
