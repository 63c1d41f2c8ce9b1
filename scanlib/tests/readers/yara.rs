//! YARA rules: what libclamav makes of conditions, regular expressions and broken files, and that the prefilter clears none of it.

use clamav_prefilter::names::{LoadedNames, Named, NamedKind};
use clamav_prefilter::{Reading, ScanLimits};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use regex::bytes::RegexBuilder;
use scanlib::prefilter::{Gate, Prefilter, Scratch, TextModel};
use scanlib::{Engine, EngineBuilder, Library, Payload, Request, ScanOptions};

#[path = "../../../crates/clamav-prefilter/tests/generators/conditions.rs"]
mod conditions;
#[path = "../../../crates/clamav-prefilter/tests/generators/regexes.rs"]
mod regexes;

use conditions::{Tree, WORDS, rule_of, tree};

/// The rules that libclamav reports for each message, and its engine with a prefilter; `None` if it refuses the rules.
fn reported(rules: &str, messages: &[Vec<u8>]) -> (Option<Engine>, Vec<Vec<String>>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yar"), rules).unwrap();
    // So that there is something to load.
    std::fs::write(
        dir.path().join("some.ndb"),
        "Some:0:*:fffefdfcfbfaf9f8f7f6\n",
    )
    .unwrap();
    let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
    // A file whose last rule is left out may be refused as a whole.
    let Ok(engine) = builder.database(dir.path()).unwrap().compile() else {
        return (None, vec![Vec::new(); messages.len()]);
    };
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
    let names = messages.iter().map(scan).collect();
    (Some(engine), names)
}

/// The prefilter for a rule alone, which libclamav reported as loaded; `None` if that clears nothing.
fn alone(name: &str, rule: &str) -> Option<Prefilter> {
    let mut reading = Reading::new();
    reading.text("a.yar", rule);
    reading.compare(&LoadedNames {
        signatures: vec![Named {
            kind: NamedKind::Yara,
            name: format!("YARA.{name}").into_bytes().into(),
        }],
        incomplete: false,
    });
    let limits = ScanLimits::default();
    let prefilter = Prefilter::build(reading, &limits, "1.4.0", TextModel::built_in());
    prefilter.off().is_none().then_some(prefilter)
}

fn is_cleared(prefilter: &Prefilter, message: &[u8]) -> bool {
    prefilter.check(message, &mut Scratch::default()) == Gate::Cleared
}

/// libclamav decides about the naive evaluator, and about the prefilter.
#[test]
fn conditions_that_libclamav_finds_true_are_not_cleared() {
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
    let prefilters: Vec<_> = trees
        .iter()
        .map(|tree| alone("r", &rule_of("r", tree)))
        .collect();
    let any = Prefilter::unproven("a.ndb", b"Any:0:*:616263\n");
    let (mut found, mut cleared) = (0, 0);
    for (message, names) in messages.iter().zip(reported(&rules, &messages).1) {
        let buffers = [places(message), places(&any.explain(message).normalised)];
        for (index, tree) in trees.iter().enumerate() {
            let is_reported = names.contains(&format!("r{index}"));
            let shown = || format!("{:?} {}", String::from_utf8_lossy(message), tree.write());
            let expected = buffers.iter().any(|places| tree.holds(places, None));
            assert_eq!(is_reported, expected, "{}", shown());
            if let Some(prefilter) = &prefilters[index] {
                let is_cleared = is_cleared(prefilter, message);
                assert!(!(is_reported && is_cleared), "{}", shown());
                found += usize::from(is_reported);
                cleared += usize::from(is_cleared);
            }
        }
    }
    assert!(found > 200, "{found}");
    assert!(cleared > 200, "{cleared}");
}

/// Where the strings stand.
fn places(message: &[u8]) -> [Vec<i64>; 4] {
    WORDS.map(|word| {
        memchr::memmem::find_iter(message, word)
            .map(|at| at as i64)
            .collect()
    })
}

