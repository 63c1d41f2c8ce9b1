//! From signature files to what the prefilter is built of.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufRead};
use std::time::Duration;

use super::formats::{Format, body, hash, ioc, lines, logical, visit, whole};
use super::hashes;
use super::names::{LoadedNames, Named, NamedKind};
use super::pattern::{self, Modifiers, Offset, Target};
use super::required::Required;
use super::signature::{Kind, Signature, SizeRange};
use super::types::Types;
use super::yara;

/// Bytes of a file of YARA rules; the largest collections have some ten million.
const LARGEST_YARA: u64 = 256 << 20;
/// Bytes of the second line of a bytecode.
const BYTECODE_LINE: usize = 1 << 20;
/// So many doubts are told; the others are counted.
const DOUBTS: usize = 20;

/// Why not everything that was loaded is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Doubt {
    /// The file's name; of a member of a container with the container's name in front.
    pub file: String,
    /// Line in the file, from 1; `None` if it is about more than a line.
    pub line: Option<u64>,
    /// The signature, if it has a name.
    pub signature: Option<String>,
    /// What is not understood.
    pub why: String,
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(signature) = &self.signature {
            write!(f, ", {signature}")?;
        }
        write!(f, ": {}", self.why)
    }
}

/// All that was read.
#[derive(Debug)]
pub struct Reading {
    pub(crate) signatures: Vec<Signature>,
    /// Rules that are there only if libclamav names them.
    if_named: Vec<(Signature, Place)>,
    pub(crate) hashes: hashes::Builder,
    pub(crate) hash_lines: u64,
    pub(crate) types: Types,
    /// libclamav writes the normalised text to a file, of which it takes digests, too.
    pub(crate) normalises_to_file: bool,
    /// Names of everything that libclamav names, hashed.
    names: HashSet<u64>,
    hasher: RandomState,
    /// What libclamav was told to pass over.
    left_out: HashMap<Box<[u8]>, Vec<LeftOut>>,
    pub(crate) doubts: Vec<Doubt>,
    pub(crate) doubts_not_told: u64,
    /// How long the reading took.
    pub took: Duration,
}

/// Signatures of one name and kind that libclamav was told to pass over.
#[derive(Clone, Copy, Debug)]
struct LeftOut {
    kind: NamedKind,
    /// So many it passed over.
    by_libclamav: u64,
    /// So many were passed over here.
    here: u64,
}

/// Where in the files.
#[derive(Clone, Debug, Default)]
struct Place {
    file: String,
    line: Option<u64>,
}

impl Default for Reading {
    fn default() -> Reading {
        Reading::new()
    }
}

impl Reading {
    /// Nothing but the file types that are built into libclamav.
    pub fn new() -> Reading {
        Reading {
            signatures: Vec::new(),
            if_named: Vec::new(),
            hashes: hashes::Builder::default(),
            hash_lines: 0,
            types: Types::built_in(),
            normalises_to_file: false,
            names: HashSet::new(),
            hasher: RandomState::new(),
            left_out: HashMap::new(),
            doubts: Vec::new(),
            doubts_not_told: 0,
            took: Duration::ZERO,
        }
    }

    /// What libclamav passed over when it loaded, to be passed over here as well.
    pub fn leave_out<'n>(
        &mut self,
        kept_out: impl Iterator<Item = (Option<NamedKind>, &'n [u8], u64)>,
    ) {
        for (kind, name, by_libclamav) in kept_out {
            // What has no kind is not read here.
            self.left_out
                .entry(name.into())
                .or_default()
                .extend(kind.map(|kind| LeftOut {
                    kind,
                    by_libclamav,
                    here: 0,
                }));
        }
    }

    /// Whether libclamav passed over the signature of a line.
    fn passes_over(
        &mut self,
        kind: NamedKind,
        line: Result<&[u8], &'static str>,
        name: fn(&[u8]) -> &[u8],
    ) -> bool {
        !self.left_out.is_empty() && line.is_ok_and(|line| self.is_left_out(kind, name(line)))
    }

    /// Whether libclamav passed over a signature of this name.
    fn is_left_out(&mut self, kind: NamedKind, name: &[u8]) -> bool {
        let kinds = self.left_out.get_mut(name);
        let found = kinds.and_then(|kinds| kinds.iter_mut().find(|known| known.kind == kind));
        let Some(found) = found else { return false };
        found.here += 1;
        true
    }

    /// Reads the content of a file that libclamav loads, by the file's name without its directory. What goes wrong becomes a doubt; some
    /// of the content may be left unread then.
    pub fn file(&mut self, name: &OsStr, content: &mut dyn BufRead) {
        let read = self.content(name.as_encoded_bytes(), content);
        self.is_read(&name.to_string_lossy(), read);
    }

