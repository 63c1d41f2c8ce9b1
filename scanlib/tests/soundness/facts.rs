//! What the prefilter takes for granted about libclamav, each fact shown by the library that is installed: an upgrade that
//! changes one is seen here.

use std::fs;

use scanlib::{EngineBuilder, Library, Payload, Request, ScanOptions};

use super::bytes::{hex, is_foreign, normalised};
use super::digest::{md5, sha256};
use super::random::Random;
use super::words::Words;
use crate::support::memory_dir;
use crate::support::raw::{Callbacks, RawEngine, Watch, options};

/// Files and an engine that has loaded them.
struct Loaded(scanlib::Engine);

fn load(files: &[(&str, String)]) -> Loaded {
    let dir = memory_dir();
    for (ending, text) in files {
        fs::write(dir.path().join(format!("facts.{ending}")), text).unwrap();
    }
    let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
    Loaded(builder.database(dir.path()).unwrap().compile().unwrap())
}

fn ndb(lines: &[&str]) -> Loaded {
    load(&[("ndb", lines.join("\n") + "\n")])
}

fn ldb(lines: &[&str]) -> Loaded {
    load(&[("ldb", lines.join("\n") + "\n")])
}

fn yara(rules: &[&str]) -> Loaded {
    load(&[("yar", rules.join("\n") + "\n")])
}

impl Loaded {
    /// The names found, in order, without what libclamav adds.
    fn names(&self, message: &[u8]) -> Vec<String> {
        let options = ScanOptions {
            all_matches: true,
            ..ScanOptions::default()
        };
        let request = Request::new().options(options);
        let scan = self.0.scan(Payload::Bytes(message), &request).unwrap();
        assert_eq!(scan.incomplete, None);
        let mut names: Vec<String> = scan
            .names
            .iter()
            .map(|name| name.trim_end_matches(".UNOFFICIAL").replace("YARA.", ""))
            .collect();
        names.sort();
        names
    }

    #[track_caller]
    fn finds(&self, message: impl AsRef<[u8]>, names: &str) {
        let found = self.names(message.as_ref()).join(" ");
        assert_eq!(found, names, "{}", message.as_ref().escape_ascii());
    }
}

/// A signature that makes libclamav normalise into a file, and so hash what it normalised.
const FILE_PATH: &str = "File.Path:7:EOF-9:717171717171717171";

// ---------------------------------------------------------------------------------------------
// Length and type

#[test]
fn five_bytes_are_never_reported_and_six_are() {
    let engine = load(&[
        ("ndb", "Body:0:*:616263\n".to_owned()),
        (
            "hsb",
            format!(
                "{}:*:Five:73\n{}:6:Six\n",
                sha256(b"abcde"),
                sha256(b"abcdef")
            ),
        ),
    ]);
    for len in 0..=5 {
        engine.finds(&b"abcde"[..len], "");
    }
    engine.finds(b"abcdef", "Body Six");
}

#[test]
fn only_targets_zero_and_seven_see_plain_text() {
    let lines: Vec<String> = (0..=14)
        .filter(|target| *target != 8)
        .map(|target| format!("T{target}:{target}:*:{}", hex(b"needle")))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    ndb(&lines).finds("a needle in a line of a log", "T0 T7");
}

#[test]
fn a_byte_that_is_no_text_in_the_first_kilobyte_changes_the_type_and_later_it_does_not() {
    let lines: Vec<String> = (1..=14)
        .filter(|target| *target != 8)
        .map(|target| format!("T{target};Engine:51-255,Target:{target};0=0;717171717171"))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let engine = ldb(&lines);
    // Target 7 is looked at for text and for what is nearly text; text has no type of its own beside it.
    let raw = RawEngine::new(
        Callbacks {
            pre_cache: true,
            ..Callbacks::default()
        },
        &[],
    );
    let typed = |byte: u8, at: usize, len: usize| {
        let mut message = vec![b'a'; len];
        message[at] = byte;
        let mut watch = Watch::default();
        raw.scan(&message, options(), &mut watch);
        watch.types[0].clone()
    };
    for byte in 0..=255 {
        let kind = typed(byte, 40, 200);
        assert_eq!(
            kind == "CL_TYPE_TEXT_ASCII",
            !is_foreign(byte),
            "{byte:#x}: {kind}"
        );
    }
    assert_ne!(typed(0, 1023, 2000), "CL_TYPE_TEXT_ASCII");
    assert_eq!(typed(0, 1024, 2000), "CL_TYPE_TEXT_ASCII");
    engine.finds("nothing but text", "T7");
}

