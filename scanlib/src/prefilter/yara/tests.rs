//! Rules as a whole: a table, a naive evaluator of conditions, libclamav itself, and what others
//! have published.

use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;
use crate::prefilter::need::Atom;
use crate::prefilter::text;
use crate::{EngineBuilder, Library, Payload, Request, ScanOptions};

/// Knows of body patterns only the bytes that stand in them as they are.
fn body(pattern: &str, _: BodyOptions) -> Result<Need, String> {
    let mut runs = vec![Vec::new()];
    let mut depth = 0;
    let mut digits = pattern.chars();
    while let Some(high) = digits.next() {
        match high {
            '(' | '{' => depth += 1,
            ')' | '}' => depth -= 1,
            _ if depth > 0 => {}
            '*' => {}
            _ => {
                let pair: String = [high].into_iter().chain(digits.next()).collect();
                match u8::from_str_radix(&pair, 16) {
                    Ok(byte) if pair.len() == 2 => {
                        runs.last_mut().unwrap().push(byte);
                        continue;
                    }
                    Err(_) if pair.len() == 2 && pair.contains('?') => {}
                    _ => return Err("no body pattern".to_owned()),
                }
            }
        }
        runs.push(Vec::new());
    }
    if runs.iter().flatten().any(|byte| text::is_foreign(*byte)) {
        return Ok(Need::Never);
    }
    let needs = runs.iter().map(|run| literal::normalised(run, None));
    Ok(Need::all(needs.collect()))
}

fn parse_text(rules: &str) -> Vec<YaraRule> {
    parse(rules.as_bytes(), &body)
}

fn only(rules: &str) -> YaraRule {
    let mut rules = parse_text(rules);
    assert_eq!(rules.len(), 1, "{rules:?}");
    rules.remove(0)
}

/// Whether a plain message fulfils a need.
pub(super) fn holds(need: &Need, message: &[u8]) -> bool {
    let mut normalised = Vec::new();
    text::normalise(message, &mut normalised);
    let lower = message.to_ascii_lowercase();
    need.holds(&|atom| match atom {
        Atom::Text { literal, by } => memchr::memmem::find(&normalised, literal)
            .is_some_and(|at| by.is_none_or(|by| at <= by as usize)),
        Atom::Raw(literal) => memchr::memmem::find(&lower, literal).is_some(),
        Atom::Length(len) => message.len() >= *len as usize,
    })
}

/// The need in short: `a` is the string `$a`.
fn short(need: &Need) -> String {
    match need {
        Need::Never => "never".to_owned(),
        Need::Always => "always".to_owned(),
        Need::Has(Atom::Text { literal, by }) => {
            let text = String::from_utf8_lossy(literal).replace("alpha", "a");
            let text = text.replace("bravo", "b").replace("charlie", "c");
            format!("{text}{}", by.map_or(String::new(), |by| format!("@{by}")))
        }
        Need::Has(atom) => format!("{atom:?}"),
        Need::AtLeast(count, needs) => {
            let needs: Vec<String> = needs.iter().map(short).collect();
            format!("{count} of ({})", needs.join(", "))
        }
    }
}

fn condition(condition: &str) -> YaraRule {
    only(&format!(
        "rule r {{ strings: $a = \"Alpha\" $b1 = \"bravo\" nocase $b2 = \"charlie\" fullword \
         $n = {{ 00 01 02 }} $u = /.*/ condition: {condition} }}"
    ))
}

