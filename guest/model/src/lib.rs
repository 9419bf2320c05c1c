//! The vocabulary of Portcullis: what is asked, what is answered, and the policy that decides.
//!
//! Everything here is a value or a pure function. There is no clock, no randomness, no file and no socket: time and bytes
//! are arguments. The crate is compiled into the guest, and into the host for the parts both sides need.
//!
//! | module | holds |
//! |---|---|
//! | [`head`] | the request as it crosses into the guest, one packed buffer |
//! | [`verdict`] | allow or deny, and the closed list of reasons |
//! | [`facts`] | what authentication established, holding no secret |
//! | [`answer`] | a verdict with its facts, edits, observations and obligations, packed for the way back |
//! | [`decision`] | the id of a decision |
//! | [`problem`] | what a caller is told of a denial |
//! | [`fault`] | denials that the gate knows nothing of |
//! | [`feed`] | what a proxy's worker and the host that feeds it say to each other |
//! | [`module`] | how a module that runs in a proxy knows what it is |
//! | [`source`] | the JSON source document and the delta between two of them |
//! | [`key_sheet`] | the keys of a day, by which signatures are checked |
//! | [`signing`] | request signatures: the canonical request, keys of a day, what a client does |
//! | [`policy`] | the compiled policy: format, builder, reader, overlay |

pub mod address;
pub mod answer;
pub mod credential;
pub mod decision;
pub mod facts;
pub mod fault;
pub mod feed;
pub mod head;
pub mod id;
pub mod key_sheet;
pub mod method;
pub mod module;
pub mod policy;
pub mod problem;
pub mod signing;
pub mod source;
pub mod sweep;
pub mod time;
pub mod verdict;

mod packed;
