//! Which tokens libclamav certainly compares with the message.
//!
//! Its matcher checks only that the *shortest* form of a pattern fits into the buffer. If a longer
//! alternative, or a marker inside the pattern, has consumed bytes, the comparison stops at the end of the
//! buffer and takes the rest for matched; the same happens before the start of the buffer, in front of the
//! place where its search begins. What is left out has, in its shortest form, at most as many bytes as the
//! longest form of the pattern has more than the shortest: the *slack*.
//!
//! So with slack 0 every token is compared. Else one is if more than `slack` bytes stand from it to the end,
//! and as many up to it from the start; the latter is not needed if the first three tokens are exact bytes,
//! as then the search begins there, with nothing in front.

use super::token::Token;

/// For each token, whether it is guaranteed.
pub(super) fn guaranteed(tokens: &[Token]) -> Vec<bool> {
    let slack: usize = tokens.iter().map(|token| token.max() - token.min()).sum();
    let total: usize = tokens.iter().map(Token::min).sum();
    let mut lead = tokens.iter().filter(|token| **token != Token::Edge);
    let exact_start = (0..3).all(|_| matches!(lead.next(), Some(Token::Byte { exact: true, .. })));
    let mut head = 0;
    let of_token = |token: &Token| {
        let before = head;
        head += token.min();
        let tail = total - before;
        slack == 0 || ((exact_start || head > slack) && tail > slack)
    };
    tokens.iter().map(of_token).collect()
}