#[test]
fn a_message_of_an_ignored_type_is_matched_by_no_hash_either() {
    let song = b"ID3 and a needle";
    let engine = load(&[
        ("ndb", format!("Body:0:*:{}\n", hex(b"needle"))),
        ("hsb", format!("{}:{}:Hash\n", sha256(song), song.len())),
    ]);
    engine.finds(song, "");
    engine.finds(b"\nID3 and a needle", "Body");
}

#[test]
fn html_is_found_by_its_tags_in_these_cases_of_letters_alone() {
    let engine = ldb(&["Html;Engine:51-255,Target:3;0=0;717171717171"]);
    for tag in [
        "<html>",
        "<HTML>",
        "<Html>",
        "<head>",
        "<HEAD>",
        "<Head>",
        "<img",
        "<IMG",
        "<Img",
        "<iframe",
        "<IFRAME",
        "<object",
        "<OBJECT",
        "<Object",
        "<script",
        "<SCRIPT",
        "<Script",
        "<table",
        "<TABLE",
        "<a href",
        "<A HREF",
        "<a x=1 hrEF",
    ] {
        engine.finds(format!("one two {tag} three"), "Html");
    }
    for tag in [
        "<hTML>",
        "<ScRiPt",
        "<title>",
        "<body>",
        "<Iframe",
        "<Table",
        "%3Cscript%3E",
        "&lt;script&gt;",
        "< script",
        "<a hreF",
    ] {
        engine.finds(format!("one two {tag} three"), "");
    }
}

#[test]
fn a_tag_far_down_starts_the_html_parser_but_not_after_a_byte_that_is_no_text() {
    let engine = ldb(&["Html;Engine:51-255,Target:3;0=0;717171717171"]);
    let far = [vec![b'x'; 1500], b" <script> ".to_vec()].concat();
    engine.finds(&far, "Html");
    let mut foreign = far;
    foreign[10] = 1;
    engine.finds(&foreign, "");
}

#[test]
fn text_with_a_byte_of_four_zero_bits_after_each_letter_is_taken_for_html_in_utf_16() {
    let engine = load(&[
        (
            "ldb",
            "Html;Engine:51-255,Target:3;0=0;717171717171\n".to_owned(),
        ),
        ("ndb", format!("Evil:3:*:{}\n", hex(b"evil payload"))),
    ]);
    let between = |text: &[u8], byte: u8| -> Vec<u8> {
        text.iter().flat_map(|&letter| [letter, byte]).collect()
    };
    for byte in [b' ', b'0', b'@', b'P', b'`', b'p', 0x80, 0xf0] {
        engine.finds(between(b"<script", byte), "Html");
        // The other alignment.
        engine.finds([b"<".as_slice(), &between(b"<script", byte)].concat(), "");
    }
    engine.finds(between(b"<script", b'!'), "");
    let found = engine.names(&between(b"<script>evil payload</script>", b' '));
    assert!(found.contains(&"Evil".to_owned()), "{found:?}");
    // Only in the first kilobyte.
    let at = |start: usize| [vec![b'x'; start], between(b"<script", b' ')].concat();
    engine.finds(at(1010), "Html");
    engine.finds(at(1012), "");
    // With a byte-order mark the other alignment will do.
    let spaced: Vec<u8> = b"<script>"
        .iter()
        .flat_map(|&letter| [b' ', letter])
        .collect();
    engine.finds(&spaced, "");
    engine.finds([b"\xfe\xff".as_slice(), &spaced].concat(), "Html");
}

// ---------------------------------------------------------------------------------------------
// Body patterns

#[test]
fn a_lower_case_pattern_finds_upper_case_text_and_not_the_other_way_round() {
    let engine = ndb(&[
        &format!("Lower:0:*:{}", hex(b"needle")),
        &format!("Upper:0:*:{}", hex(b"NEEDLE")),
    ]);
    engine.finds("a NEEDLE here", "Lower Upper");
    engine.finds("a needle here", "Lower");
    engine.finds("a NeEdLe here", "Lower");
}

