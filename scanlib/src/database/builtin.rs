//! The signature that ships inside the binary, so that a scanner without a database finds something.

/// The file name it is loaded and counted under.
pub(crate) const BUILTIN_NAME: &str = "embedded.ndb";

/// The EICAR test string in hexadecimal: other scanners must not take this program for a test virus.
const EICAR: &str = "58354f2150254041505b345c505a58353428505e2937434329377d2445494341522d5354414e444152442d414e544956495255532d544553542d46494c452124482b482a";

/// In libclamav's `.ndb` format: any type of object, any offset.
pub(crate) fn builtin_text() -> String {
    format!("Embedded.Test.Eicar:0:*:{EICAR}\n")
}
