//! What conditions and strings need, row by row.

use super::*;

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
        assert_eq!(short(&rule.required), expected, "{text}");
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
        assert_eq!(rule.required, Required::Always, "{text}");
        assert!(rule.why.is_some(), "{text}");
    }
}

#[test]
fn great_conditions_are_given_up() {
    let deep = |n: usize| format!("{}$a{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(short(&condition(&deep(20)).required), "a");
    let many = vec!["$a*"; 2000].join(", ");
    for text in [
        deep(100_000),
        deep(100),
        vec!["not"; 200_000].join(" "),
        vec!["$a"; 60_000].join(" and "),
        format!("for any of ({many}) : (for any i in (1..2) : (2000 of ({many})))"),
    ] {
        let rule = condition(&text);
        assert_eq!(rule.required, Required::Always);
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
        assert_eq!(short(&rule.required), expected, "{text}");
        assert_eq!(rule.why.is_some(), expected == "always", "{text}");
    }
    for (count, expected) in [(64, false), (65, true)] {
        let strings: String = (0..count)
            .map(|n| format!("$s{n} = \"alpha{n}\" "))
            .collect();
        let rule = only(&format!(
            "rule r {{ strings: {strings} condition: any of them }}"
        ));
        assert_eq!(rule.required == Required::Never, expected, "{count}");
    }
}
