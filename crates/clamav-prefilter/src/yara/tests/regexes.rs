//! Regular expressions against a table, the crate `regex`, and libclamav's PCRE.

use ::regex::bytes::RegexBuilder;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;

#[test]
fn what_regular_expressions_need() {
    for (pattern, expected) in [
        ("abc", "abc"),
        ("AbC", "abc"),
        ("^abc$", "abc"),
        (r"\babc\.d\/", "abc.d/"),
        ("ab.cd", "2: ab, cd"),
        ("ab*c", "2: a, c"),
        ("ab+c", "3: a, b, c"),
        ("ab{2}c", "abbc"),
        ("ab{2,}c", "3: a, bb, c"),
        ("ab{2,3}?c", "3: a, bb, c"),
        ("ab{1,2}c", "3: a, b, c"),
        ("ab?+c", "2: a, c"),
        ("ab{0}c", "2: a, c"),
        // Some versions of PCRE take this as a quantifier.
        ("ab{,3}c", "2: a, c"),
        ("ab{ 1, 2 }c", "2: a, c"),
        ("a{b}{}c", "a{b}{}c"),
        ("(ab)c", "abc"),
        ("(?:ab){2}c", "ababc"),
        ("(?i)ab(?s-i:C)", "abc"),
        ("(?P<n>ab)(?<n2>c)(?'n3'd)", "abcd"),
        ("ab|cd", "1: ab, cd"),
        ("x(ab|cd)y", "3: x, 1: ab, cd, y"),
        ("(ab|)c", "c"),
        ("(ab|cd.ef)+", "1: ab, 2: cd, ef"),
        ("[Ss]cript", "script"),
        ("a[bc]d", "2: a, d"),
        ("a[ \\t]b", "a b"),
        (r"a\s+b", "a b"),
        (r"a\s*b", "2: a, b"),
        (r"a\sb[\x80-\xff]+c", "a bc"),
        (r"a\x20\x20b", "a b"),
        (r"\x41\x{42}\tc", "2: ab c, raw \"ab\\tc\""),
        (r"a\xe9B\xE9", "2: ab, raw \"a\\xe9b\\xe9\""),
        (r"\r\n", "2:  , raw \"\\r\\n\""),
        (r"\xe9+", "always"),
        (r"a\x00b", "never"),
        (r"a[\x00-\x06]b", "never"),
        (r"a\x00*b", "2: a, b"),
        (r"ab|\x00", "ab"),
        (r"\Aab\Ncd\Ref\Z", "3: ab, cd, ef"),
        (r"\<ab\>", "<ab>"),
        ("[[a]b]", "b]"),
        ("[^]a]b", "b"),
        (r"\d\w.*", "always"),
        ("", "always"),
    ] {
        assert_eq!(
            regex::need(pattern.as_bytes()).map(|need| list(&need)),
            Ok(expected.to_owned()),
            "{pattern}"
        );
    }
    for pattern in [
        r"\1",
        r"(a)\1",
        r"\0",
        r"\141",
        r"\Qab\E",
        r"\cA",
        r"\pL",
        r"\g1",
        r"\k<n>",
        r"\Kab",
        r"\Xa",
        r"\N{U+41}",
        r"\x{100}",
        r"\x{41",
        r"\uab",
        "(?=ab)",
        "(?!ab)",
        "(?<=ab)",
        "(?<!ab)",
        "(?>ab)",
        "(?|a|b)",
        "(?R)",
        "(?1)",
        "(?#ab)",
        "(?x)a b",
        "(?^:ab)",
        "(?C)ab",
        "(*UTF8)ab",
        "(?<n=ab)",
        "[[:alpha:]]",
        "[a",
        "(ab",
        "ab)",
        "*a",
        "a|+",
        "{2}",
        r"ab\",
        "[z-a]",
        r"[a-\d]",
    ] {
        assert!(regex::need(pattern.as_bytes()).is_err(), "{pattern}");
    }
}

/// The need in short.
fn list(need: &Need) -> String {
    match need {
        Need::AtLeast(count, needs) => {
            let needs: Vec<String> = needs.iter().map(list).collect();
            format!("{count}: {}", needs.join(", "))
        }
        Need::Has(Atom::Text { literal, .. }) => String::from_utf8_lossy(literal).into_owned(),
        Need::Has(Atom::Raw(raw)) => format!("raw \"{}\"", raw.escape_ascii()),
        need => format!("{need:?}").to_lowercase(),
    }
}

#[test]
fn great_expressions_are_given_up_or_cut() {
    let deep = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
    assert!(regex::need(deep(39).as_bytes()).is_ok());
    for pattern in [deep(3000), "a".repeat(10_000), "{".repeat(100_000)] {
        assert!(regex::need(pattern.as_bytes()).is_err());
    }
    for pattern in [
        "(((a{999}){999}){999}){999}",
        "(ab|c){9999}",
        &"a".repeat(8000),
    ] {
        let Ok(need) = regex::need(pattern.as_bytes()) else {
            panic!("{pattern}");
        };
        assert!(format!("{need:?}").len() < 100_000);
        assert!(need != Need::Always);
    }
}