    /// Reads what libclamav loads as a file of this name.
    pub fn text(&mut self, name: &str, text: impl AsRef<[u8]>) {
        let read = self.content(name.as_bytes(), &mut text.as_ref());
        self.is_read(name, read);
    }

    fn is_read(&mut self, name: &str, read: io::Result<()>) {
        if let Err(error) = read {
            let place = Place {
                file: name.to_owned(),
                line: None,
            };
            self.doubt(&place, None, error.to_string());
        }
    }

    /// Reads a file's content.
    fn content(&mut self, name: &[u8], content: &mut dyn BufRead) -> io::Result<()> {
        let outer = String::from_utf8_lossy(name).into_owned();
        let is_container = Format::of(name).is_container();
        visit(name, content, &mut |name, format, content| {
            let inner = String::from_utf8_lossy(name);
            let file = match is_container {
                true => format!("{outer}/{inner}"),
                false => outer.clone(),
            };
            self.one(&file, name, format, content)
        })
    }

    fn one(
        &mut self,
        file: &str,
        name: &[u8],
        format: Format,
        content: &mut dyn BufRead,
    ) -> io::Result<()> {
        // What libclamav does not name it cannot have passed over.
        let names_body = format == Format::Body;
        let each = |most: usize, content: &mut dyn BufRead, take: &mut TakeLine<'_>| {
            lines::each(content, most, &mut |line, text| {
                let place = Place {
                    file: file.to_owned(),
                    line: Some(line),
                };
                take(&place, text);
            })
        };
        match format {
            Format::Body | Format::UnnamedBody => {
                each(lines::SHORT, content, &mut |place, line| {
                    if names_body && self.passes_over(NamedKind::Body, line, body::name) {
                        return;
                    }
                    let parsed = line.and_then(body::parse);
                    match parsed {
                        Ok(parsed) => self.body(place, NamedKind::Body, &parsed),
                        Err(why) => self.doubt(place, None, why.to_owned()),
                    }
                })
            }
            Format::Plain => each(lines::SHORT, content, &mut |place, line| {
                if self.passes_over(NamedKind::Plain, line, body::name_plain) {
                    return;
                }
                match line.and_then(body::parse_plain) {
                    Ok(Some(parsed)) => self.body(place, NamedKind::Plain, &parsed),
                    Ok(None) => {}
                    Err(why) => self.doubt(place, None, why.to_owned()),
                }
            }),
            Format::Logical => each(lines::LONG, content, &mut |place, line| match line {
                Ok(line) => self.logical(place, line, Kind::Logical),
                Err(why) => self.doubt(place, None, why.to_owned()),
            }),
            Format::Bytecode => {
                if self.is_left_out(NamedKind::Bytecode, name) {
                    return Ok(());
                }
                self.name(NamedKind::Bytecode, name);
                self.normalises_to_file = true;
                each(BYTECODE_LINE, content, &mut |place, line| match line {
                    _ if place.line != Some(2) => {}
                    Ok(line) if line.contains(&b';') => {
                        self.logical(place, line, Kind::Bytecode);
                    }
                    Ok(_) => {}
                    Err(why) => self.doubt(place, None, why.to_owned()),
                })
            }
            Format::Hash => each(lines::SHORT, content, &mut |place, line| {
                if self.passes_over(NamedKind::Hash, line, hash::name) {
                    return;
                }
                match line.and_then(hash::parse) {
                    Ok(line) => {
                        self.hash_lines += 1;
                        self.hashes.add(line.kind, line.size, line.start);
                    }
                    Err(why) => self.doubt(place, None, why.to_owned()),
                }
            }),
            Format::FileTypes => each(lines::SHORT, content, &mut |place, line| {
                let added = line
                    .map_err(str::to_owned)
                    .and_then(|line| self.types.add(line));
                if let Err(why) = added {
                    self.doubt(place, None, why);
                }
            }),
            Format::Ioc => {
                let place = Place {
                    file: file.to_owned(),
                    line: None,
                };
                match ioc::hashes(&whole(content, ioc::MOST)?, &mut self.hashes) {
                    Ok(()) => {}
                    Err(why) => self.doubt(&place, None, why.to_owned()),
                }
                Ok(())
            }
            Format::Yara => {
                self.yara(file, &whole(content, LARGEST_YARA)?);
                Ok(())
            }
            // libclamav skips what it does not know, and a libclamav that may know more is not trusted.
            Format::ExecutablePart
            | Format::Icon
            | Format::IgnoreList
            | Format::Irrelevant(_)
            | Format::NotLoaded
            | Format::Unknown => Ok(()),
            Format::Container(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn body(&mut self, place: &Place, kind: NamedKind, body: &body::Body<'_>) {
        self.name(kind, body.name);
        if let Some(signature) = body.signature() {
            self.normalises_to_file |= body.is_relative_text();
            self.add(place, signature);
        }
    }

    fn logical(&mut self, place: &Place, line: &[u8], kind: Kind) {
        if self.is_left_out(NamedKind::Logical, logical::name(line)) {
            return;
        }
        self.name(NamedKind::Logical, logical::name(line));
        if let Some(signature) = logical::logical(line, kind) {
            self.normalises_to_file |= logical::is_relative_text(line);
            self.add(place, signature);
        }
    }

    fn yara(&mut self, file: &str, text: &[u8]) {
        let place = Place {
            file: file.to_owned(),
            line: None,
        };
        let body = |hex: &str, options: yara::BodyOptions| {
            let modifiers = Modifiers {
                nocase: options.nocase,
                fullword: options.fullword,
            };
            pattern::required(hex.as_bytes(), Target::Generic, Offset::Any, modifiers)
        };
        for rule in yara::parse(text, &body) {
            let signature = Signature {
                name: rule.name,
                kind: Kind::Yara,
                required: rule.required,
                size: SizeRange::ANY,
                why: rule.why,
            };
            if signature.name.is_empty() {
                self.add(&place, signature);
                continue;
            }
            if self.is_left_out(NamedKind::Yara, yara_name(&signature.name).as_bytes()) {
                continue;
            }
            self.name(NamedKind::Yara, yara_name(&signature.name).as_bytes());
            if rule.private {
                // It reports nothing, and what refers to it may match anything.
            } else if rule.no_strings || signature.required == Required::Always {
                self.if_named.push((signature, place.clone()));
            } else {
                self.add(&place, signature);
            }
        }
    }

    /// Takes in a signature, and its doubt if there is one.
    fn add(&mut self, place: &Place, mut signature: Signature) {
        if let Some(why) = signature.why.take() {
            let name = signature.name.clone().into_string();
            self.doubt(place, Some(name).filter(|name| !name.is_empty()), why);
        } else if signature.required != Required::Never {
            self.signatures.push(signature);
        }
    }

    fn doubt(&mut self, place: &Place, signature: Option<String>, why: String) {
        if self.doubts.len() >= DOUBTS {
            self.doubts_not_told += 1;
            return;
        }
        self.doubts.push(Doubt {
            file: place.file.clone(),
            line: place.line,
            signature,
            why,
        });
    }

    fn name(&mut self, kind: NamedKind, name: &[u8]) {
        self.names.insert(self.hasher.hash_one((kind, name)));
    }

    /// Holds what was read to what libclamav says that it loaded. It names no signature that was not read, or not all
    /// was understood; and of rules that may be left out, those it does not name are.
    pub fn compare(&mut self, names: &LoadedNames) {
        let everything = Place {
            file: "the signatures".to_owned(),
            line: None,
        };
        if names.incomplete {
            let why = "libclamav's names of what it loaded are incomplete".to_owned();
            self.doubt(&everything, None, why);
        }
        self.compare_left_out(&everything);
        let mut rules = HashSet::new();
        for Named { kind, name } in &names.signatures {
            if *kind == NamedKind::Yara {
                rules.insert(&**name);
            }
            if !self.names.contains(&self.hasher.hash_one((*kind, &**name))) {
                let name = String::from_utf8_lossy(name).into_owned();
                let why = "libclamav loaded it, and it was not read here".to_owned();
                self.doubt(&everything, Some(name), why);
            }
        }
        for (signature, place) in std::mem::take(&mut self.if_named) {
            if names.incomplete || rules.contains(yara_name(&signature.name).as_bytes()) {
                self.add(&place, signature);
            }
        }
    }

    /// No more may be passed over here than libclamav passed over: a signature in a file of which it names nothing is loaded.
    fn compare_left_out(&mut self, everything: &Place) {
        let all = self.left_out.iter();
        let all = all.flat_map(|(name, kinds)| kinds.iter().map(move |known| (name, known)));
        let too_many = all.filter(|(_, known)| known.here > known.by_libclamav);
        let mut too_many: Vec<_> = too_many
            .map(|(name, known)| {
                let name = String::from_utf8_lossy(name).into_owned();
                let LeftOut {
                    by_libclamav, here, ..
                } = known;
                let why = format!(
                    "it was to be left out, and libclamav left out {by_libclamav} of the {here} of this name"
                );
                (name, why)
            })
            .collect();
        too_many.sort();
        for (name, why) in too_many {
            self.doubt(everything, Some(name), why);
        }
    }
}

type TakeLine<'t> = dyn FnMut(&Place, Result<&[u8], &'static str>) + 't;

/// As libclamav names a rule.
fn yara_name(rule: &str) -> String {
    format!("YARA.{rule}")
}
