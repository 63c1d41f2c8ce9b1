//! Conditions of YARA rules over four strings: a generator, and a naive evaluator.
//!
//! Included by the tests of this crate and by those of `scanlib`, which compare both with libclamav.

#![allow(dead_code, missing_docs, unreachable_pub)]

use proptest::prelude::*;

/// A condition over four strings, as it is written, and what it means.
#[derive(Clone, Debug)]
pub enum Tree {
    True,
    False,
    Found(Who),
    At(Who, u8),
    In(Who, u8, u8),
    Count(Who, &'static str, u8),
    CountTurned(u8, &'static str, Who),
    Place(Who, u8, &'static str, u8),
    Places(Who, &'static str, Who),
    Not(Box<Tree>),
    And(Vec<Tree>),
    Or(Vec<Tree>),
    Of(Many, Vec<usize>),
    ForOf(Many, Vec<usize>, Box<Tree>),
    ForIn(Many, u8, Box<Tree>),
}

/// A string by its number, or the one that the loop around is at.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    Of(usize),
    Here,
}

#[derive(Clone, Copy, Debug)]
pub enum Many {
    Any,
    All,
    Some(u8),
}

pub const NAMES: [&str; 4] = ["ka", "kb", "la", "lb"];
pub const WORDS: [&str; 4] = ["Tango", "uniform", "victor x", "whisky"];

impl Who {
    fn name(self) -> &'static str {
        match self {
            Who::Of(index) => NAMES[index],
            Who::Here => "",
        }
    }

    fn places(self, places: &[Vec<i64>; 4], here: Option<usize>) -> &[i64] {
        match self {
            Who::Of(index) => &places[index],
            Who::Here => here.map_or(&[], |here| &places[here]),
        }
    }
}

impl Many {
    fn write(self) -> String {
        match self {
            Many::Any => "any".to_owned(),
            Many::All => "all".to_owned(),
            Many::Some(count) => count.to_string(),
        }
    }

    fn holds(self, of: &[bool]) -> bool {
        let count = of.iter().filter(|one| **one).count();
        match self {
            Many::Any => count >= 1,
            Many::All => count == of.len(),
            Many::Some(wanted) => count >= usize::from(wanted),
        }
    }
}

pub fn compare(left: i64, op: &str, right: i64) -> bool {
    match op {
        "==" => left == right,
        "!=" => left != right,
        "<" => left < right,
        "<=" => left <= right,
        ">" => left > right,
        _ => left >= right,
    }
}

impl Tree {
    pub fn write(&self) -> String {
        let set = |set: &[usize]| {
            let names: Vec<String> = set
                .iter()
                .map(|index| format!("${}", NAMES[*index]))
                .collect();
            format!("({})", names.join(", "))
        };
        let all = |trees: &[Tree], word: &str| {
            let parts: Vec<String> = trees
                .iter()
                .map(|tree| format!("({})", tree.write()))
                .collect();
            parts.join(word)
        };
        match self {
            Tree::True => "true".to_owned(),
            Tree::False => "false".to_owned(),
            Tree::Found(who) => format!("${}", who.name()),
            Tree::At(who, at) => format!("${} at {at}", who.name()),
            Tree::In(who, low, high) => format!("${} in ({low}..{high})", who.name()),
            Tree::Count(who, op, n) => format!("#{} {op} {n}", who.name()),
            Tree::CountTurned(n, op, who) => format!("{n} {op} #{}", who.name()),
            Tree::Place(who, 1, op, n) => format!("@{} {op} {n}", who.name()),
            Tree::Place(who, nth, op, n) => format!("@{}[{nth}] {op} {n}", who.name()),
            Tree::Places(who, op, other) => format!("@{} {op} @{}", who.name(), other.name()),
            Tree::Not(tree) => format!("not ({})", tree.write()),
            Tree::And(trees) => all(trees, " and "),
            Tree::Or(trees) => all(trees, " or "),
            Tree::Of(many, indices) if *indices == [0, 1, 2, 3] => {
                format!("{} of them", many.write())
            }
            Tree::Of(many, indices) => format!("{} of {}", many.write(), set(indices)),
            Tree::ForOf(many, indices, tree) => {
                format!(
                    "for {} of {} : ({})",
                    many.write(),
                    set(indices),
                    tree.write()
                )
            }
            Tree::ForIn(many, upto, tree) => {
                format!("for {} i in (1..{upto}) : ({})", many.write(), tree.write())
            }
        }
    }

    /// Whether it is true where the strings match at these places.
    pub fn holds(&self, places: &[Vec<i64>; 4], here: Option<usize>) -> bool {
        let of = |who: &Who| who.places(places, here).to_vec();
        let count = |who: &Who| of(who).len() as i64;
        match self {
            Tree::True => true,
            Tree::False => false,
            Tree::Found(who) => count(who) > 0,
            Tree::At(who, at) => of(who).contains(&i64::from(*at)),
            Tree::In(who, low, high) => of(who)
                .iter()
                .any(|at| (i64::from(*low)..=i64::from(*high)).contains(at)),
            Tree::Count(who, op, n) => compare(count(who), op, i64::from(*n)),
            Tree::CountTurned(n, op, who) => compare(i64::from(*n), op, count(who)),
            Tree::Place(who, nth, op, n) => (usize::from(*nth).checked_sub(1))
                .and_then(|nth| of(who).get(nth).copied())
                .is_some_and(|at| compare(at, op, i64::from(*n))),
            Tree::Places(who, op, other) => {
                let first = |who| of(who).first().copied();
                first(who)
                    .zip(first(other))
                    .is_some_and(|(one, other)| compare(one, op, other))
            }
            Tree::Not(tree) => !tree.holds(places, here),
            Tree::And(trees) => trees.iter().all(|tree| tree.holds(places, here)),
            Tree::Or(trees) => trees.iter().any(|tree| tree.holds(places, here)),
            Tree::Of(many, indices) => {
                let found: Vec<bool> = indices
                    .iter()
                    .map(|index| !places[*index].is_empty())
                    .collect();
                many.holds(&found)
            }
            Tree::ForOf(many, indices, tree) => {
                let found: Vec<bool> = indices
                    .iter()
                    .map(|index| tree.holds(places, Some(*index)))
                    .collect();
                many.holds(&found)
            }
            Tree::ForIn(many, upto, tree) => {
                let found = vec![tree.holds(places, here); usize::from(*upto)];
                many.holds(&found)
            }
        }
    }
}

pub fn many() -> impl Strategy<Value = Many> {
    prop_oneof![
        Just(Many::Any),
        Just(Many::All),
        (0_u8..5).prop_map(Many::Some)
    ]
}

pub fn op() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="])
}

pub fn indices() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        1 => Just(vec![0, 1, 2, 3]),
        3 => prop::collection::vec(0_usize..4, 1..5),
    ]
}

