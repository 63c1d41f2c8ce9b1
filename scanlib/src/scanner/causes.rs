//! How often each [`Cause`] made libclamav examine a buffer.

use std::ops::{AddAssign, Index, IndexMut};

use crate::prefilter::Cause;

/// A count for each [`Cause`].
///
/// ```
/// use scanlib::CauseCounts;
/// use scanlib::prefilter::Cause;
///
/// let mut counts = CauseCounts::default();
/// counts[Cause::Signature] += 2;
/// assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 2);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CauseCounts([u64; Cause::ALL.len()]);

impl CauseCounts {
    /// Each cause with its count, in the order of [`Cause::ALL`].
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Cause, u64)> + '_ {
        Cause::ALL.iter().copied().zip(self.0)
    }
}

impl Index<Cause> for CauseCounts {
    type Output = u64;

    fn index(&self, cause: Cause) -> &u64 {
        &self.0[cause as usize]
    }
}

impl IndexMut<Cause> for CauseCounts {
    fn index_mut(&mut self, cause: Cause) -> &mut u64 {
        &mut self.0[cause as usize]
    }
}

impl AddAssign for CauseCounts {
    fn add_assign(&mut self, other: CauseCounts) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }
}