#[test]
fn what_conditions_need() {
    for (text, expected) in [
        // Strings.
        ("$a", "a"),
        ("$a at 100", "a"),
        ("$a at #b1 + 2", "a"),
        ("$a in (0..filesize)", "a"),
        ("@a[1] > 2", "a"),
        ("@a == 2", "a"),
        ("2 != @a[#b1]", "a"),
        ("@a[1] < @b1[2]", "2 of (a, b)"),
        ("!a[1] == 5", "a"),
        ("$n", "never"),
        ("$u", "always"),
        // Counts.
        ("#a > 0", "a"),
        ("#a >= 1", "a"),
        ("#a == 3", "a"),
        ("#a != 0", "a"),
        ("0 < #a", "a"),
        ("1 <= #a", "a"),
        ("(#a) > (0)", "a"),
        ("#a >= 0", "always"),
        ("#a == 0", "always"),
        ("#a != 1", "always"),
        ("#a < 3", "always"),
        ("#a <= 3", "always"),
        ("3 > #a", "always"),
        ("#a > #b1", "always"),
        ("#a + 1 > 1", "always"),
        ("#a > 1 - 1", "always"),
        ("#a >= 0x100000000", "always"),
        ("#a >= 0xffffffff", "always"),
        ("#a >= 17592186044416MB", "always"),
        ("#a", "always"),
        // Junctions.
        ("$a and $b1", "2 of (a, b)"),
        ("$a or $b1", "1 of (a, b)"),
        ("$a or $b1 and $b2", "1 of (a, 2 of (b, c))"),
        ("($a or $b1) and $b2", "2 of (1 of (a, b), c)"),
        ("not $a", "always"),
        ("not $a and $b1", "b"),
        ("not not $a or $b1", "always"),
        ("$n and $u", "never"),
        ("$n or $a", "a"),
        ("$u and $a", "a"),
        ("true", "always"),
        ("false", "never"),
        ("false or $a", "a"),
        // What is not known of a message.
        ("filesize < 10KB", "always"),
        ("filesize > 5 and $a", "a"),
        ("entrypoint == 5", "always"),
        ("other", "always"),
        ("other and $a", "a"),
        ("pe.sections[0].name contains \"x\" and $a", "a"),
        ("math.entropy(0, filesize) > 7 and $a", "a"),
        ("\"abc\" matches /b/ and $a", "a"),
        // Sets.
        ("any of them", "always"),
        ("any of ($a, $b*)", "1 of (a, b, c)"),
        ("1 of ($a, $b*)", "1 of (a, b, c)"),
        ("2 of ($a, $b*)", "2 of (a, b, c)"),
        ("2 of ($a, $a)", "a"),
        ("2 of ($a, $a, $b1)", "2 of (a, a, b)"),
        ("all of ($a, $b*)", "3 of (a, b, c)"),
        ("3 of ($a, $b*)", "3 of (a, b, c)"),
        ("4 of ($a, $b*)", "never"),
        ("all of them", "never"),
        ("4 of them", "3 of (a, b, c)"),
        ("0 of ($a, $b*)", "always"),
        ("0x100000000 of ($a, $b*)", "always"),
        ("#a of ($b*)", "always"),
        ("none of ($a)", "always"),
        ("any of ($b*) and $a", "2 of (1 of (b, c), a)"),
        // Loops.
        ("for any of ($a, $b*) : ($)", "1 of (a, b, c)"),
        ("for all of ($a, $b*) : (# > 2)", "3 of (a, b, c)"),
        (
            "for 2 of ($a, $b*) : (@[1] < 9 or $ at 0)",
            "2 of (a, b, c)",
        ),
        (
            "for any of ($b*) : ($ and $a)",
            "1 of (2 of (b, a), 2 of (c, a))",
        ),
        ("for 0 of ($b*) : ($)", "always"),
        ("for all of ($b*) : (not $)", "always"),
        ("for any i in (1..#a) : (@a[i] < 10 and $b1)", "2 of (a, b)"),
        ("for any i in (1, 2, 3) : ($b1 at i)", "b"),
        ("for 1 i in (1, 2, 3) : ($b1 at i)", "b"),
        ("for all i in (1..#a) : (@a[i] < 10)", "always"),
        ("for 2 i in (1..#a) : (@a[i] < 10)", "always"),
        (
            "for any of ($b*) : (for any i in (1..#) : (@[i] > i))",
            "1 of (b, c)",
        ),
        // Bytes of the message.
        ("uint16(0) == 0x5a4d", "never"),
        ("uint32(0) == 0x5a4d", "never"),
        ("uint16(2) == 0x5a4d", "mz@2"),
        ("uint32(0) == 0x464c457f", "never"),
        ("0x4241 == uint16(0)", "ab@0"),
        ("uint32(@a[1] + 4) == 0x44434241", "abcd"),
        ("int8(5) == 0x41", "a@5"),
        ("uint8(5) == 0x20", " @5"),
        ("uint16(0) == 0xfffe", "Raw([254, 255])"),
        ("uint16(4) == 0x41c9", "2 of (a@4, Raw([201, 97]))"),
        ("uint16(0) != 0x5a4d", "always"),
        ("uint16(0) > 5", "always"),
        ("uint16(0) == 0x15a4d", "always"),
        ("uint16(0) & 0xff == 5", "always"),
        ("uint16be(0) == 0x4d5a", "always"),
    ] {
        let rule = condition(text);
        assert_eq!(short(&rule.need), expected, "{text}");
        assert_eq!(rule.why.is_some(), expected == "always", "{text}");
    }
}