#[test]
fn upper_case_and_double_spaces_never_match_normalised_text() {
    let engine = ndb(&[
        &format!("Upper:7:*:{}", hex(b"NEEDLE")),
        &format!("Spaces:7:*:{}", hex(b"a  b")),
        &format!("Tab:7:*:{}", hex(b"a\tb")),
        &format!("High:7:*:{}", hex(b"a\xe9b")),
        &format!("Space:7:*:{}", hex(b"a b")),
        &format!("Dropped:7:*:{}", hex(b"xyz")),
    ]);
    engine.finds("NEEDLE a  b a\tb a\u{e9}b", "Space");
    engine.finds("a \t\r\n\x0b\x0c b", "Space");
    engine.finds(b"x\xe9\x08\x1byz12", "Dropped");
}

#[test]
fn dropped_bytes_do_not_end_a_run_of_white_space() {
    let engine = ndb(&[
        &format!("One:7:*:{}", hex(b"a b")),
        &format!("Trimmed:7:0:{}", hex(b"xyz")),
    ]);
    engine.finds(b"a \xe9 \x80 b", "One");
    // Nothing is trimmed.
    engine.finds(b" xyz 1", "");
}

#[test]
fn offsets_count_in_normalised_text_as_well() {
    let engine = ndb(&[
        &format!("Zero:0:4:{}", hex(b"needle")),
        &format!("Seven:7:4:{}", hex(b"needle")),
        &format!("Range:0:0,2:{}", hex(b"needle")),
    ]);
    engine.finds("abc needle", "Seven Zero");
    engine.finds("abc \t needle", "Seven Zero");
    engine.finds(b"\xe9\xe9\xe9\xe9\xe9\xe9needle", "Range");
    engine.finds("abcdefgh needle", "");
    engine.finds("ab NEEDLE", "");
}

#[test]
fn an_offset_from_the_end_does_not_match_a_shorter_message() {
    let engine = ndb(&[
        &format!("Exact:0:EOF-6:{}", hex(b"needle")),
        &format!("Long:0:EOF-20:{}", hex(b"needle")),
        &format!("Range:0:EOF-20,14:{}", hex(b"needle")),
    ]);
    engine.finds("a needle", "Exact");
    engine.finds("needle and 14 more..", "Long Range");
    engine.finds("needle and few", "");
    // Lower case is only in the normalised text, where no such offset of target 0 is looked at.
    engine.finds("a NEEDLE", "");
    engine.finds("some more words: NEEDLE", "");
}

#[test]
fn the_ends_of_a_pattern_with_alternatives_of_different_length_are_not_verified() {
    let engine = ndb(&[
        "Tail:0:*:616263(64|65666768)696a",
        "Head:0:*:6869(63|64656667)??4a4b4c",
        "Same:0:*:717273(6465|6667)7475",
    ]);
    engine.finds("xxabcdij", "Tail");
    engine.finds("xxabcefgh", "Tail");
    engine.finds("xxabcefghXX", "");
    engine.finds("defgXJKLmm", "Head");
    engine.finds("xxdefgXJKLmm", "");
    engine.finds("xxqrsde", "");
}

#[test]
fn a_pattern_with_a_part_that_is_too_short_is_refused() {
    for line in ["A:0:*:6162", "A:0:*:616263*64", "A:0:*:61??62??63"] {
        let dir = memory_dir();
        fs::write(dir.path().join("facts.ndb"), line).unwrap();
        let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
        let compiled = builder.database(dir.path()).unwrap().compile();
        assert!(compiled.is_err(), "{line}");
    }
}

// ---------------------------------------------------------------------------------------------
// Logical expressions

#[test]
fn negation_is_true_of_any_text() {
    let engine = ldb(&[
        "None;Engine:51-255,Target:0;0=0;616c706861",
        "Neither;Engine:51-255,Target:7;(0|1)=0;616c706861;627261766f",
        "Few;Engine:51-255,Target:0;0<2;616c706861",
    ]);
    engine.finds("some text", "Few Neither None");
    engine.finds("alpha here", "Few");
    engine.finds("alpha alpha", "");
}

