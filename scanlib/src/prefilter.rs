//! Which messages libclamav would certainly call clean: [`clamav_prefilter`], as an [`Engine`](crate::Engine) builds and uses it.
//!
//! A gate that looks for less than it must is a hole, not a faster gate. This one knows a signature's text and forgets that libclamav also
//! looks at the message in lower case:
//!
//! ```
//! use scanlib::{EngineBuilder, Library, Payload, Request};
//! use scanlib::prefilter::{Gate, Scratch};
//!
//! let dir = tempfile::tempdir()?;
//! std::fs::write(dir.path().join("my.ndb"), "My.Needle:0:*:6e6565646c65\n")?; // "needle"
//! let engine = EngineBuilder::new(Library::init()?)?.database(dir.path())?.compile()?;
//! let message = b"a NEEDLE in a haystack";
//!
//! let wrong_gate = |message: &[u8]| !message.windows(6).any(|text| text == b"needle");
//! assert!(wrong_gate(message), "cleared");
//! assert_eq!(engine.scan(Payload::Bytes(message), &Request::new())?.names, ["My.Needle.UNOFFICIAL"]);
//!
//! let mut scratch = Scratch::default();
//! assert!(matches!(engine.prefilter().check(message, &mut scratch), Gate::MustScan(_)));
//! assert_eq!(engine.prefilter().check(b"only hay", &mut scratch), Gate::Cleared);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(crate) use clamav_prefilter::{Audit, AuditTicket};
pub use clamav_prefilter::{
    AuditOptions, CandidateSignature, Cause, DisabledReason, Doubt, Explanation, Gate, Kinds,
    Prefilter, Scratch, Summary, TextModel,
};