#[test]
fn conditions_that_are_none() {
    for text in [
        "",
        "$",
        "$c",
        "#",
        "$a $b1",
        "$a and",
        "($a",
        "$a == 1",
        "($a) + 1 > 2",
        "any of ($c*)",
        "any of $a",
        "any of ()",
        "for any of them : $",
        "for any of them : (for any of them : ($))",
        "for any in (1..2) : ($a)",
        "$a in 5",
        "1 < 2 < 3",
        "meta",
        "5 5",
    ] {
        let rule = condition(text);
        assert_eq!(rule.need, Need::Always, "{text}");
        assert!(rule.why.is_some(), "{text}");
    }
}

#[test]
fn great_conditions_are_given_up() {
    let deep = |n: usize| format!("{}$a{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(short(&condition(&deep(20)).need), "a");
    let many = vec!["$a*"; 2000].join(", ");
    for text in [
        deep(100_000),
        deep(100),
        vec!["not"; 200_000].join(" "),
        vec!["$a"; 60_000].join(" and "),
        format!("for any of ({many}) : (for any i in (1..2) : (2000 of ({many})))"),
    ] {
        let rule = condition(&text);
        assert_eq!(rule.need, Need::Always);
        assert!(rule.why.unwrap().contains("great"));
    }
}

#[test]
fn what_strings_need() {
    for (text, expected) in [
        ("\"AlphA\"", "a"),
        ("\"alpha\" ascii", "a"),
        ("\"alpha\" wide", "never"),
        ("\"alpha\" wide ascii nocase fullword", "a"),
        ("\"alpha\" private", "a"),
        ("\"alpha\" xor", "always"),
        ("\"alpha\" xor(0x01-0xff) ascii", "always"),
        ("\"alpha\" base64wide(\"!@\")", "always"),
        ("\"al\\qp\\x68a\"", "a"),
        ("\"al\0pha\"", "always"),
        ("{ 61 6C 70 68 61 }", "a"),
        (
            "{ 61 6C 70 68 61 [2-4] ?? (62|63) 62 72 61 76 6f }",
            "2 of (a, b)",
        ),
        ("{ 61 6C 7 }", "always"),
        ("/alpha/", "a"),
        ("/alpha|bravo/is nocase", "1 of (a, b)"),
        ("/\\d+/", "always"),
        // Rules that libclamav leaves out.
        ("\"a\"", "never"),
        ("/alpha/ wide", "never"),
        ("{ 61 [2-4] 62 63 }", "never"),
    ] {
        let rule = only(&format!(
            "rule r {{ strings: $ = {text} condition: all of them }}"
        ));
        assert_eq!(short(&rule.need), expected, "{text}");
        assert_eq!(rule.why.is_some(), expected == "always", "{text}");
    }
    for (count, expected) in [(64, false), (65, true)] {
        let strings: String = (0..count)
            .map(|n| format!("$s{n} = \"alpha{n}\" "))
            .collect();
        let rule = only(&format!(
            "rule r {{ strings: {strings} condition: any of them }}"
        ));
        assert_eq!(rule.need == Need::Never, expected, "{count}");
    }
}

#[test]
fn files_are_cut_into_rules() {
    let rules = parse_text(
        r#"
        import "pe" // rule no1 {
        /* rule no2 { condition: true } */
        private rule one : tag1 tag2 {
            meta:
                text = "rule no3 { condition: true }" n = 5 m = -1 b = true
            strings:
                $a = "alpha}" $r = /rule no4 {\/"/ $h = { 62 72 61 76 6f }
            condition:
                all of them
        }
        global private rule two{strings:$="charlie"condition:any of($)}rule three { strings: $x =
        rule four { strings: $x = "bravo" condition: $x }
        "#,
    );
    let found: Vec<_> = rules
        .iter()
        .map(|rule| (&*rule.name, rule.private, short(&rule.need)))
        .collect();
    assert_eq!(
        found,
        [
            ("one", true, "3 of (a}, rule no4 {/\", b)".to_owned()),
            ("two", true, "c".to_owned()),
            ("three", false, "always".to_owned()),
            ("four", false, "b".to_owned()),
        ]
    );
    assert_eq!(rules[2].why.as_deref(), Some("an unexpected end"));
}

#[test]
fn what_is_no_rule_is_nameless() {
    for (text, why) in [
        ("Test.Name:0:*:616263", "text outside of rules"),
        (
            "rule a { strings: $a = \"alpha\" condition: $a } }",
            "text outside of rules",
        ),
        ("include \"other.yar\"", "another file is included"),
        (
            "rule a { include \"other.yar\" }",
            "another file is included",
        ),
        ("\"abc", "a string without an end"),
        ("rule { condition: true }", "a rule without a name"),
        ("rule and { condition: true }", "a rule without a name"),
    ] {
        let rules = parse_text(text);
        let nameless: Vec<_> = rules.iter().filter(|rule| rule.name.is_empty()).collect();
        assert_eq!(nameless.len(), 1, "{text}");
        assert_eq!(nameless[0].need, Need::Always, "{text}");
        assert_eq!(nameless[0].why.as_deref(), Some(why), "{text}");
    }
    for text in [
        "",
        " \n",
        "// comment",
        "/* no end",
        "import \"pe\" import \"math\"",
    ] {
        assert!(parse_text(text).is_empty(), "{text}");
    }
    let long = format!(
        "rule a {{ condition: {} }} rule b {{}}",
        "1 ".repeat(TOKENS)
    );
    let rules = parse_text(&long);
    assert_eq!(rules[0].why.as_deref(), Some("a rule of great length"));
    assert_eq!(&*rules[1].name, "b");
    let long = "1 ".repeat(2 * TOKENS);
    assert_eq!(parse_text(&long).len(), 1);
}

/// What stands before a rule without strings, and whether it is then left out by libclamav.
const BEFORE: [(&str, bool); 9] = [
    ("", true),
    ("rule a { strings: $a = \"zulu\" condition: $a }", true),
    ("rule a { condition: bogus }", true),
    (
        "rule a { strings: $a = \"zulu\" $b = bogus condition: $a }",
        false,
    ),
    ("rule a { strings: $a = bogus }", false),
    (
        "rule a { strings: $a = \"zulu\" $b = bogus } rule c { condition: bogus }",
        false,
    ),
    (
        "rule a { strings: $a = \"zulu\" $b = bogus } rule c { strings: $c = \"zulu\" condition: $c }",
        true,
    ),
    ("include \"nothing.yar\"", false),
    ("rule a { strings: $a = \"zulu\" }", false),
];

#[test]
fn strings_are_inherited_from_rules_that_are_refused() {
    for (before, left_out) in BEFORE {
        let rules = parse_text(&format!("{before} rule heir {{ condition: true }}"));
        let heir = rules.iter().find(|rule| &*rule.name == "heir").unwrap();
        assert_eq!(heir.no_strings, left_out, "{before}");
        assert_eq!(heir.need, Need::Always);
    }
}

#[test]
fn libclamav_lets_strings_be_inherited() {
    let mut inherited = 0;
    for (before, left_out) in BEFORE {
        let rules = format!("{before} rule heir {{ condition: true }}");
        // So that there is something to load.
        let found = reported(&rules, &[b"any message".to_vec()]);
        assert!(!left_out || found[0].is_empty(), "{before}");
        inherited += usize::from(!found[0].is_empty());
    }
    assert!(inherited > 0);
}

/// The rules that libclamav reports for each message.
fn reported(rules: &str, messages: &[Vec<u8>]) -> Vec<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yar"), rules).unwrap();
    std::fs::write(
        dir.path().join("some.ndb"),
        "Some:0:*:fffefdfcfbfaf9f8f7f6\n",
    )
    .unwrap();
    let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
    let engine = builder.database(dir.path()).unwrap().compile().unwrap();
    let options = ScanOptions {
        all_matches: true,
        ..ScanOptions::default()
    };
    let request = Request::new().options(options);
    let scan = |message: &Vec<u8>| {
        let scan = engine.scan(Payload::Bytes(message), &request).unwrap();
        let names = scan.names.iter().map(|name| {
            let name = name.trim_end_matches(".UNOFFICIAL");
            name.trim_start_matches("YARA.").to_owned()
        });
        names.collect()
    };
    messages.iter().map(scan).collect()
}

/// A condition over four strings, as it is written, and what it means.
#[derive(Clone, Debug)]
enum Tree {
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
enum Who {
    Of(usize),
    Here,
}

#[derive(Clone, Copy, Debug)]
enum Many {
    Any,
    All,
    Some(u8),
}

const NAMES: [&str; 4] = ["ka", "kb", "la", "lb"];
const WORDS: [&str; 4] = ["Tango", "uniform", "victor x", "whisky"];

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

fn compare(left: i64, op: &str, right: i64) -> bool {
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
    fn write(&self) -> String {
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
    fn holds(&self, places: &[Vec<i64>; 4], here: Option<usize>) -> bool {
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

fn many() -> impl Strategy<Value = Many> {
    prop_oneof![
        Just(Many::Any),
        Just(Many::All),
        (0_u8..5).prop_map(Many::Some)
    ]
}

fn op() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="])
}

fn indices() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        1 => Just(vec![0, 1, 2, 3]),
        3 => prop::collection::vec(0_usize..4, 1..5),
    ]
}

fn leaf(who: impl Strategy<Value = Who> + Clone) -> impl Strategy<Value = Tree> {
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

fn junctions(leaf: impl Strategy<Value = Tree> + 'static) -> impl Strategy<Value = Tree> {
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            2 => inner.clone().prop_map(|tree| Tree::Not(Box::new(tree))),
            4 => prop::collection::vec(inner.clone(), 2..4).prop_map(Tree::And),
            4 => prop::collection::vec(inner, 2..4).prop_map(Tree::Or),
        ]
    })
}

fn tree() -> impl Strategy<Value = Tree> {
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
fn rule_of(name: &str, tree: &Tree) -> String {
    let strings = NAMES.iter().zip(WORDS);
    let strings: String = strings
        .map(|(name, word)| format!("${name} = \"{word}\" "))
        .collect();
    format!(
        "rule {name} {{ strings: {strings} condition: ({}) and 0 of them }}\n",
        tree.write()
    )
}

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
                prop_assert!(rule.need.holds(&has), "{} {:?} {:?}", tree.write(), rule.need, places);
            }
        }
    }
}

