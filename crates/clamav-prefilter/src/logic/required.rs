//! What an expression needs: the subsignatures without which it cannot be true.
//!
//! A condition that holds *without* a match (`0=0`, `(0|1)<3`) needs nothing: nothing can be said of it.

use std::collections::BTreeSet;

use super::expression::{BlockCount, Compare, Count, Expression, Operator};
use crate::required::Required;

/// The need of an expression, where `sub` says what each subsignature needs to match once.
pub(crate) fn required(expression: &Expression, sub: &impl Fn(usize) -> Required) -> Required {
    match expression {
        Expression::Leaf { id, count: None } => sub(*id),
        Expression::Leaf {
            id,
            count: Some(count),
        } => counted(*count, || sub(*id)),
        Expression::Both(operator, left, right, block) => {
            let sides = || {
                let sides = vec![required(left, sub), required(right, sub)];
                match operator {
                    Operator::And => Required::all(sides),
                    Operator::Or => Required::any(sides),
                }
            };
            match block {
                None => sides(),
                // The block itself is true, and some leaf counted a match.
                Some(block) => counted(block.count, || {
                    Required::all(vec![sides(), contributions(expression, *block, sub)])
                }),
            }
        }
    }
}

/// A count that at least one match must make true, or one that none may.
fn counted(count: Count, positive: impl FnOnce() -> Required) -> Required {
    match (count.compare, count.number) {
        (Compare::Less, 0) => Required::Never,
        (Compare::Less, _) | (Compare::Equal, 0) => Required::Always,
        (Compare::Equal | Compare::More, _) => positive(),
    }
}

/// Some subsignatures of a counted block matched: as many different ones as the block says, if each leaf
/// that is true has matched. A leaf such as `3<1` is true, and counts as a different one, without a match.
fn contributions(
    block: &Expression,
    count: BlockCount,
    sub: &impl Fn(usize) -> Required,
) -> Required {
    let mut leaves = Leaves::default();
    leaves.collect(block);
    let different = match leaves.all_positive {
        true => count.different.max(1) as usize,
        false => 1,
    };
    Required::at_least(different, leaves.ids.iter().map(|id| sub(*id)).collect())
}

struct Leaves {
    ids: BTreeSet<usize>,
    all_positive: bool,
}

impl Default for Leaves {
    fn default() -> Leaves {
        Leaves {
            ids: BTreeSet::new(),
            all_positive: true,
        }
    }
}

impl Leaves {
    fn collect(&mut self, expression: &Expression) {
        match expression {
            Expression::Leaf { id, count } => {
                self.ids.insert(*id);
                let negative = |count: &Count| {
                    matches!(
                        (count.compare, count.number),
                        (Compare::Less, _) | (Compare::Equal, 0)
                    )
                };
                self.all_positive &= !count.as_ref().is_some_and(negative);
            }
            Expression::Both(_, left, right, _) => {
                self.collect(left);
                self.collect(right);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::read;
    use super::*;
    use crate::required::Atom;

    fn sub(id: usize) -> Required {
        Required::Has(Atom::Length(id as u32))
    }

    /// libclamav's evaluation: whether it is true, how many matches, and of which subsignatures.
    fn value(expression: &Expression, counts: &[u32]) -> (bool, u32, BTreeSet<usize>) {
        let compare = |found: u32, count: &Count| match count.compare {
            Compare::Equal => found == count.number,
            Compare::More => found > count.number,
            Compare::Less => found < count.number,
        };
        match expression {
            Expression::Leaf { id, count } => {
                let found = counts[*id];
                let holds = count
                    .as_ref()
                    .map_or(found > 0, |count| compare(found, count));
                match holds {
                    true => (true, found, BTreeSet::from([*id])),
                    false => (false, 0, BTreeSet::new()),
                }
            }
            Expression::Both(operator, left, right, block) => {
                let (left, right) = (value(left, counts), value(right, counts));
                let holds = match operator {
                    Operator::And => left.0 && right.0,
                    Operator::Or => left.0 || right.0,
                };
                let (sum, ids) = match holds {
                    true => (left.1 + right.1, &left.2 | &right.2),
                    false => (0, BTreeSet::new()),
                };
                let Some(block) = block else {
                    return (holds, sum, ids);
                };
                let holds = compare(sum, &block.count)
                    && (block.different == 0 || ids.len() >= block.different as usize);
                (holds, if holds { sum } else { 0 }, BTreeSet::new())
            }
        }
    }

    fn text() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            3 => (0_usize..5).prop_map(|id| id.to_string()),
            1 => (0_usize..5, "[=<>]", 0_u32..4).prop_map(|(id, sign, n)| format!("{id}{sign}{n}")),
        ];
        leaf.prop_recursive(4, 16, 2, |inner| {
            prop_oneof![
                (inner.clone(), "[&|]", inner.clone()).prop_map(|(a, op, b)| format!("{a}{op}{b}")),
                (inner.clone(), "[&|]", inner, "(|[=<>][0-4](,[0-3])?)")
                    .prop_map(|(a, op, b, count)| format!("({a}{op}{b}){count}")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2000)))]

        #[test]
        fn whatever_is_true_has_what_it_needs(text in text()) {
            let Ok(expression) = read(text.as_bytes()) else { return Ok(()) };
            let required = required(&expression, &sub);
            // Every combination of none, one and three matches.
            for code in 0..3_usize.pow(5) {
                let counts: Vec<u32> =
                    (0..5).map(|id| [0, 1, 3][code / 3_usize.pow(id) % 3]).collect();
                if value(&expression, &counts).0 {
                    let has = |atom: &Atom| matches!(atom, Atom::Length(id) if counts[*id as usize] > 0);
                    prop_assert!(required.holds(&has), "{} {:?} {:?}", text, counts, required);
                }
            }
        }
    }

    #[test]
    fn a_need_is_as_narrow_as_the_expression_allows() {
        for (text, expected) in [
            ("0=0", Required::Always),
            ("0<2", Required::Always),
            ("0<0", Required::Never),
            ("(0|1)=0|2", Required::Always),
            ("0&1=0", sub(0)),
            ("0&1", Required::all(vec![sub(0), sub(1)])),
            (
                "(0|1|2)>1,2",
                Required::all(vec![
                    Required::any(vec![sub(0), sub(1), sub(2)]),
                    Required::at_least(2, vec![sub(0), sub(1), sub(2)]),
                ]),
            ),
            ("(0|1<1)>1,2", Required::any(vec![sub(0), sub(1)])),
        ] {
            let read = read(text.as_bytes()).expect(text);
            assert_eq!(required(&read, &sub), expected, "{text}");
        }
    }
}
