//! A tree of files of many kinds, the same whenever it is made. None of them meets a limit of a scanner.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use scanner_bin::random::SplitMix;

/// Files in one directory.
const PER_DIRECTORY: usize = 50;

/// What a tree is made of.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Files, the empty ones too.
    pub(crate) files: usize,
    /// Those of them that are empty.
    pub(crate) empty: usize,
    /// Bytes in all of them.
    pub(crate) bytes: usize,
    /// Copies of `samples`, bare or inside something.
    pub(crate) infected: usize,
}

/// Makes `count` files below `root`. Each clean one is unlike all others, so that no scanner can remember it.
pub(crate) fn make(root: &Path, count: usize, samples: &[PathBuf]) -> Made {
    let samples: Vec<Vec<u8>> = samples.iter().map(|path| fs::read(path).unwrap()).collect();
    // Every kind of file comes around a sample now and then. They cost a scanner far more than other files do.
    let step = (count / 400).max(17) | 1;
    let mut made = Made::default();
    for number in 0..count {
        let directory = root.join(directory(number / PER_DIRECTORY));
        if number.is_multiple_of(PER_DIRECTORY) {
            fs::create_dir_all(&directory).unwrap();
        }
        let sample = (number % step == 3).then(|| &samples[number / step % samples.len()]);
        let (kind, bytes) = content(number, sample.map(Vec::as_slice));
        fs::write(directory.join(name(number, kind)), &bytes).unwrap();
        made.files += 1;
        made.empty += usize::from(bytes.is_empty());
        made.bytes += bytes.len();
        made.infected += usize::from(sample.is_some());
    }
    made
}

/// Wide and, now and then, deep; never as deep as clamscan gives up, which is at 15.
fn directory(number: usize) -> PathBuf {
    let mut path = PathBuf::from(format!("dir {}", number % 7));
    for level in 0..number % 11 {
        path.push(format!("level-{level}"));
    }
    path.push(format!("{number:04}"));
    path
}

fn name(number: usize, kind: &str) -> OsString {
    let mut name = match number % 6 {
        0 => b"name with spaces ".to_vec(),
        1 => b"not-utf-8-\xff\xfe-".to_vec(),
        2 => "ümläut-数-".as_bytes().to_vec(),
        3 => b"quote'\"$(x): -".to_vec(),
        _ => b"plain-".to_vec(),
    };
    name.extend(format!("{number}.{kind}").bytes());
    OsString::from_vec(name)
}

/// A file of the kind that is due, around the sample if there is one.
fn content(number: usize, sample: Option<&[u8]>) -> (&'static str, Vec<u8>) {
    let text = text(number);
    let inner = sample.unwrap_or(text.as_bytes());
    let member = if sample.is_some() { "x.bin" } else { "x.txt" };
    match number % 10 {
        0 if sample.is_none() => ("txt", text.into_bytes()),
        1 => (
            "zip",
            zip(&[(member, inner), ("more.txt", text.as_bytes())]),
        ),
        2 => {
            let once = zip(&[(member, inner)]);
            let twice = zip(&[("inner.zip", &once), ("more.txt", text.as_bytes())]);
            ("zip", zip(&[("middle.zip", &twice)]))
        }
        3 => ("eml", mail(number, &text, inner)),
        4 if sample.is_none() => ("html", html(number, &text).into_bytes()),
        5 if sample.is_none() => ("pdf", pdf(&text).into_bytes()),
        6 if sample.is_none() && number % 20 == 6 => ("empty", Vec::new()),
        6 if sample.is_none() => ("sh", script(&text).into_bytes()),
        7 if sample.is_none() => ("bin", noise(number, 4 << 10)),
        8 if sample.is_none() => ("json", json(number, &text).into_bytes()),
        _ if sample.is_none() => ("log", text.repeat(8).into_bytes()),
        _ => ("bin", inner.to_vec()),
    }
}

fn text(number: usize) -> String {
    let mut text = String::new();
    for (line, word) in noise(number, 24).chunks(2).enumerate() {
        let (a, b) = (u32::from(word[0]), u32::from(word[1]));
        text += &format!(
            "<{}>Oct {} 02:44:{:02} host-{a} app[{number}]: request {line} took {} us for user {b}\n",
            a % 192,
            1 + b % 28,
            line % 60,
            a * 256 + b,
        );
    }
    text
}

fn mail(number: usize, text: &str, attached: &[u8]) -> Vec<u8> {
    let encoded = BASE64_STANDARD.encode(attached);
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let mail = format!(
        "From: a{number}@example.org\nTo: b@example.org\nSubject: report {number}\nMIME-Version: 1.0\n\
         Content-Type: multipart/mixed; boundary=\"b{number}\"\n\n--b{number}\nContent-Type: text/plain\n\n{text}\n\
         --b{number}\nContent-Type: application/octet-stream; name=\"x.bin\"\n\
         Content-Transfer-Encoding: base64\n\
         Content-Disposition: attachment; filename=\"x.bin\"\n\n{}\n--b{number}--\n",
        lines.join("\n")
    );
    mail.into_bytes()
}

fn html(number: usize, text: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html><head><title>Page {number}</title><script>var n = {number};</script></head>\n\
         <body><h1>Report</h1><a href=\"index-{number}.html\">next</a><pre>{text}</pre></body></html>\n"
    )
}

fn pdf(text: &str) -> String {
    let stream = format!(
        "BT /F1 12 Tf 72 720 Td ({}) Tj ET",
        text.replace(['(', ')', '\n'], " ")
    );
    format!(
        "%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n\
         2 0 obj\n<< /Type /Pages /Kids [3 0 R] /Count 1 >>\nendobj\n\
         3 0 obj\n<< /Type /Page /Parent 2 0 R /Contents 4 0 R >>\nendobj\n\
         4 0 obj\n<< /Length {} >>\nstream\n{stream}\nendstream\nendobj\n\
         trailer\n<< /Root 1 0 R >>\n%%EOF\n",
        stream.len()
    )
}

fn script(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("echo '{line}'")).collect();
    format!("#!/bin/sh\n{}\n", lines.join("\n"))
}

fn json(number: usize, text: &str) -> String {
    serde_json::json!({ "number": number, "lines": text.lines().collect::<Vec<_>>() }).to_string()
}

/// Bytes that look like nothing.
fn noise(seed: usize, len: usize) -> Vec<u8> {
    let mut random = SplitMix::new(seed as u64);
    (0..len).map(|_| random.number() as u8).collect()
}

/// A zip archive whose members are stored as they are.
pub(crate) fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let offset = archive.len() as u32;
        // From "version needed" to "extra length": the same in both headers.
        let mut common = Vec::new();
        for short in [20u16, 0, 0, 0, 0x5a21] {
            common.extend(short.to_le_bytes());
        }
        let len = bytes.len() as u32;
        for long in [crc32(bytes), len, len] {
            common.extend(long.to_le_bytes());
        }
        for short in [name.len() as u16, 0] {
            common.extend(short.to_le_bytes());
        }
        archive.extend(b"PK\x03\x04");
        archive.extend(&common);
        archive.extend(name.as_bytes());
        archive.extend(*bytes);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = archive.len() as u32;
    archive.extend(&directory);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    for _ in 0..2 {
        archive.extend((members.len() as u16).to_le_bytes());
    }
    archive.extend((directory.len() as u32).to_le_bytes());
    archive.extend(start.to_le_bytes());
    archive.extend([0; 2]);
    archive
}

/// The checksum of zip, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}
