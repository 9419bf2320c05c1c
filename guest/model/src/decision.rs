//! The id of a decision.

use std::fmt;
use std::str::FromStr;

use crate::feed::ID_COUNT_BITS;
use crate::time::UnixTime;

/// The id of a decision as people and logs see it: 13 characters of Crockford's base 32, which sort like the numbers.
///
/// ```
/// use portcullis_model::decision::DecisionId;
/// let id: DecisionId = "01hf00000001z".parse().unwrap();
/// assert_eq!(id.to_string(), "01hf00000001z");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DecisionId(pub u64);

const ALPHABET: [u8; 32] = *b"0123456789abcdefghjkmnpqrstvwxyz";
const ID_CHARS: usize = 13;

impl DecisionId {
    /// When the decision was made, to the second.
    #[must_use]
    pub fn at(self) -> UnixTime {
        UnixTime::from_secs((self.0 >> ID_COUNT_BITS) / 1000).unwrap_or(UnixTime::MAX)
    }

    /// The characters, without an allocation.
    #[must_use]
    pub fn text(self) -> [u8; ID_CHARS] {
        let mut text = [b'0'; ID_CHARS];
        let mut rest = self.0;
        for place in text.iter_mut().rev() {
            *place = usize::try_from(rest & 31).ok().and_then(|digit| ALPHABET.get(digit)).copied().unwrap_or(b'0');
            rest >>= 5;
        }
        text
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().iter().try_for_each(|character| fmt::Write::write_char(f, char::from(*character)))
    }
}

impl FromStr for DecisionId {
    type Err = DecisionIdError;

    /// Reads the 13 characters; letters may be of either case.
    fn from_str(text: &str) -> Result<Self, DecisionIdError> {
        let wrong = || DecisionIdError { text: text.chars().take(2 * ID_CHARS).collect() };
        if text.len() != ID_CHARS {
            return Err(wrong());
        }
        let mut id = 0u64;
        for byte in text.bytes() {
            let digit = ALPHABET.iter().position(|known| known.eq_ignore_ascii_case(&byte)).ok_or_else(wrong)?;
            // 13 characters hold 65 bits: the first is at most `f`.
            id = id.checked_mul(32).and_then(|id| id.checked_add(u64::try_from(digit).ok()?)).ok_or_else(wrong)?;
        }
        Ok(DecisionId(id))
    }
}

/// Text that is no id of a decision.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is not the id of a decision: it has 13 letters and digits, as in the answer's `decision`")]
pub struct DecisionIdError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_from_its_text() {
        for id in [0, 1, 31, 32, 1_800_000_000_000 << 20, u64::MAX] {
            let text = DecisionId(id).to_string();
            assert_eq!(text.len(), 13);
            assert_eq!(text.parse(), Ok(DecisionId(id)), "{text}");
            assert_eq!(text.to_uppercase().parse(), Ok(DecisionId(id)), "{text}");
        }
        assert!(DecisionId(1 << 20).to_string() < DecisionId(2 << 20).to_string());
        for wrong in ["", "0", "00000000000000", "g000000000000", "000000000000u", "000000000000\u{e9}"] {
            assert!(wrong.parse::<DecisionId>().is_err(), "{wrong}");
        }
    }
}
