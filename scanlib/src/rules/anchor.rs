//! Proof that a regular expression cannot match without one of its rule's anchors.
//!
//! The gate runs an expression only where an anchor of it occurs. That loses no match exactly if
//! every possible match contains one, so a rule file is refused where this cannot be shown. What is
//! shown is sound and not complete: a refused expression needs a better anchor.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Sets of strings grow by multiplication; beyond this they are given up.
const MAX_STRINGS: usize = 64;
const MAX_CLASS: usize = 16;

/// Which anchors (by place in the rule's list) prove an expression.
pub(super) type Needed = Vec<usize>;

/// The anchors of which every match of `hir` contains at least one; `None` if there is no such
/// set. Anchors are in lower case, and ASCII case is ignored.
pub(super) fn needed(hir: &Hir, anchors: &[String]) -> Option<Needed> {
    let proof = Prover { anchors }.visit(hir);
    proof.needed
}

struct Prover<'a> {
    anchors: &'a [String],
}

/// What is known of the matches of a part.
struct Known {
    /// All of them in lower case, if they are few.
    strings: Option<Vec<Vec<u8>>>,
    /// If they are many: each begins with one of these, and ends with one of these. Perhaps only
    /// the empty string is known.
    edges: Vec<Vec<u8>>,
    needed: Option<Needed>,
}

impl Prover<'_> {
    fn visit(&self, hir: &Hir) -> Known {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => self.exactly(vec![Vec::new()]),
            HirKind::Literal(literal) => self.exactly(vec![literal.0.to_ascii_lowercase()]),
            HirKind::Class(class) => match few(class) {
                Some(strings) => self.exactly(strings),
                None => Known {
                    strings: None,
                    edges: vec![Vec::new()],
                    needed: None,
                },
            },
            HirKind::Capture(capture) => self.visit(&capture.sub),
            HirKind::Repetition(repetition) => {
                let once = self.visit(&repetition.sub);
                let (strings, edges) = match (repetition.min, repetition.max, once.strings) {
                    (0, Some(1), Some(mut strings)) => {
                        strings.push(Vec::new());
                        (Some(strings), Vec::new())
                    }
                    (1, Some(1), strings) => (strings, once.edges),
                    (1.., _, Some(strings)) => (None, strings),
                    _ => (None, vec![Vec::new()]),
                };
                let needed = if repetition.min > 0 {
                    once.needed
                } else {
                    None
                };
                Known {
                    strings,
                    edges,
                    needed,
                }
            }
            HirKind::Concat(parts) => self.concat(parts),
            HirKind::Alternation(parts) => {
                let parts: Vec<_> = parts.iter().map(|part| self.visit(part)).collect();
                let strings: Option<Vec<_>> =
                    parts.iter().map(|part| part.strings.clone()).collect();
                let strings = strings
                    .map(|sets| sets.concat())
                    .filter(|all| all.len() <= MAX_STRINGS);
                let needed: Option<Vec<_>> = parts.into_iter().map(|part| part.needed).collect();
                let needed = needed.map(|sets| union(sets.concat()));
                Known {
                    strings,
                    edges: vec![Vec::new()],
                    needed,
                }
            }
        }
    }

    fn exactly(&self, strings: Vec<Vec<u8>>) -> Known {
        let needed = self.of_strings(&strings);
        Known {
            strings: Some(strings),
            edges: Vec::new(),
            needed,
        }
    }

    /// The parts one after the other. Neighbours whose strings are known are multiplied out, so
    /// that an anchor may reach over several of them; where that gets too many, the beginnings are
    /// forgotten.
    fn concat(&self, parts: &[Hir]) -> Known {
        let mut whole = true;
        let mut best = None;
        let mut run = vec![Vec::new()];
        for part in parts {
            let part = self.visit(part);
            self.prefer(&mut best, part.needed);
            let (next, known) = match part.strings {
                Some(strings) => (strings, true),
                None => (part.edges, false),
            };
            for kept in [16, 4, 1, 0] {
                if run.len() * next.len() <= MAX_STRINGS {
                    break;
                }
                self.prefer(&mut best, self.of_strings(&run));
                whole = false;
                run = endings(run, kept);
            }
            run = run
                .iter()
                .flat_map(|head| next.iter().map(move |tail| [&head[..], tail].concat()))
                .collect();
            if !known {
                // Up to here the part's beginning; from here its end.
                self.prefer(&mut best, self.of_strings(&run));
                run = next;
                whole = false;
            }
        }
        self.prefer(&mut best, self.of_strings(&run));
        let strings = whole.then_some(run);
        Known {
            strings,
            edges: vec![Vec::new()],
            needed: best,
        }
    }

    /// For each string the longest anchor in it.
    fn of_strings(&self, strings: &[Vec<u8>]) -> Option<Needed> {
        let longest = |string: &Vec<u8>| {
            let inside =
                |anchor: &String| memchr::memmem::find(string, anchor.as_bytes()).is_some();
            let places = (0..self.anchors.len()).filter(|&place| inside(&self.anchors[place]));
            places.max_by_key(|&place| self.anchors[place].len())
        };
        strings
            .iter()
            .map(longest)
            .collect::<Option<_>>()
            .map(union)
    }

    /// Keeps the set whose shortest anchor is longer: it lets fewer lines through.
    fn prefer(&self, best: &mut Option<Needed>, other: Option<Needed>) {
        let shortest = |set: &Option<Needed>| {
            let set = set.as_ref()?;
            set.iter().map(|&place| self.anchors[place].len()).min()
        };
        if shortest(&other) > shortest(best) {
            *best = other;
        }
    }
}

fn endings(strings: Vec<Vec<u8>>, length: usize) -> Vec<Vec<u8>> {
    let cut = |string: Vec<u8>| string[string.len().saturating_sub(length)..].to_vec();
    let mut strings: Vec<_> = strings.into_iter().map(cut).collect();
    strings.sort_unstable();
    strings.dedup();
    strings
}

fn union(mut places: Needed) -> Needed {
    places.sort_unstable();
    places.dedup();
    places
}

/// The members of a small class in lower case.
fn few(class: &Class) -> Option<Vec<Vec<u8>>> {
    let mut strings: Vec<Vec<u8>> = Vec::new();
    let mut add = |string: Vec<u8>| {
        if !strings.contains(&string) {
            strings.push(string);
        }
    };
    match class {
        Class::Bytes(class) => {
            if class.iter().map(|range| range.len()).sum::<usize>() > MAX_CLASS {
                return None;
            }
            for byte in class.iter().flat_map(|range| range.start()..=range.end()) {
                add(vec![byte.to_ascii_lowercase()]);
            }
        }
        Class::Unicode(class) => {
            if class.iter().map(|range| range.len()).sum::<usize>() > MAX_CLASS {
                return None;
            }
            for letter in class.iter().flat_map(|range| range.start()..=range.end()) {
                add(letter.to_ascii_lowercase().to_string().into_bytes());
            }
        }
    }
    Some(strings)
}