#[test]
fn expressions_have_no_precedence() {
    let words = "616c706861;627261766f;636861726c6965;64656c7461";
    let line = |name: &str, expression: &str| {
        format!("{name};Engine:51-255,Target:0;{expression};{words}")
    };
    let (first, second, third, fourth) = (
        line("First", "0|1&2&3"),
        line("Second", "0&1|2&3"),
        line("Third", "(0|1&2)&3"),
        line("Fourth", "(0&1|2|3)"),
    );
    let engine = ldb(&[&first, &second, &third, &fourth]);
    engine.finds("alpha alone", "First");
    engine.finds("charlie delta", "Fourth");
    engine.finds("alpha charlie delta", "First Fourth Second Third");
    engine.finds("alpha delta", "First Fourth");
}

#[test]
fn a_part_that_is_not_there_counts_as_one_of_several() {
    let engine = ldb(&[
        "Plain;Engine:51-255,Target:0;(0|1)>1,2;616c706861;627261766f",
        "Trap;Engine:51-255,Target:0;(0|1=0)>1,2;616c706861;627261766f",
    ]);
    engine.finds("alpha alpha", "Trap");
    engine.finds("alpha bravo", "Plain");
}

#[test]
fn counters_are_not_shared_between_a_message_and_its_normalised_text() {
    let engine = ldb(&["Both;Engine:51-255,Target:0;0&1;414c504841;627261766f"]);
    engine.finds("ALPHA bravo", "Both");
    engine.finds("ALPHA BRAVO", "");
}

#[test]
fn the_size_is_that_of_the_message_or_of_its_normalised_text() {
    let line = "Size;Engine:51-255,Target:0,FileSize:10-12;0;616c706861";
    let engine = ldb(&[line]);
    engine.finds("alpha1234", "");
    engine.finds("alpha12345", "Size");
    engine.finds("alpha1234567", "Size");
    engine.finds("alpha12345678", "");
    engine.finds(b"alpha12345\xe9\xe9\xe9\xe9", "");
    let engine = load(&[
        ("ldb", line.to_owned() + "\n"),
        ("ndb", FILE_PATH.to_owned() + "\n"),
    ]);
    engine.finds(b"alpha12345\xe9\xe9\xe9\xe9", "Size");
}

#[test]
fn a_container_or_intermediates_never_hold_for_a_message() {
    ldb(&[
        "Zip;Engine:51-255,Target:0,Container:CL_TYPE_ZIP;0;616c706861",
        "Text;Engine:51-255,Target:0,Container:CL_TYPE_TEXT_ASCII;0;616c706861",
        "Any;Engine:51-255,Target:0,Container:CL_TYPE_ANY;0;616c706861",
        "Between;Engine:81-255,Target:0,Intermediates:CL_TYPE_ZIP;0;616c706861",
    ])
    .finds("alpha beta", "Any");
}

#[test]
fn a_regex_is_looked_for_if_its_trigger_is_true_or_is_a_certain_constant() {
    let engine = ldb(&[
        "Trigger;Engine:81-255,Target:0;1;616c706861;0/b[0-9]{3}/",
        "Absent;Engine:81-255,Target:0;1;616c706861;0=0/c[0-9]{3}/",
        "Always;Engine:81-255,Target:0;0;7374756c747a676574737265676578/d[0-9]{3}/",
    ]);
    engine.finds("alpha b123", "Trigger");
    engine.finds("without b123", "");
    engine.finds("without c123", "Absent");
    engine.finds("without d123", "Always");
    engine.finds("without D123", "Always");
}

#[test]
fn a_comparison_needs_the_part_it_refers_to() {
    let engine = ldb(&["Compare;Engine:51-255,Target:0;1;73697a653d;0(>>5#d2#>7)"]);
    engine.finds("size=08 and on", "Compare");
    engine.finds("size=07 and on", "");
    engine.finds("nize=08 and on", "");
}

// ---------------------------------------------------------------------------------------------
// Hashes and the normaliser

#[test]
fn normalised_text_is_hashed_if_target_seven_has_an_offset_from_the_end() {
    let message = b"Some  TEXT\there";
    let normal = normalised(message);
    let hashes = format!(
        "{}:{}:Normal\n{}:{}:Given\n{}:1:Space\n",
        sha256(&normal),
        normal.len(),
        sha256(message),
        message.len(),
        sha256(b" ")
    );
    let with = load(&[
        ("hsb", hashes.clone()),
        ("ndb", FILE_PATH.to_owned() + "\n"),
    ]);
    with.finds(message, "Given Normal");
    with.finds("SOME text HERE", "Normal");
    with.finds("      ", "Space");
    let without = load(&[
        ("hsb", hashes),
        ("ndb", FILE_PATH.replace("EOF-9", "*") + "\n"),
    ]);
    without.finds(message, "Given");
    without.finds("SOME text HERE", "");
}

