//! What is not tried again by itself: files that were refused, and those that an operator turned away from.

use serde::{Deserialize, Serialize};

use super::Id;

/// So many are remembered; the oldest is forgotten, and would be tried once more.
const REMEMBERED: usize = 32;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The files.
    pub id: Id,
    /// Since when, RFC 3339.
    pub at: String,
    /// Why.
    pub reason: String,
    /// What they were tried with: another program, library or setting may accept them. `None`: whatever it is.
    pub tried_with: Option<String>,
}

/// All of them, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HeldList(Vec<Held>);

impl HeldList {
    /// Why these files are not tried with this, if they are not.
    pub fn find(&self, id: &Id, tried_with: &str) -> Option<&Held> {
        let applies = |held: &&Held| {
            let with = held.tried_with.as_deref();
            held.id == *id && with.is_none_or(|with| with == tried_with)
        };
        self.0.iter().find(applies)
    }

    /// Those of one set of files, whatever they were tried with.
    pub fn of(&self, id: &Id) -> Option<&Held> {
        self.0.iter().find(|held| held.id == *id)
    }

    /// Remembers one, in place of what was known of the same files.
    pub fn hold(&mut self, held: Held) {
        self.release(&held.id);
        self.0.push(held);
        let old = self.0.len().saturating_sub(REMEMBERED);
        self.0.drain(..old);
    }

    /// Forgets what is known of these files.
    pub fn release(&mut self, id: &Id) {
        self.0.retain(|held| held.id != *id);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> Id {
        Id::parse(&format!("{number:064x}")).unwrap()
    }

    fn held(number: usize, with: Option<&str>) -> Held {
        Held {
            id: id(number),
            at: String::new(),
            reason: number.to_string(),
            tried_with: with.map(str::to_owned),
        }
    }

    #[test]
    fn what_was_refused_with_one_library_may_be_tried_with_another() {
        let mut list = HeldList::default();
        list.hold(held(1, Some("1.4")));
        list.hold(held(2, None));
        assert!(list.find(&id(1), "1.4").is_some());
        assert_eq!(list.find(&id(1), "1.5"), None);
        assert!(
            list.find(&id(2), "1.5").is_some(),
            "an operator's word holds"
        );
        list.release(&id(2));
        assert_eq!(list.find(&id(2), "1.5"), None);
    }

    #[test]
    fn the_list_is_bounded_and_holds_each_once() {
        let mut list = HeldList::default();
        for number in (0..100).chain(90..100) {
            list.hold(held(number, None));
        }
        assert_eq!(list.iter().count(), REMEMBERED);
        assert!(list.of(&id(99)).is_some() && list.of(&id(60)).is_none());
    }
}
