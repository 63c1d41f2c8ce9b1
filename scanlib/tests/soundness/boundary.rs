//! Messages at the border of what libclamav takes for plain text: whatever it knows other types by, where it looks for it
//! and beside it.

use super::mutate::spaced_out;
use super::random::Random;
use super::words::Words;

/// At the start of a file, or at the offset named.
const MAGICS: &[(usize, &[u8])] = &[
    (0, b"From "),
    (0, b"From: "),
    (0, b">From "),
    (0, b"Date: "),
    (0, b"To: "),
    (0, b"For: "),
    (0, b"Subject: "),
    (0, b"Received: "),
    (0, b"Received-SPF: "),
    (0, b"Return-Path: "),
    (0, b"Return-path: "),
    (0, b"Message-ID: "),
    (0, b"Message-Id: "),
    (0, b"Delivered-To: "),
    (0, b"Delivery-date: "),
    (0, b"Envelope-to: "),
    (0, b"X-Apparently-To: "),
    (0, b"X-EVS"),
    (0, b"X-Envelope-From: "),
    (0, b"X-Original-To: "),
    (0, b"X-Real-To: "),
    (0, b"X-Sieve: "),
    (0, b"X-Symantec-"),
    (0, b"X-UIDL: "),
    (0, b"Hi. This is the qmail-send"),
    (0, b"v:\nReceived: "),
    (0, b"v:\r\nReceived: "),
    (0, b"ID3"),
    (0, b"OggS"),
    (0, b".RMF"),
    (0, b"SIP-HIT (SIP/H"),
    (0, b"\xff\xfb\x90"),
    (0, b"MZ"),
    (0, b"BM"),
    (0, b"MM"),
    (0, b"GIF"),
    (0, b"BZh"),
    (0, b"Rar!"),
    (0, b"RIFF"),
    (0, b"RIFX"),
    (0, b"ITSF"),
    (0, b"SZDD"),
    (0, b"FWS"),
    (0, b"CWS"),
    (0, b"ZWS"),
    (0, b"EGGA"),
    (0, b"xar!"),
    (0, b"070701"),
    (0, b"070702"),
    (0, b"070707"),
    (0, b"%PDF-"),
    (0, b"%!PS-Adobe-"),
    (0, b"{\\rt"),
    (0, b"#@~^"),
    (0, b"begin "),
    (0, b"[aliases]"),
    (0, b"(This file must be converted with BinHex 4.0)"),
    (0, b"{\n  \"Magic\":\"CLAMJSONv0\""),
    (0, b"\x60\xea"),
    (0, b"\xc7\x71"),
    (0, b"\x71\xc7"),
    (0, b"\xff\xd8\xff"),
    (0, b"\x89PNG"),
    (0, b"\xce\xfa\xed\xfe"),
    (0, b"\xcf\xfa\xed\xfe"),
    (0, b"\xfe\xed\xfa\xce"),
    (0, b"\xfe\xed\xfa\xcf"),
    (0, b"\xb6\xb9\xac\xae\xfe\xff\xff\xff"),
    (0, b"\x78\x9f\x3e\x22"),
    (0, b"\xe4R\\{\x8c\xd8\xa7M\xae\xb1Sx\xd0)\x96\xd3"),
    (0, b"\xff\xfe"),
    (0, b"\xfe\xff"),
    (0, b"\xef\xbb\xbf"),
    (0, b"PK\x03\x04"),
    (0, b"\x7fELF"),
    (0, b"\x1f\x8b"),
    (0, b"7z\xbc\xaf\x27\x1c"),
    (0, b"<%@ LANGUAGE ="),
    (0, b"#!/bin/sh"),
    (2, b"\r\n"),
    (2, b"-lh5-"),
    (2, b"-lz4-"),
    (2, b"-pm0-"),
    (4, b"TFL3"),
    (0, b"\x28\xb5\x2f\xfd"),
    (257, b"ustar"),
    (510, b"\x55\xaa"),
    (512, b"EFI PART"),
];

