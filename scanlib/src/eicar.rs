//! The EICAR test string: harmless, and every scanner finds it.
//!
//! It stands here in hexadecimal, so that no scanner takes these sources, or a program built from
//! them, for infected. Source: the EICAR association's "Anti-Malware Testfile".

/// The 68 bytes in hexadecimal.
pub const HEX: &str = "58354f2150254041505b345c505a58353428505e2937434329377d24\
    45494341522d5354414e444152442d414e544956495255532d544553542d46494c452124482b482a";

/// The string itself.
///
/// ```
/// let text = scanlib::eicar::text();
/// assert_eq!(text.len(), 68);
/// assert!(text.ends_with("-TEST-FILE!$H+H*"));
/// ```
pub fn text() -> String {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default();
    let char_of = |pair: &[u8]| char::from_u32(digit(pair[0]) * 16 + digit(pair[1]));
    HEX.as_bytes().chunks_exact(2).filter_map(char_of).collect()
}
