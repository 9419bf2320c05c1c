//! Asking before what cannot be undone.

use std::io::{self, BufRead, IsTerminal as _, Write};

use crate::error::Error;
use crate::output::Visible;

/// The longest answer that is read, in bytes; an id is shorter.
const MAX_REPLY_BYTES: u64 = 1024;

/// Whether the caller has confirmed beforehand.
#[derive(clap::Args)]
pub(super) struct Consent {
    /// Confirm what cannot be undone, instead of being asked
    #[arg(long)]
    yes: bool,
}

impl Consent {
    pub(super) fn is_given(&self) -> bool {
        self.yes
    }
}

/// How a person confirms.
#[derive(Clone, Copy)]
pub(super) enum Question<'a> {
    /// By typing the id of what is lost.
    Id(&'a str),
    /// By saying yes.
    YesOrNo,
}

/// Asks at the terminal.
///
/// # Errors
/// Where the answer is no, or nobody is there to be asked.
pub(super) fn ask(consequence: &str, question: Question<'_>) -> Result<(), Error> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Error::Unconfirmed { consequence: Visible(consequence).to_string() });
    }
    answered(consequence, question, &mut io::stdin().lock(), &mut io::stderr().lock())
}

fn answered(
    consequence: &str,
    question: Question<'_>,
    from: &mut impl BufRead,
    to: &mut impl Write,
) -> Result<(), Error> {
    let prompt = match question {
        Question::Id(_) => "Type the id to confirm: ",
        Question::YesOrNo => "Go on? [y/N] ",
    };
    let mut reply = String::new();
    // Where the question cannot be asked or the answer not be read, there is no yes.
    let is_asked = write!(to, "{}.\n{prompt}", Visible(consequence)).and_then(|()| to.flush()).is_ok();
    let is_read = is_asked && io::Read::take(from, MAX_REPLY_BYTES).read_line(&mut reply).is_ok();
    let reply = reply.trim();
    let is_yes = match question {
        Question::Id(id) => reply == id,
        Question::YesOrNo => reply.eq_ignore_ascii_case("y") || reply.eq_ignore_ascii_case("yes"),
    };
    if is_read && is_yes { Ok(()) } else { Err(Error::Declined) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(question: Question<'_>, typed: &[u8]) -> (bool, String) {
        let mut shown = Vec::new();
        let done = answered("the key `k1` is dead", question, &mut &*typed, &mut shown);
        (done.is_ok(), String::from_utf8(shown).unwrap())
    }

    #[test]
    fn the_id_is_typed_in_full() {
        let (done, shown) = reply(Question::Id("k1"), b"k1\n");
        assert!(done);
        assert_eq!(shown, "the key `k1` is dead.\nType the id to confirm: ");
        for no in [&b""[..], b"\n", b"y\n", b"K1\n", b"k1 k1\n", b"\xff\n"] {
            assert!(!reply(Question::Id("k1"), no).0, "{no:?}");
        }
    }

    #[test]
    fn yes_is_said_and_not_assumed() {
        for (typed, yes) in
            [(&b"y\n"[..], true), (b"YES\n", true), (b"\n", false), (b"", false), (b"n\n", false), (b"yep\n", false)]
        {
            let (done, shown) = reply(Question::YesOrNo, typed);
            assert_eq!(done, yes, "{typed:?}");
            assert!(shown.ends_with("Go on? [y/N] "));
        }
    }
}