#[test]
fn hashes_match_by_size_or_with_any_size() {
    let engine = load(&[
        (
            "hdb",
            format!(
                "{}:6:Sized\n{}:7:Wrong\n{}:*:Any:73\n",
                md5(b"abcdef"),
                md5(b"abcdef"),
                md5(b"ghijkl")
            ),
        ),
        (
            "hsb",
            format!("{}:6:Upper\n", sha256(b"mnopqr").to_uppercase()),
        ),
    ]);
    engine.finds("abcdef", "Sized");
    engine.finds("ghijkl", "Any");
    engine.finds("mnopqr", "Upper");
}

#[test]
fn the_normaliser_is_ours_to_the_byte() {
    let mut random = Random::new(7);
    let words = Words::new(Vec::new());
    let mut messages = Vec::new();
    for n in 0..300 {
        let mut message = words.line(&mut random);
        for _ in 0..random.below(20) {
            let byte = random.next() as u8;
            let at = random.below(message.len() + 1);
            if !is_foreign(byte) {
                message.insert(at, byte);
            }
        }
        if n % 100 == 0 {
            // Longer than the buffers of the normaliser.
            message = message.repeat(60_000 / message.len());
        }
        // No type of its own, and none of the tags.
        message.insert(0, b'.');
        message.insert(1, b'x');
        messages.push(message);
    }
    let lines: Vec<String> = messages
        .iter()
        .enumerate()
        .map(|(n, message)| {
            let normal = normalised(message);
            format!("{}:{}:N{n}", sha256(&normal), normal.len())
        })
        .collect();
    let engine = load(&[
        ("hsb", lines.join("\n") + "\n"),
        ("ndb", FILE_PATH.to_owned() + "\n"),
    ]);
    for (n, message) in messages.iter().enumerate() {
        let found = engine.names(message);
        assert!(
            found.contains(&format!("N{n}")),
            "{}",
            message.escape_ascii()
        );
    }
}

// ---------------------------------------------------------------------------------------------
// YARA

#[test]
fn yara_sees_the_message_and_its_normalised_text() {
    let engine = yara(&[r#"rule lower { strings: $a = "needle" condition: $a }"#]);
    engine.finds("a NEEDLE here", "lower");
    engine.finds("a nEEdle here", "lower");
}

#[test]
fn in_a_rule_the_word_nocase_counts_for_texts_and_nothing_does_for_regular_expressions() {
    let engine = yara(&[
        r#"rule word { strings: $a = "NEEDLE" nocase condition: $a }"#,
        r#"rule regex { strings: $a = /NEED[LM]E/ nocase condition: $a }"#,
        r#"rule flag { strings: $a = /NEED[LM]E/i condition: $a }"#,
    ]);
    engine.finds("a needle here", "word");
    engine.finds("a NEEDLE here", "flag regex word");
}

#[test]
fn a_private_rule_is_not_reported_and_none_of_a_set_is_true() {
    let engine = yara(&[
        r#"private rule hidden { strings: $a = "needle" condition: $a }"#,
        r#"rule refers { strings: $b = "thread" condition: hidden and $b }"#,
        r#"rule zero { strings: $c = "nothing" condition: 0 of them }"#,
        r#"rule textless { condition: true }"#,
    ]);
    engine.finds("a needle here", "zero");
    engine.finds("needle and thread", "refers zero");
}

#[test]
fn a_rule_that_is_not_understood_is_left_out_and_the_others_stay() {
    let engine = yara(&[
        r#"rule unknown { strings: $a = "needle" condition: pe.number_of_sections == 1 and $a }"#,
        r#"rule xored { strings: $a = "needle" xor condition: $a }"#,
        r#"rule good { strings: $a = "needle" condition: $a }"#,
    ]);
    engine.finds("a needle here", "good");
}

#[test]
fn a_string_that_no_condition_names_kills_its_rule_and_those_after_it() {
    let engine = yara(&[
        r#"rule before { strings: $a = "needle" condition: $a }"#,
        r#"rule unused { strings: $a = "needle" $b = "thread" condition: $a }"#,
        r#"rule after { strings: $a = "needle" condition: $a }"#,
    ]);
    engine.finds("a needle and a thread here", "before");
}