/// libclamav is the judge of the naive evaluator, and of the needs.
#[test]
fn what_libclamav_reports_has_what_it_needs() {
    let mut runner = TestRunner::deterministic();
    let mut draw_tree = || tree().new_tree(&mut runner).unwrap().current();
    let trees: Vec<Tree> = (0..150).map(|_| draw_tree()).collect();
    let rules: String = trees
        .iter()
        .enumerate()
        .map(|(index, tree)| rule_of(&format!("r{index}"), tree))
        .collect();
    let piece = prop_oneof![
        4 => prop::sample::select(WORDS.to_vec()).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["TANGO", "Victor  X", "WHISKY", "\t", "é", "uni form"])
            .prop_map(str::to_owned),
        1 => Just(" ".to_owned()),
    ];
    let message = prop::collection::vec(piece, 0..5)
        .prop_map(|pieces| format!("{} <13>1", pieces.concat()).into_bytes());
    let mut runner = TestRunner::deterministic();
    let messages: Vec<Vec<u8>> = (0..60)
        .map(|_| message.new_tree(&mut runner).unwrap().current())
        .collect();
    let needs = parse_text(&rules);
    assert_eq!(needs.len(), trees.len());
    let mut found = 0;
    for (message, names) in messages.iter().zip(reported(&rules, &messages)) {
        for (rule, tree) in needs.iter().zip(&trees) {
            let is_reported = names.iter().any(|name| **name == *rule.name);
            found += usize::from(is_reported && rule.need != Need::Always);
            let shown = || format!("{:?} {}", String::from_utf8_lossy(message), tree.write());
            assert!(!is_reported || holds(&rule.need, message), "{}", shown());
            let mut normalised = Vec::new();
            text::normalise(message, &mut normalised);
            let expected = [message, &normalised]
                .into_iter()
                .any(|buffer| tree.holds(&places(buffer), None));
            assert_eq!(is_reported, expected, "{}", shown());
        }
    }
    assert!(found > 200, "{found}");
}

