//! Which texts to look for, so that no message that fulfils a need goes unseen.
//!
//! Of n needs of which k hold, any n − k + 1 contain one that holds. So the dearest k − 1 can be left out: of "all" the
//! cheapest remains, of "any" nothing is left out.

use super::frequency::TextModel;
use super::required::{Atom, Required};

/// A search in the message itself is an extra pass.
const RAW_PENALTY: f32 = 4.0;

/// Facts one of which holds wherever the need does.
#[derive(Clone, Debug)]
pub(crate) struct Cover<'n> {
    pub(crate) atoms: Vec<&'n Atom>,
    /// How many of them are expected in a message.
    pub(crate) expected: f32,
}

/// Where texts are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// In the message and its normalised form.
    Message,
    /// In the reading of its start as UTF-16, normalised.
    Decoded,
}

/// The cheapest cover; `None` if there is none, because nothing is needed or nothing of it is a text.
pub(crate) fn cover<'n>(
    required: &'n Required,
    place: Where,
    model: &TextModel,
) -> Option<Cover<'n>> {
    match required {
        Required::Never => Some(Cover {
            atoms: Vec::new(),
            expected: 0.0,
        }),
        Required::Always => None,
        Required::Has(atom) => {
            let expected = expected(atom, place, model)?;
            Some(Cover {
                atoms: vec![atom],
                expected,
            })
        }
        Required::AtLeast(k, needs) => {
            let mut covers: Vec<Cover<'n>> = needs
                .iter()
                .filter_map(|required| cover(required, place, model))
                .collect();
            let enough = (needs.len() + 1).saturating_sub(*k);
            if covers.len() < enough {
                return None;
            }
            covers.sort_by(|a, b| a.expected.total_cmp(&b.expected));
            covers.truncate(enough);
            Some(Cover {
                expected: covers.iter().map(|cover| cover.expected).sum(),
                atoms: covers.into_iter().flat_map(|cover| cover.atoms).collect(),
            })
        }
    }
}

/// `None` for what is not looked for.
fn expected(atom: &Atom, place: Where, model: &TextModel) -> Option<f32> {
    match (atom, place) {
        (Atom::Text { literal, by }, Where::Message) => {
            // At a place that is known the text is as rare as that place among all.
            let share = by.map_or(1.0, |by| ((by as f32 + 1.0) / 300.0).min(1.0));
            Some(model.expected(literal) * share)
        }
        // Places in the message say nothing about places in its reading as UTF-16.
        (Atom::Text { literal, .. }, Where::Decoded) => Some(model.expected(literal)),
        (Atom::Raw(bytes), Where::Message) => {
            // What normalisation keeps of it is at least as common; a byte that it drops is rarer than any other.
            let mut normal = Vec::new();
            super::text::normalise(bytes, &mut normal);
            let lost = bytes.len() - normal.len();
            let kept = match normal.is_empty() {
                true => 300.0,
                false => model.expected(&normal),
            };
            Some(RAW_PENALTY * kept * 0.05_f32.powi(i32::try_from(lost).unwrap_or(i32::MAX)))
        }
        (Atom::Raw(_), Where::Decoded) | (Atom::Length(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaf() -> impl Strategy<Value = Required> {
        prop_oneof![
            "[a-d]{1,3}".prop_map(|text| Required::text(text.into_bytes())),
            "[a-d]{1,3}".prop_map(|text| Required::Has(Atom::Raw(text.into_bytes().into()))),
            (0_u32..9).prop_map(|n| Required::Has(Atom::Length(n))),
            Just(Required::Always),
            Just(Required::Never),
        ]
    }

    fn required() -> impl Strategy<Value = Required> {
        leaf().prop_recursive(4, 30, 5, |inner| {
            (0_usize..5, prop::collection::vec(inner, 0..5))
                .prop_map(|(k, n)| Required::at_least(k, n))
        })
    }

    proptest! {
        #[test]
        fn where_the_need_holds_a_fact_of_the_cover_does(
            required in required(), facts in prop::collection::vec(any::<bool>(), 64),
        ) {
            let has = |atom: &Atom| {
                let sum: usize = format!("{atom:?}").bytes().map(usize::from).sum();
                facts[sum % facts.len()]
            };
            for place in [Where::Message, Where::Decoded] {
                if let Some(cover) = cover(&required, place, TextModel::built_in())
                    && required.holds(&has)
                {
                    prop_assert!(cover.atoms.iter().any(|atom| has(atom)), "{:?} {:?}", required, cover);
                }
            }
        }
    }

    #[test]
    fn the_rarest_of_all_and_each_of_any() {
        let text = |literal: &str| Required::text(literal.as_bytes());
        let covers = |required: &Required| -> Vec<String> {
            let cover = cover(required, Where::Message, TextModel::built_in()).expect("a cover");
            let name = |atom: &&Atom| match atom {
                Atom::Text { literal, .. } => String::from_utf8_lossy(literal).into_owned(),
                other => format!("{other:?}"),
            };
            let mut names: Vec<String> = cover.atoms.iter().map(name).collect();
            names.sort();
            names
        };
        let (common, wget, curl) = (text("http://"), text("wget"), text("curl"));
        let either = Required::any(vec![wget.clone(), curl.clone()]);
        assert_eq!(
            covers(&Required::all(vec![common.clone(), either.clone()])),
            ["curl", "wget"]
        );
        let two = Required::at_least(2, vec![common.clone(), wget.clone(), curl.clone()]);
        assert_eq!(covers(&two), ["curl", "wget"]);
        let any = Required::any(vec![common.clone(), wget, curl]);
        assert_eq!(covers(&any), ["curl", "http://", "wget"]);
        let anchored = Required::Has(Atom::Text {
            literal: b"http://".to_vec().into(),
            by: Some(0),
        });
        let near = |required: &Required| {
            cover(required, Where::Message, TextModel::built_in()).map(|cover| cover.expected)
        };
        assert!(near(&anchored) < near(&common));
        assert!(near(&Required::Has(Atom::Length(9))).is_none());
        assert!(near(&Required::Always).is_none());
        assert_eq!(near(&Required::Never), Some(0.0));
    }
}
