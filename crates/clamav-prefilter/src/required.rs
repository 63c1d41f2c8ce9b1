//! What a signature needs to match: one monotone formula, whatever the signature's format.
//!
//! Every front end turns a signature into a [`Required`] such that *the signature matches ⇒ the need
//! holds*. The other direction is not promised. From there on nobody has to know formats.

/// A condition on a message that grows with what the message contains: no negation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Required {
    /// No plain message fulfils it.
    Never,
    /// Any message may fulfil it: nothing is known.
    Always,
    /// One fact.
    Has(Atom),
    /// At least this number of the listed conditions: 1 means any of them, their count means all. Made by [`Required::at_least`],
    /// so it holds no constants and there is a choice.
    AtLeast(usize, Vec<Required>),
}

/// A fact about a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Atom {
    /// The text stands in the normalised message.
    Text {
        /// In normalised form, not empty.
        literal: Box<[u8]>,
        /// An occurrence starts here or earlier, in bytes of the normalised message.
        by: Option<u32>,
    },
    /// The bytes stand in the message itself, of which ASCII letters are taken in lower case.
    Raw(Box<[u8]>),
    /// The message has at least so many bytes.
    Length(u32),
}

impl Required {
    /// The text somewhere in the normalised message; nothing for an empty one.
    pub(crate) fn text(literal: impl Into<Box<[u8]>>) -> Required {
        let literal = literal.into();
        match literal.is_empty() {
            true => Required::Always,
            false => Required::Has(Atom::Text { literal, by: None }),
        }
    }

    /// All of them.
    pub(crate) fn all(needs: Vec<Required>) -> Required {
        let k = needs.len();
        Required::at_least(k, needs)
    }

    /// One of them.
    pub(crate) fn any(needs: Vec<Required>) -> Required {
        Required::at_least(1, needs)
    }

    /// At least `k` of them. Constants are folded away: what always holds is counted, what never
    /// does is left out. "All" and "any" that stand in their like are merged with it.
    pub(crate) fn at_least(k: usize, needs: Vec<Required>) -> Required {
        let mut open = Vec::with_capacity(needs.len());
        let mut left = k;
        for required in needs {
            match required {
                Required::Always => left = left.saturating_sub(1),
                Required::Never => {}
                required => open.push(required),
            }
        }
        if left == 0 {
            return Required::Always;
        }
        if open.len() < left {
            return Required::Never;
        }
        // The kind that merges: "all" of an "all", "any" of an "any".
        let (all, any) = (open.len() == left, left == 1);
        let mut flat = Vec::with_capacity(open.len());
        for required in open {
            match required {
                Required::AtLeast(n, inner) if all && n == inner.len() => flat.extend(inner),
                Required::AtLeast(1, inner) if any && !all => flat.extend(inner),
                required => flat.push(required),
            }
        }
        if all || any {
            flat.dedup();
            let mut seen = std::collections::HashSet::new();
            flat.retain(|required| match required {
                Required::Has(atom) => seen.insert(atom.clone()),
                _ => true,
            });
        }
        let k = if all { flat.len() } else { left };
        match (flat.len(), flat.pop()) {
            (1, Some(only)) => only,
            (_, Some(last)) => {
                flat.push(last);
                Required::AtLeast(k, flat)
            }
            (_, None) => Required::Always,
        }
    }

    /// Bytes that it takes, apart from itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Required::Never | Required::Always | Required::Has(Atom::Length(_)) => 0,
            Required::Has(Atom::Text { literal: bytes, .. } | Atom::Raw(bytes)) => bytes.len(),
            Required::AtLeast(_, needs) => {
                let inner = |required: &Required| size_of::<Required>() + required.memory_bytes();
                needs.iter().map(inner).sum()
            }
        }
    }

    /// Whether it holds where `has` says which facts do.
    #[cfg(test)]
    pub(crate) fn holds(&self, has: &impl Fn(&Atom) -> bool) -> bool {
        match self {
            Required::Never => false,
            Required::Always => true,
            Required::Has(atom) => has(atom),
            Required::AtLeast(k, needs) => {
                needs.iter().filter(|required| required.holds(has)).count() >= *k
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As it was written, before anything was folded.
    #[derive(Clone, Debug)]
    enum Plain {
        Never,
        Always,
        Has(u8),
        AtLeast(usize, Vec<Plain>),
    }

    impl Plain {
        fn holds(&self, facts: u8) -> bool {
            match self {
                Plain::Never => false,
                Plain::Always => true,
                Plain::Has(n) => facts & (1 << n) != 0,
                Plain::AtLeast(k, needs) => {
                    needs
                        .iter()
                        .filter(|required| required.holds(facts))
                        .count()
                        >= *k
                }
            }
        }

        fn fold(&self) -> Required {
            match self {
                Plain::Never => Required::Never,
                Plain::Always => Required::Always,
                Plain::Has(n) => Required::Has(Atom::Length(u32::from(*n))),
                Plain::AtLeast(k, needs) => {
                    Required::at_least(*k, needs.iter().map(Plain::fold).collect())
                }
            }
        }
    }

    fn plain() -> impl Strategy<Value = Plain> {
        let leaf = prop_oneof![
            1 => Just(Plain::Never),
            1 => Just(Plain::Always),
            6 => (0_u8..8).prop_map(Plain::Has),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            (0_usize..6, prop::collection::vec(inner, 0..6))
                .prop_map(|(k, needs)| Plain::AtLeast(k, needs))
        })
    }

    fn assert_folded(required: &Required) {
        if let Required::AtLeast(k, needs) = required {
            assert!(
                *k >= 1 && *k <= needs.len() && needs.len() > 1,
                "{required:?}"
            );
            for inner in needs {
                assert!(
                    !matches!(inner, Required::Never | Required::Always),
                    "{required:?}"
                );
                assert_folded(inner);
            }
        }
    }

    proptest! {
        #[test]
        fn folding_changes_no_answer(plain in plain()) {
            let required = plain.fold();
            assert_folded(&required);
            for facts in 0..=255_u8 {
                let has = |atom: &Atom| matches!(atom, Atom::Length(n) if facts & (1 << n) != 0);
                prop_assert_eq!(required.holds(&has), plain.holds(facts), "{:?} {}", required, facts);
            }
        }
    }
}