/// Where the strings stand.
fn places(message: &[u8]) -> [Vec<i64>; 4] {
    WORDS.map(|word| {
        memchr::memmem::find_iter(message, word)
            .map(|at| at as i64)
            .collect()
    })
}

/// Text from the pieces of rules, in any order.
fn shreds() -> impl Strategy<Value = Vec<u8>> {
    let shred = prop::sample::select(vec![
        "rule ",
        "r1 ",
        "private ",
        "global ",
        ": ",
        "{",
        "}",
        "meta:",
        "strings:",
        "condition:",
        "$a",
        "$",
        "#a",
        "@a[1]",
        "!a",
        "= ",
        "\"text\"",
        "\"\\x41\\q\" ",
        "/re(a|b)+[^x]/ ",
        "{ 61 62 [2-4] (63|64) 65 } ",
        "wide ",
        "ascii ",
        "nocase ",
        "xor(1-2) ",
        "and ",
        "or ",
        "not ",
        "any ",
        "all ",
        "of ",
        "them ",
        "for ",
        "i in (1..3) ",
        "(",
        ")",
        "1 ",
        "0x5a4d ",
        "2KB ",
        "uint16(0) ",
        "filesize ",
        "< ",
        "== ",
        "<< ",
        "+ ",
        "& ",
        "~",
        "true ",
        "pe.x ",
        "include \"x\" ",
        "import \"pe\" ",
        "// c\n",
        "/* c */",
        "\"",
        "/",
        "\\",
        "\n",
        "\r",
        "\0",
        "\u{e9}",
        "/*",
        "*/",
        "$a*",
        ", ",
        "[",
        "]",
        "a{2}",
        "(?i)",
        "\\x{41}",
        "..",
    ]);
    prop::collection::vec(shred, 0..60).prop_map(|shreds| shreds.concat().into_bytes())
}

