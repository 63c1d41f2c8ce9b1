//! Regular expressions that every flavour reads alike, and messages about the same bytes.
//!
//! Included by the tests of this crate and by those of `scanlib`, which compare them with libclamav.

#![allow(dead_code, missing_docs, unreachable_pub)]

use proptest::prelude::*;

/// An expression that all flavours read alike.
pub fn pattern() -> impl Strategy<Value = String> {
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
pub fn message() -> impl Strategy<Value = Vec<u8>> {
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