/// An expression that all flavours read alike.
fn pattern() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(vec![
        "a",
        "b",
        "A",
        "B",
        "c",
        " ",
        r"\t",
        r"\n",
        r"\r",
        r"\xe9",
        r"\xC3",
        "-",
        r"\x0c",
        "^",
        "$",
        r"\b",
        r"\B",
        ".",
        "[ab]",
        "[Aa]",
        "[^a]",
        r"\s",
        r"\S",
        r"\w",
        r"[\s]",
        r"[ \t]",
        r"[\x80-\xff]",
        r"[\xe9\t]",
        r"[a-c]",
        r"[^\x00-\x60\x62-\xff]",
        "(?i)",
        "(?:)",
        "aa",
        "ab",
        r"\x07",
        r"\x1b",
        r"\x00",
        r"\x7f",
        "[-a]",
        "[]a]",
    ])
    .prop_map(str::to_owned);
    let quantifier = || {
        prop::sample::select(vec![
            "*", "+", "?", "{2}", "{1,2}", "{0,1}", "{2,}", "+?", "*?", "{0}",
        ])
    };
    let nested = atom.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            4 => prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            2 => (inner.clone(), quantifier())
                .prop_map(|(part, quantifier)| format!("(?:{part}){quantifier}")),
            2 => prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|parts| format!("({})", parts.join("|"))),
            1 => inner.prop_map(|part| format!("(?i:{part})")),
        ]
    });
    let part = prop::sample::select(vec!["a", "b", "C", r"\s", r"\xe9", "(aB)", "[ab]"]);
    let maybe = prop_oneof![Just(""), quantifier()];
    let flat = prop::collection::vec((part, maybe), 2..6).prop_map(|parts| {
        let parts = parts
            .into_iter()
            .map(|(part, quantifier)| [part, quantifier]);
        parts.flatten().collect()
    });
    prop_oneof![nested, flat]
}

/// A plain message of the bytes that the expressions are about.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"a"[..],
        b"b",
        b"A",
        b"B",
        b"c",
        b"C",
        b" ",
        b"\t",
        b"\n",
        b"\r",
        b"\xe9",
        b"\xc3",
        b"-",
        b"\x0c",
        b"\x07",
        b"\x1b",
        b"ab",
        b"aa",
        b"]",
    ]);
    prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

fn both(message: &[u8]) -> [Vec<u8>; 2] {
    let mut normalised = Vec::new();
    text::normalise(message, &mut normalised);
    [message.to_vec(), normalised]
}

/// An expression, and messages of which many match.
fn matched() -> impl Strategy<Value = (String, Vec<Vec<u8>>)> {
    pattern().prop_flat_map(|pattern| {
        let any = prop::collection::vec(message(), 10);
        // Not for anchors.
        let own = proptest::string::bytes_regex(&pattern)
            .map_or_else(|_| message().boxed(), |own| own.boxed());
        let end = || prop::collection::vec(prop::sample::select(b"aB \xe9".to_vec()), 0..2);
        let own = (end(), own, end()).prop_map(|parts| [parts.0, parts.1, parts.2].concat());
        let own = prop::collection::vec(own, 20);
        (
            Just(pattern),
            (any, own).prop_map(|parts| [parts.0, parts.1].concat()),
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_matches_has_what_it_needs((pattern, messages) in matched()) {
        let need = regex::need(pattern.as_bytes());
        prop_assert!(need.is_ok(), "{} {:?}", pattern, need);
        let need = need.unwrap_or(Need::Always);
        let twin = RegexBuilder::new(&pattern).unicode(false).build().unwrap();
        for message in messages {
            if message.iter().any(|byte| text::is_foreign(*byte)) {
                continue;
            }
            if both(&message).iter().any(|buffer| twin.is_match(buffer)) {
                prop_assert!(
                    holds(&need, &message),
                    "{} {:?} {:?}",
                    pattern,
                    need,
                    message.escape_ascii().to_string()
                );
            }
        }
    }
}

#[test]
fn what_libclamav_matches_has_what_it_needs() {
    let mut runner = TestRunner::deterministic();
    // Without the empty matches, which PCRE finds in every message.
    let pattern = pattern().prop_filter("matches nothing", |pattern| {
        let twin = RegexBuilder::new(pattern).unicode(false).build().unwrap();
        !twin.is_match(b"") && !matches!(regex::need(pattern.as_bytes()), Ok(Need::Always))
    });
    let rules: String = (0..150)
        .map(|index| {
            let pattern = pattern.new_tree(&mut runner).unwrap().current();
            format!("rule r{index} {{ strings: $a = /{pattern}/ condition: $a }}\n")
        })
        .collect();
    let messages: Vec<Vec<u8>> = (0..100)
        .map(|_| {
            let mut message = message().new_tree(&mut runner).unwrap().current();
            message.extend_from_slice(b" <13>1");
            message
        })
        .collect();
    let needs = parse_text(&rules);
    let mut found = 0;
    for (message, names) in messages.iter().zip(reported(&rules, &messages)) {
        for name in names {
            let rule = needs.iter().find(|rule| *rule.name == *name).unwrap();
            assert!(
                holds(&rule.need, message),
                "{rule:?} {:?}",
                message.escape_ascii().to_string()
            );
            found += 1;
        }
    }
    assert!(found > 500, "{found}");
}
