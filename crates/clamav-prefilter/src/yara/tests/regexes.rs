//! Regular expressions against a table and the crate `regex`.

use ::regex::bytes::RegexBuilder;
use proptest::prelude::*;

use super::*;

#[path = "../../../tests/generators/regexes.rs"]
mod generator;
use generator::{message, pattern};

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
            regex::required(pattern.as_bytes()).map(|required| list(&required)),
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
        assert!(regex::required(pattern.as_bytes()).is_err(), "{pattern}");
    }
}

/// The need in short.
fn list(required: &Required) -> String {
    match required {
        Required::AtLeast(count, needs) => {
            let needs: Vec<String> = needs.iter().map(list).collect();
            format!("{count}: {}", needs.join(", "))
        }
        Required::Has(Atom::Text { literal, .. }) => String::from_utf8_lossy(literal).into_owned(),
        Required::Has(Atom::Raw(raw)) => format!("raw \"{}\"", raw.escape_ascii()),
        required => format!("{required:?}").to_lowercase(),
    }
}

#[test]
fn great_expressions_are_given_up_or_cut() {
    let deep = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
    assert!(regex::required(deep(39).as_bytes()).is_ok());
    for pattern in [deep(3000), "a".repeat(10_000), "{".repeat(100_000)] {
        assert!(regex::required(pattern.as_bytes()).is_err());
    }
    for pattern in [
        "(((a{999}){999}){999}){999}",
        "(ab|c){9999}",
        &"a".repeat(8000),
    ] {
        let Ok(required) = regex::required(pattern.as_bytes()) else {
            panic!("{pattern}");
        };
        assert!(format!("{required:?}").len() < 100_000);
        assert!(required != Required::Always);
    }
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
        let required = regex::required(pattern.as_bytes());
        prop_assert!(required.is_ok(), "{} {:?}", pattern, required);
        let required = required.unwrap_or(Required::Always);
        let twin = RegexBuilder::new(&pattern).unicode(false).build().unwrap();
        for message in messages {
            if message.iter().any(|byte| text::is_foreign(*byte)) {
                continue;
            }
            if both(&message).iter().any(|buffer| twin.is_match(buffer)) {
                prop_assert!(
                    holds(&required, &message),
                    "{} {:?} {:?}",
                    pattern,
                    required,
                    message.escape_ascii().to_string()
                );
            }
        }
    }
}
