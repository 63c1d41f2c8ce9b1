//! Conditions against a naive evaluator.

use proptest::prelude::*;

use super::*;

#[path = "../../../tests/generators/conditions.rs"]
mod generator;
use generator::{WORDS, rule_of, tree};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_true_condition_has_what_it_needs(
        tree in tree(),
        messages in prop::collection::vec(prop::array::uniform4(
            prop::collection::btree_set(0_i64..40, 0..4)), 20),
    ) {
        let rule = only(&rule_of("r", &tree));
        let unknown = rule.why.iter().any(|why| !why.starts_with("the condition may hold"));
        prop_assert!(!unknown, "{} {:?}", tree.write(), rule.why);
        for places in messages {
            let places = places.map(|places| places.into_iter().collect::<Vec<i64>>());
            let has = |atom: &Atom| match atom {
                Atom::Text { literal, .. } => WORDS
                    .iter()
                    .zip(&places)
                    .any(|(word, places)| {
                        word.to_lowercase().as_bytes() == &**literal && !places.is_empty()
                    }),
                _ => false,
            };
            if tree.holds(&places, None) {
                prop_assert!(rule.required.holds(&has), "{} {:?} {:?}", tree.write(), rule.required, places);
            }
        }
    }
}