#[test]
fn what_libclamav_finds_by_a_regular_expression_is_not_cleared() {
    let mut runner = TestRunner::deterministic();
    // Without the empty matches, which PCRE finds in every message.
    let pattern = regexes::pattern().prop_filter("matches nothing", |pattern| {
        let twin = RegexBuilder::new(pattern).unicode(false).build().unwrap();
        !twin.is_match(b"")
    });
    let mut rule = |index: usize| {
        let pattern = pattern.new_tree(&mut runner).unwrap().current();
        format!("rule r{index} {{ strings: $a = /{pattern}/ condition: $a }}\n")
    };
    let rules: Vec<String> = (0..250).map(&mut rule).collect();
    let mut runner = TestRunner::deterministic();
    let messages: Vec<Vec<u8>> = (0..100)
        .map(|_| {
            let mut message = regexes::message().new_tree(&mut runner).unwrap().current();
            message.extend_from_slice(b" <13>1");
            message
        })
        .collect();
    let prefilters: Vec<_> = rules
        .iter()
        .enumerate()
        .map(|(index, rule)| alone(&format!("r{index}"), rule))
        .collect();
    let (mut found, mut cleared) = (0, 0);
    for (message, names) in messages.iter().zip(reported(&rules.concat(), &messages).1) {
        for (index, prefilter) in prefilters.iter().enumerate() {
            let Some(prefilter) = prefilter else { continue };
            let is_reported = names.contains(&format!("r{index}"));
            let is_cleared = is_cleared(prefilter, message);
            assert!(
                !(is_reported && is_cleared),
                "{} {:?}",
                rules[index],
                message.escape_ascii().to_string()
            );
            found += usize::from(is_reported);
            cleared += usize::from(is_cleared);
        }
    }
    assert!(found > 500, "{found}");
    assert!(cleared > 500, "{cleared}");
}

/// What stands before a rule without strings, and whether libclamav then leaves that rule out.
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
fn libclamav_lets_strings_be_inherited() {
    let mut inherited = 0;
    for (before, left_out) in BEFORE {
        let rules = format!("{before} rule heir {{ condition: true }}");
        let message = b"any message".to_vec();
        let (engine, found) = reported(&rules, std::slice::from_ref(&message));
        assert!(!left_out || found[0].is_empty(), "{before}");
        if !found[0].is_empty() {
            inherited += 1;
            assert!(
                !is_cleared(engine.unwrap().prefilter(), &message),
                "{before}"
            );
        }
    }
    assert!(inherited > 0);
}

/// Rules sound and unsound, one after the other, some of their bytes changed or taken away.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let rule = prop::sample::select(vec![
        r#"rule NAME { strings: $a = "alpha" condition: $a }"#,
        r#"private rule NAME : t { meta: x = "y" strings: $a = "bravo" nocase condition: #a > 0 }"#,
        r#"rule NAME { strings: $a = "alpha" $b = "zulu" condition: any of them }"#,
        r#"rule NAME { strings: $a = { 61 6c [2-4] 61 20 } condition: for all of them : (@ >= 0) }"#,
        r#"rule NAME { strings: $a = /br.vo/ condition: $a and not (#a > 9) }"#,
        r#"rule NAME { strings: $a = "alpha" condition: $a and r1 }"#,
        r#"rule NAME { strings: $a = "zulu" $b = bogus condition: $a }"#,
        r#"rule NAME { strings: $a = "zulu" condition: for any of them : ($ and bogus) }"#,
        r#"rule NAME { strings: $a = "alpha" $b = "zulu" condition: $a }"#,
        r#"rule NAME { strings: $a = "al\qpha" condition: $a }"#,
        r#"rule NAME { strings: $a = "z" condition: true }"#,
        "rule NAME { condition: true }",
        "rule NAME { condition: filesize > 3 }",
        "rule NAME { condition: for any i in (1..2) : (i == 1) }",
        "import \"pe\"",
        "} junk",
        "/* comment */ // rule x",
    ]);
    let name = prop::sample::select(vec!["r1", "r2", "r3", "r4", "r5", "r6"]);
    let rules = prop::collection::vec((rule, name), 1..7).prop_map(|rules| {
        let rules = rules
            .iter()
            .map(|(rule, name)| rule.replace("NAME", name) + "\n");
        rules.collect::<String>().into_bytes()
    });
    let edit = (any::<prop::sample::Index>(), any::<bool>(), 0x20_u8..0x7f);
    (rules, prop::collection::vec(edit, 0..3)).prop_map(|(mut text, edits)| {
        for (at, change, byte) in edits {
            let at = at.index(text.len());
            match change {
                true => text[at] = byte,
                false => drop(text.remove(at)),
            }
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn what_libclamav_makes_of_a_broken_file_is_not_cleared(text in soup()) {
        let messages = [
            b"only words".to_vec(), b"some ALPHA".to_vec(), b"a bravo".to_vec(), b"alpha bravo, Zulu".to_vec(),
        ];
        let text = String::from_utf8_lossy(&text);
        let (engine, reported) = reported(&text, &messages);
        for (message, names) in messages.iter().zip(reported) {
            let cleared = engine.as_ref().is_some_and(|engine| is_cleared(engine.prefilter(), message));
            prop_assert!(names.is_empty() || !cleared, "{:?} {}", names, text);
        }
    }
}