/// Anywhere, or in what a message of several lines has to hold.
const FRAGMENTS: &[&[u8]] = &[
    b"<html>", b"<HTML>", b"<Html>", b"<head>", b"<HEAD>", b"<Head>", b"<img", b"<IMG", b"<Img", b"<iframe", b"<IFRAME",
    b"<object", b"<OBJECT", b"<Object", b"<script", b"<SCRIPT", b"<Script", b"<table", b"<TABLE", b"<a href", b"<A HREF",
    b"<a x hREF", b"<title>", b"<body>", b"%PDF-1.", b"%pdf-x.", b"<xdp:xdp",
    b"\nFrom: a\nContent-Type: b", b"\nfrom: a\nMIME-Version: b", b"\nMIME-Version: 1.0\nContent-Type: text/plain",
    b"MIME-Version: 1.0\nContent-Type: text/html", b"\nMessage-ID: 1\ncontent-type: x", b"\nReceived: x\nContent-Type: y",
    b"Delivered-To: a\nReceived: b", b"<?xml version=\"1.0\"?><Workbook", b"<?xml version=\"1.0\"><wordDocument",
    b"<?xml version=\"1.0\"?><w:wordDocument", b"<?xml version=\"1.0\" progid=\"Word.Document\"?>",
    b"\xef\xbb\xbf<?xml version=\"1.0\"><HWPML", b"koly", b"AU3!EA05", b"NullsoftInst",
    b"\xa3\x48\x4b\xbe\x98\x6c\x4a\xa9\x99\x4c\x53\x0a\x86\xd6\x48\x7dAU3!EA06", b"\xef\xbe\xad\xdeNullsoftInst",
    b"/RGB\nID\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
];

/// One message of that kind.
pub fn message(words: &Words, random: &mut Random) -> Vec<u8> {
    let magic = random.percent(50);
    let (at, fragment) = if magic {
        *random.pick(MAGICS)
    } else {
        (0, *random.pick(FRAGMENTS))
    };
    let mut fragment = fragment.to_vec();
    match random.below(13) {
        12 => {
            // In UTF-16 that says so, in either order of bytes.
            let mut marked = random.pick(&[b"\xff\xfe", b"\xfe\xff"]).to_vec();
            marked.extend(spaced_out(&fragment, random));
            marked.extend(words.phrase(random));
            return marked;
        }
        0 => fragment.make_ascii_uppercase(),
        1 => fragment.make_ascii_lowercase(),
        2 => {
            let at = random.below(fragment.len());
            fragment[at] ^= 0x20;
        }
        3 => fragment = spaced_out(&fragment, random),
        4 => {
            let at = random.below(fragment.len());
            fragment[at] = random.next() as u8;
        }
        _ => {}
    }
    let mut out = Vec::new();
    let start = match random.below(10) {
        _ if magic && random.percent(50) => at,
        0 | 1 => random.below(10),
        2 => random.between(127, 128),
        3 => random.between(255, 258),
        4 => random.between(509, 514),
        5 => random.between(1015, 1030),
        6 => 2048,
        _ => random.below(120),
    };
    fill(&mut out, start, words, random);
    out.extend(fragment);
    let tail = match random.below(5) {
        0 => random.between(505, 512),
        1 => 0,
        _ => random.below(200),
    };
    let end = out.len() + tail;
    fill(&mut out, end, words, random);
    if random.percent(8) && !out.is_empty() {
        let at = random.below(out.len());
        out[at] = random.next() as u8;
    }
    out
}

/// Text up to exactly this length.
fn fill(out: &mut Vec<u8>, len: usize, words: &Words, random: &mut Random) {
    while out.len() < len {
        out.extend(words.phrase(random));
        out.push(b' ');
    }
    out.truncate(len);
}
