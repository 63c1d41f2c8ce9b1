//! What must not be shown.

/// Stands in place of a secret wherever the configuration is printed.
pub(super) const HIDDEN: &str = "********";
