//! Files: where rules begin and end, in sound text and in any other.

use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;

use super::*;

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
        .map(|rule| (&*rule.name, rule.private, short(&rule.required)))
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
        assert_eq!(nameless[0].required, Required::Always, "{text}");
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
        assert_eq!(heir.required, Required::Always);
    }
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
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(600)))]

    #[test]
    fn any_text_is_read(text in prop_oneof![
        shreds(), damaged(), prop::collection::vec(any::<u8>(), 0..200)
    ]) {
        for rule in parse(&text, &body) {
            prop_assert_eq!(rule.required == Required::Always, rule.why.is_some(), "{:?}", rule);
            prop_assert!(!rule.name.is_empty() || rule.required == Required::Always, "{:?}", rule);
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
        let of = |required: Required| {
            rules
                .iter()
                .filter(|rule| rule.required == required)
                .count()
        };
        let doubts: Vec<_> = rules
            .iter()
            .filter_map(|rule| rule.why.as_ref().map(|why| (&rule.name, why)))
            .collect();
        println!(
            "{name}: {count} rules, {} never, {doubts:?}",
            of(Required::Never)
        );
        assert!(
            never.contains(&of(Required::Never)),
            "{name}: {}",
            of(Required::Never)
        );
        assert!(always.contains(&of(Required::Always)), "{name}: {doubts:?}");
    }
}