/// A sound file, with some of its bytes changed, taken away or doubled.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let sound = "import \"pe\"\nprivate rule a : t { meta: m = \"x\" strings: $a = \"alpha\" nocase wide \
        ascii $b = { 62 72 [2-4] (61|62) 76 6f } $c = /ch[a-r]{2}l(ie|y)?\\/x\\d+/i condition: ($a \
        and #b > 2) or for any of ($b, $c) : (@[1] < filesize) and uint16(4) == 0x4142 }\n// c\nrule b \
        { strings: $ = \"bravo\" condition: not a and 1 of them }\n";
    let edit = (any::<prop::sample::Index>(), 0_u8..3, any::<u8>());
    prop::collection::vec(edit, 0..6).prop_map(move |edits| {
        let mut text = sound.as_bytes().to_vec();
        for (at, kind, byte) in edits {
            let at = at.index(text.len());
            match kind {
                0 => text[at] = byte,
                1 => drop(text.remove(at)),
                _ => text.extend_from_within(at..),
            }
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read(text in prop_oneof![
        shreds(), damaged(), prop::collection::vec(any::<u8>(), 0..200)
    ]) {
        for rule in parse(&text, &body) {
            prop_assert_eq!(rule.need == Need::Always, rule.why.is_some(), "{:?}", rule);
            prop_assert!(!rule.name.is_empty() || rule.need == Need::Always, "{:?}", rule);
        }
    }

    /// libclamav finds the next rule after anything that is wrong; so do we.
    #[test]
    fn a_rule_is_found_after_anything(
        text in prop_oneof![shreds(), damaged()],
    ) {
        let mut text = text;
        // Whatever is open, this closes it.
        text.extend_from_slice(b"\n*/\nrule rule_after { strings: $a = \"alpha\" condition: $a }");
        let has_rule = |rules: &[YaraRule]| rules.iter().any(|rule| &*rule.name == "rule_after");
        let rules = parse(&text, &body);
        // Only an include takes line ends.
        let in_include = Lexer::new(&text).any(|token| token == Token::Include);
        prop_assert!(in_include || has_rule(&rules), "{:?}", rules);
    }
}

/// A published file, unpacked; `None`, said loudly, if it cannot be had.
fn published(name: &str) -> Option<Vec<u8>> {
    let root = std::env::var_os("SCANNER_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let path = root.join("sigs").join(name);
    if !path.exists() {
        eprintln!("left out: {} is not there", path.display());
        return None;
    }
    if !name.ends_with(".zst") {
        return Some(std::fs::read(path).unwrap());
    }
    match Command::new("zstd").arg("-dc").arg(&path).output() {
        Ok(output) if output.status.success() => Some(output.stdout),
        other => {
            eprintln!("left out: zstd cannot unpack {}: {other:?}", path.display());
            None
        }
    }
}

#[test]
fn published_rules_are_understood() {
    for (name, count, never, always) in [
        ("yara-inquest.yar", 19, 1..19, 0..2),
        ("yara-mandiant-redteam.yar.zst", 124, 90..124, 0..1),
        ("yara-reversinglabs.yar.zst", 145, 140..146, 0..1),
        ("yara-rules-community.yar.zst", 1104, 400..700, 0..1),
        ("yara-signature-base.yar.zst", 2837, 1200..1500, 0..6),
    ] {
        let Some(text) = published(name) else {
            continue;
        };
        let rules = parse(&text, &body);
        assert_eq!(rules.len(), count, "{name}");
        let of = |need: Need| rules.iter().filter(|rule| rule.need == need).count();
        let doubts: Vec<_> = rules
            .iter()
            .filter_map(|rule| rule.why.as_ref().map(|why| (&rule.name, why)))
            .collect();
        println!(
            "{name}: {count} rules, {} never, {doubts:?}",
            of(Need::Never)
        );
        assert!(
            never.contains(&of(Need::Never)),
            "{name}: {}",
            of(Need::Never)
        );
        assert!(always.contains(&of(Need::Always)), "{name}: {doubts:?}");
    }
}