pub fn leaf(who: impl Strategy<Value = Who> + Clone) -> impl Strategy<Value = Tree> {
    prop_oneof![
        1 => Just(Tree::True),
        1 => Just(Tree::False),
        6 => who.clone().prop_map(Tree::Found),
        2 => (who.clone(), 0_u8..40).prop_map(|(who, at)| Tree::At(who, at)),
        2 => (who.clone(), 0_u8..40, 0_u8..80)
            .prop_map(|(who, low, high)| Tree::In(who, low, high)),
        4 => (who.clone(), op(), 0_u8..3).prop_map(|(who, op, n)| Tree::Count(who, op, n)),
        2 => (0_u8..3, op(), who.clone()).prop_map(|(n, op, who)| Tree::CountTurned(n, op, who)),
        3 => (who.clone(), 0_u8..3, op(), 0_u8..40)
            .prop_map(|(who, nth, op, n)| Tree::Place(who, nth, op, n)),
        1 => (who.clone(), op(), who).prop_map(|(one, op, other)| Tree::Places(one, op, other)),
    ]
}

pub fn junctions(leaf: impl Strategy<Value = Tree> + 'static) -> impl Strategy<Value = Tree> {
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            2 => inner.clone().prop_map(|tree| Tree::Not(Box::new(tree))),
            4 => prop::collection::vec(inner.clone(), 2..4).prop_map(Tree::And),
            4 => prop::collection::vec(inner, 2..4).prop_map(Tree::Or),
        ]
    })
}

pub fn tree() -> impl Strategy<Value = Tree> {
    let who = (0_usize..4).prop_map(Who::Of);
    let here = prop_oneof![2 => Just(Who::Here), 1 => (0_usize..4).prop_map(Who::Of)];
    let inner = junctions(leaf(here)).boxed();
    let outer = prop_oneof![
        4 => leaf(who.clone()),
        2 => (many(), indices()).prop_map(|(many, set)| Tree::Of(many, set)),
        2 => (many(), indices(), inner).prop_map(|(many, set, tree)| {
            Tree::ForOf(many, set, Box::new(tree))
        }),
        1 => (many(), 1_u8..4, junctions(leaf(who)))
            .prop_map(|(many, upto, tree)| Tree::ForIn(many, upto, Box::new(tree))),
    ];
    junctions(outer)
}

/// A rule with that condition, in which every string is named.
pub fn rule_of(name: &str, tree: &Tree) -> String {
    let strings = NAMES.iter().zip(WORDS);
    let strings: String = strings
        .map(|(name, word)| format!("${name} = \"{word}\" "))
        .collect();
    format!(
        "rule {name} {{ strings: {strings} condition: ({}) and 0 of them }}\n",
        tree.write()
    )
}
