//! A stand-in for ClamAV's own set of signatures, which may not be had here: as many signatures, in the shapes of published samples of it.
//!
//! How many there are is public: what `clamscan` says of main and daily together is 8.7 million. How they divide into kinds is not, so it is assumed:
//! 250,000 are body and logical signatures, and of the hashes half are of whole files.
//!
//! - Hashes have the digests, sizes and names of the samples' kind: random digests; sizes drawn from the samples' own; MD5, one in a hundred
//!   SHA-256. libclamav keeps `.UNOFFICIAL` in the name of each signature that is not in a signed container, so names are that much shorter.
//! - Body and logical signatures are the samples' lines over and over, each time with other digits in the long plain runs of their patterns.
//!
//! The same scale gives the same files.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use scanner_bin::random::SplitMix;

use crate::support::corpus::unpack;

/// Signatures of main 62 and daily of September 2024 together, as published (clamscan's "Known viruses").
pub const OFFICIAL: u64 = 8_701_623;
/// Of these so many are logical signatures,
const LOGICAL: u64 = 150_000;
/// and so many body signatures,
const BODY: u64 = 100_000;
/// and of the hashes such a part are of whole files; the others are of sections.
const WHOLE_FILES: f64 = 0.5;
/// One hash in so many is a SHA-256.
const SHA256: u64 = 100;
/// Bytes of the usual name, without the `.UNOFFICIAL` that libclamav adds.
const SUFFIX: usize = ".UNOFFICIAL".len();
/// Runs of so many digits are made anew.
const LONG_RUN: usize = 16;

/// How many signatures of each kind were written.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    pub whole_files: u64,
    pub sections: u64,
    pub body: u64,
    pub logical: u64,
}

impl Written {
    pub fn total(&self) -> u64 {
        self.whole_files + self.sections + self.body + self.logical
    }
}

/// Writes a set of `scale` times the official size into an empty directory.
pub fn write(samples: &Path, to: &Path, scale: f64) -> Written {
    let of = |count: u64| (count as f64 * scale).round() as u64;
    let (logical, body) = (of(LOGICAL), of(BODY));
    let hashes = of(OFFICIAL) - logical - body;
    let whole_files = (hashes as f64 * WHOLE_FILES) as u64;
    let written = Written {
        whole_files,
        sections: hashes - whole_files,
        body,
        logical,
    };
    let text = |name: &str| {
        let path = samples.join(name);
        let bytes = match name.strip_suffix(".zst") {
            Some(_) => unpack(&path),
            None => fs::read(&path).unwrap(),
        };
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let main = text("official-main-part1.hdb.zst");
    let daily = text("official-daily-2024-12-part1.hsb.zst");
    let mut random = Random(SplitMix::new(0x5ca1_ab1e));
    // Half of them like main's, half like daily's.
    let (half, rest) = (whole_files / 2, whole_files - whole_files / 2);
    hash_file(&to.join("main.hsb"), &main, half, &mut random, whole_file);
    hash_file(&to.join("daily.hsb"), &daily, rest, &mut random, whole_file);
    hash_file(
        &to.join("main.msb"),
        &main,
        written.sections,
        &mut random,
        section,
    );
    let logical_sample = text("official-main-part1.ldb.zst");
    lines(
        &to.join("main.ldb"),
        &logical_sample,
        ';',
        logical,
        &mut random,
    );
    let body_sample = text("official-daily-2024-12.ndb");
    lines(&to.join("daily.ndb"), &body_sample, ':', body, &mut random);
    for name in ["official-main-part1.fp", "official-daily-part1.fp"] {
        fs::write(to.join(name), text(name)).unwrap();
    }
    written
}

/// The same numbers everywhere.
struct Random(SplitMix);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0.below(end as u64) as usize
    }

    fn hex(&mut self, digits: usize, to: &mut String) {
        let end = to.len() + digits;
        while to.len() < end {
            let _infallible = write!(to, "{:016x}", self.0.number());
        }
        to.truncate(end);
    }
}

/// Writes one hash, of this size and name, into the line.
type Shape = fn(&str, &str, &str, &mut String);

fn whole_file(digest: &str, size: &str, name: &str, line: &mut String) {
    let _infallible = write!(line, "{digest}:{size}:{name}:73");
}

fn section(digest: &str, size: &str, name: &str, line: &mut String) {
    let _infallible = write!(line, "{size}:{digest}:{name}:73");
}

/// Hashes with the sizes and the lengths of names that the sample's have.
fn hash_file(path: &Path, sample: &str, count: u64, random: &mut Random, shape: Shape) {
    let shapes: Vec<(&str, &str)> = sample
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(size, _)| *size != "*")
        .collect();
    let mut file = BufWriter::new(File::create(path).unwrap());
    let (mut digest, mut name, mut line) = (String::new(), String::new(), String::new());
    for number in 0..count {
        let (size, like) = shapes[random.below(shapes.len())];
        digest.clear();
        random.hex(
            if number.is_multiple_of(SHA256) {
                64
            } else {
                32
            },
            &mut digest,
        );
        name.clear();
        let _infallible = write!(name, "Win.T-{number}");
        let wanted = like.len().saturating_sub(SUFFIX);
        while name.len() < wanted {
            name.push('x');
        }
        line.clear();
        shape(&digest, size, &name, &mut line);
        writeln!(file, "{line}").unwrap();
    }
    file.flush().unwrap();
}

/// The sample's lines, over and over, with names and patterns of their own.
fn lines(path: &Path, sample: &str, separator: char, count: u64, random: &mut Random) {
    let sample: Vec<&str> = sample.lines().collect();
    let mut file = BufWriter::new(File::create(path).unwrap());
    for number in 0..count as usize {
        let like = sample[number % sample.len()];
        let (name, rest) = like.split_once(separator).unwrap();
        let name = &name[..name
            .len()
            .saturating_sub(SUFFIX)
            .clamp(8.min(name.len()), name.len())];
        let round = number / sample.len();
        write!(file, "{name}-{number}{separator}").unwrap();
        let rest = match round {
            0 => rest.to_owned(),
            _ => anew(rest, random),
        };
        writeln!(file, "{rest}").unwrap();
    }
    file.flush().unwrap();
}

/// Other digits in each long run of plain digits. Letters stay letters, and what a regular expression holds stays as it is.
fn anew(line: &str, random: &mut Random) -> String {
    let mut result = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let run = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        let (digits, after) = rest.split_at(run);
        let is_pattern = run >= LONG_RUN && run.is_multiple_of(2);
        match is_pattern {
            true => digits.as_bytes().chunks(2).for_each(|pair| {
                result.push(pair[0] as char);
                let low = match pair[0] {
                    b'6' => 1 + random.below(15),
                    b'7' => random.below(11),
                    b'2' | b'3' => random.below(10),
                    _ => random.below(16),
                };
                let _infallible = write!(result, "{low:x}");
            }),
            false => result.push_str(digits),
        }
        let other = after
            .bytes()
            .take_while(|byte| !byte.is_ascii_hexdigit())
            .count();
        result.push_str(&after[..other]);
        rest = &after[other..];
    }
    result
}
