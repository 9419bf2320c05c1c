//! `decide` where it meets the canonical ABI.
//!
//! The generated code would allocate the answer's details in each call and have them freed by a second one. Here they lie in
//! memory that stays until the next call, as the embedder reads them at once: nothing but the head is allocated.

#![expect(unsafe_code, reason = "this is the canonical ABI, whose arguments are addresses")]

use std::cell::RefCell;

use portcullis_eval::{Input, Silent};
use portcullis_model::facts::ReplayAnswer;
use portcullis_model::verdict::{DigestAlgorithm, NeedBody, Verdict};

use crate::{DETAILS_BYTES, STATE, time};

/// A record `answer` in memory (Component Model, canonical ABI: a variant's payload and a list's address on multiples of 4).
#[repr(C)]
struct Answer {
    case: u8,
    /// The reason of a deny, or the algorithm of a need-body; little-endian, so its low bytes are the narrower integer.
    payload: u32,
    cap: u32,
    details: *const u8,
    details_length: usize,
}

struct Returned {
    answer: Answer,
    details: Vec<u8>,
}

thread_local! {
    static RETURNED: RefCell<Returned> = RefCell::new(Returned {
        answer: Answer { case: 0, payload: 0, cap: 0, details: std::ptr::null(), details_length: 0 },
        details: Vec::with_capacity(DETAILS_BYTES),
    });
}

/// A list that the embedder has put into memory, which is ours from then on.
///
/// # Safety
/// `address` and `length` are of one allocation that the embedder made by `cabi_realloc` for this call.
unsafe fn list(address: *mut u8, length: usize) -> Vec<u8> {
    // SAFETY: `cabi_realloc` allocates exactly as a vector of bytes does, and leaves an empty one dangling.
    unsafe { Vec::from_raw_parts(address, length, length) }
}

/// # Safety
/// Called by an embedder that follows the canonical ABI.
#[unsafe(export_name = "portcullis:policy/gate@0.1.0#decide")]
unsafe extern "C" fn decide(
    head: *mut u8,
    head_length: usize,
    now: u64,
    has_digest: i32,
    digest: *mut u8,
    digest_length: usize,
    has_replay: i32,
    replay: i32,
) -> *const u8 {
    // SAFETY: these are the lists of this call.
    let (head, digest) = unsafe { (list(head, head_length), (has_digest != 0).then(|| list(digest, digest_length))) };
    let replay = match (has_replay, replay) {
        (0, _) => None,
        (_, 0) => Some(ReplayAnswer::Fresh),
        (_, _) => Some(ReplayAnswer::Seen),
    };
    let input = Input { head: &head, now: time(now), body_digest: digest.as_deref(), replay };
    RETURNED.with_borrow_mut(|Returned { answer, details }| {
        let verdict = STATE.with_borrow(|state| state.gate.decide(input, &mut Silent, details));
        let (case, payload, cap) = match verdict {
            Verdict::Allow => (0, 0, 0),
            Verdict::Deny(reason) => (1, u32::from(reason.number()), 0),
            Verdict::NeedBody(NeedBody { algorithm: DigestAlgorithm::Sha256, cap_bytes }) => (2, 0, cap_bytes),
            Verdict::NeedBody(NeedBody { algorithm: DigestAlgorithm::Sha512, cap_bytes }) => (2, 1, cap_bytes),
        };
        *answer = Answer { case, payload, cap, details: details.as_ptr(), details_length: details.len() };
        std::ptr::from_ref(answer).cast()
    })
}
