//! A set of signatures as large as the whole of ClamAV's, made of the part of it in the test data.
//!
//! A hash becomes many by new digests; kinds and sizes stay as often as they are. A signature becomes several by other bytes in its
//! texts, letters for letters and digits for digits, so that it stays as valid and as common as it was.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use benches::random::Random;
use benches::{databases, tmp_dir};
use tempfile::TempDir;

/// Files in a directory of memory; removed when dropped.
pub struct Set {
    pub dir: TempDir,
    pub hashes: usize,
    /// Logical and body signatures.
    pub texts: usize,
    /// Made of real ones.
    pub is_real: bool,
    pub bytes: u64,
}

/// Runs of so many bytes or more, with nothing but hexadecimal digits, are texts.
const SHORTEST_TEXT: usize = 6;

/// So many hashes, and each other signature so many times. Without the test data a small one, which is said.
pub fn make(hashes: usize, times: usize) -> io::Result<Set> {
    let mut random = Random::new(7);
    let dir = tempfile::tempdir_in(tmp_dir())?;
    let real = databases("official-");
    let (of_hashes, of_texts) = match &real {
        Some(real) => (
            lines(real.path(), &["hdb", "hsb"])?,
            lines(real.path(), &["ldb", "ndb"])?,
        ),
        None => made_up(&mut random),
    };
    // The smaller set is to the full one as its signatures are to the real ones.
    let hashes = if real.is_some() { hashes } else { hashes / 20 };
    let mut files = Files::default();
    for (number, line) in (0..hashes).zip(of_hashes.iter().cycle()) {
        files.write(
            dir.path(),
            line.ending,
            &hash(&line.text, number, &mut random),
        )?;
    }
    for time in 0..times {
        for line in &of_texts {
            files.write(dir.path(), line.ending, &text(line, time, &mut random))?;
        }
    }
    let bytes = files.close()?;
    Ok(Set {
        dir,
        hashes,
        texts: of_texts.len() * times,
        is_real: real.is_some(),
        bytes,
    })
}

struct Line {
    ending: &'static str,
    text: String,
}

fn lines(dir: &Path, endings: &[&'static str]) -> io::Result<Vec<Line>> {
    let mut paths: Vec<_> = fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let ending = endings
            .iter()
            .find(|ending| path.extension().is_some_and(|of| of == **ending));
        let Some(ending) = ending else { continue };
        let text = fs::read_to_string(path)?;
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        all.extend(lines.map(|line| Line {
            ending,
            text: line.to_owned(),
        }));
    }
    Ok(all)
}

/// Hashes of files of all sizes, and signatures of words that look into messages.
fn made_up(random: &mut Random) -> (Vec<Line>, Vec<Line>) {
    let hashes = (0..1000).map(|number| Line {
        ending: "hdb",
        text: format!(
            "{:032x}:{}:Made.Hash-{number}",
            0,
            1 + random.below(200_000)
        ),
    });
    let hashes = hashes.collect();
    let mut word = || {
        (0..20)
            .map(|_| format!("{:02x}", b'a' + random.below(26) as u8))
            .collect::<String>()
    };
    let texts = (0..1000).map(|number| Line {
        ending: "ldb",
        text: format!(
            "Made.Text-{number};Engine:51-255,Target:{};0&1;{};{}",
            number % 2,
            word(),
            word()
        ),
    });
    (hashes, texts.collect())
}

/// The same kind and size with another digest.
fn hash(line: &str, number: usize, random: &mut Random) -> String {
    let (digits, rest) = line.split_once(':').unwrap_or((line, ""));
    let mut digest = String::with_capacity(line.len() + 8);
    while digest.len() < digits.len() {
        digest += &format!("{:016x}", random.number());
    }
    digest.truncate(digits.len());
    // The name is the third field.
    let (size, name) = rest.split_once(':').unwrap_or((rest, ""));
    let (name, level) = name
        .split_once(':')
        .map_or((name, String::new()), |(name, level)| {
            (name, format!(":{level}"))
        });
    format!("{digest}:{size}:{name}.{number}{level}")
}

/// The signature with other texts, but for the first time.
fn text(line: &Line, time: usize, random: &mut Random) -> String {
    if time == 0 {
        return line.text.clone();
    }
    let (separator, first) = if line.ending == "ldb" {
        (';', 3)
    } else {
        (':', 3)
    };
    let mut fields: Vec<String> = line.text.split(separator).map(str::to_owned).collect();
    for field in fields.iter_mut().skip(first) {
        *field = pattern(field, random);
    }
    if let Some(name) = fields.first_mut() {
        *name += &format!(".{time}");
    }
    fields.join(&separator.to_string())
}

/// Every third byte of its texts is another one of its kind. What is not of hexadecimal digits alone stays: expressions, comparisons,
/// alternatives, places.
fn pattern(field: &str, random: &mut Random) -> String {
    if field.contains(['/', '#', '$']) {
        return field.to_owned();
    }
    let end = field.find("::").unwrap_or(field.len());
    let start = field[..end].rfind(':').map_or(0, |at| at + 1);
    let mut bytes = field.as_bytes().to_vec();
    let mut depth = 0;
    let mut at = start;
    while at < end {
        match bytes[at] {
            b'(' | b'{' | b'[' => depth += 1,
            b')' | b'}' | b']' => depth -= 1,
            _ => {}
        }
        let run = bytes[at..end]
            .iter()
            .take_while(|digit| digit.is_ascii_hexdigit())
            .count();
        if depth == 0 && run % 2 == 0 && run >= 2 * SHORTEST_TEXT {
            for pair in bytes[at..at + run].chunks_exact_mut(2).skip(1).step_by(3) {
                vary(pair, random);
            }
        }
        at += run.max(1);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Another byte of its kind, in two digits.
fn vary(pair: &mut [u8], random: &mut Random) {
    let digits = String::from_utf8_lossy(pair);
    let Ok(byte) = u8::from_str_radix(&digits, 16) else {
        return;
    };
    let (from, count) = match byte {
        b'a'..=b'z' => (b'a', 26),
        b'A'..=b'Z' => (b'A', 26),
        b'0'..=b'9' => (b'0', 10),
        0x80.. => (0x80, 0x80),
        // Signs and control bytes make the text what it is.
        _ => return,
    };
    let other = from + random.below(count) as u8;
    pair.copy_from_slice(format!("{other:02x}").as_bytes());
}

/// A file for each ending.
#[derive(Default)]
struct Files(Vec<(&'static str, BufWriter<File>, u64)>);

impl Files {
    fn write(&mut self, dir: &Path, ending: &'static str, line: &str) -> io::Result<()> {
        let found = self.0.iter().position(|(known, ..)| *known == ending);
        let at = match found {
            Some(at) => at,
            None => {
                let file = File::create(dir.join(format!("full.{ending}")))?;
                self.0
                    .push((ending, BufWriter::with_capacity(1 << 20, file), 0));
                self.0.len() - 1
            }
        };
        let (_, file, bytes) = &mut self.0[at];
        *bytes += line.len() as u64 + 1;
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")
    }

    fn close(self) -> io::Result<u64> {
        let mut all = 0;
        for (_, mut file, bytes) in self.0 {
            file.flush()?;
            all += bytes;
        }
        Ok(all)
    }
}
