//! Which buffers libclamav would certainly call clean.
//!
//! The contract is "no false negatives": [`Gate::Cleared`] is said only where it is proven that
//! libclamav would report nothing; [`Gate::MustScan`] may be said of anything. Where no proof
//! exists for the loaded signatures, everything is scanned, and [`Prefilter::coverage`] says so.

#[allow(dead_code)]
mod formats;
#[allow(dead_code)]
mod hashes;
#[allow(dead_code)]
mod logic;
#[allow(dead_code)]
mod need;
#[allow(dead_code)]
mod pattern;
#[allow(dead_code)]
mod signature;
#[allow(dead_code)]
mod text;
#[allow(dead_code)]
mod yara;

/// Decides for one generation of signatures.
#[derive(Clone, Debug)]
pub struct Prefilter {
    coverage: Coverage,
}

/// How much of the loaded signatures the prefilter has understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coverage {
    /// It was not asked for, so nothing is cleared.
    Off,
}

/// The decision for one buffer.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// libclamav has to look.
    MustScan,
    /// libclamav would report nothing.
    Cleared,
}

impl Prefilter {
    /// A prefilter that clears nothing.
    pub fn off() -> Prefilter {
        Prefilter {
            coverage: Coverage::Off,
        }
    }

    /// How much it has understood.
    pub fn coverage(&self) -> Coverage {
        self.coverage
    }

    /// Judges exactly the buffer that would be scanned.
    pub fn check(&self, _buffer: &[u8]) -> Gate {
        match self.coverage {
            Coverage::Off => Gate::MustScan,
        }
    }
}
