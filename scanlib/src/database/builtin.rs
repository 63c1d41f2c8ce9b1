//! The signature that ships inside the binary, so that a scanner without a database finds something.

use crate::eicar;

/// Its name, to which libclamav adds `.UNOFFICIAL`.
pub const BUILTIN_SIGNATURE: &str = "Embedded.Test.Eicar";

/// The file name it is loaded and counted under.
pub(crate) const BUILTIN_NAME: &str = "embedded.ndb";

/// In libclamav's `.ndb` format: any type of object, any offset.
pub(crate) fn builtin_text() -> String {
    format!("{BUILTIN_SIGNATURE}:0:*:{}\n", eicar::HEX)
}
