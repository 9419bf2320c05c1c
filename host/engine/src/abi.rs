//! The functions of `wit/policy.wit`, called by the canonical ABI on the core module of the component.
//!
//! A call to the component itself goes through wasmtime's generic lifting and takes some 0.2 us more, an eighth of a decision. What
//! comes back is as little trusted here: an address, a number of an enumeration or a text that breaks the contract makes the
//! instance [`Ruined`]. Offsets are those of the canonical ABI (Component Model, `CanonicalABI.md`, "Despecialization" and
//! "Element Size"): fields in order, each on a multiple of its own alignment, a variant's payload on one of the largest.

use portcullis_model::facts::ReplayAnswer;
use portcullis_model::id::Revision;
use portcullis_model::key_sheet::Day;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{DigestAlgorithm, NeedBody, Reason, Verdict};
use wasmparser::{Parser, Payload};
use wasmtime::{AsContextMut, Instance, Memory, TypedFunc, WasmParams};

use crate::decision::{Decision, Explanation, Outcome, Step};
use crate::error::{DecideError, LoadError};
use crate::instance::{Description, Ruined};

/// The most steps of an explanation.
const MAX_STEPS: usize = 64;
/// The bytes of a `step`.
const STEP_BYTES: usize = 20;

const GATE: &str = "portcullis:policy/gate@0.1.0";
const POLICY: &str = "portcullis:policy/policy@0.1.0";

/// The one core module of a component.
pub(crate) fn core_module(component: &[u8]) -> Option<&[u8]> {
    let mut payloads = Parser::new(0).parse_all(component);
    let range = payloads.find_map(|payload| match payload {
        Ok(Payload::ModuleSection { unchecked_range, .. }) => Some(unchecked_range),
        _ => None,
    })?;
    component.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// A list that was put into memory: its address and its length in bytes.
type List = (u32, u32);
/// An option of one: whether it is there, and what it is.
type OptionalList = (u32, u32, u32);
/// What is asked of `decide`: the head, the time, the body's digest, and an option of what the replay cache said.
type Asked = (u32, u32, u64, u32, u32, u32, u32, u32);

/// A function whose result lies in memory, and what is called once it has been read.
struct Returning<P> {
    call: TypedFunc<P, u32>,
    done: TypedFunc<u32, ()>,
}

impl<P: WasmParams> Returning<P> {
    fn of(instance: &Instance, mut store: impl AsContextMut, interface: &str, name: &str) -> wasmtime::Result<Self> {
        let name = format!("{interface}#{name}");
        let call = instance.get_typed_func(&mut store, &name)?;
        let done = instance.get_typed_func(&mut store, &format!("cabi_post_{name}"))?;
        Ok(Returning { call, done })
    }
}

/// What an instance can be asked.
pub(crate) struct Exports {
    memory: Memory,
    realloc: TypedFunc<(u32, u32, u32, u32), u32>,
    /// Its result stays until the next call, so nothing follows it.
    decide: TypedFunc<Asked, u32>,
    explain: Returning<(u32, u32, u64, u32, u32, u32)>,
    judge: Returning<(u32, u32, u64)>,
    explain_judged: Returning<(u32, u32, u64)>,
    reserve: Returning<u64>,
    commit: Returning<()>,
    check_delta: Returning<List>,
    apply_delta: Returning<u64>,
    load_keys: Returning<List>,
    confirm: TypedFunc<u64, ()>,
    describe: Returning<()>,
}

impl Exports {
    pub(crate) fn of(instance: &Instance, mut store: impl AsContextMut) -> wasmtime::Result<Exports> {
        let missing = || wasmtime::format_err!("the component's module exports no memory");
        Ok(Exports {
            memory: instance.get_memory(&mut store, "memory").ok_or_else(missing)?,
            realloc: instance.get_typed_func(&mut store, "cabi_realloc")?,
            decide: instance.get_typed_func(&mut store, &format!("{GATE}#decide"))?,
            explain: Returning::of(instance, &mut store, GATE, "explain")?,
            judge: Returning::of(instance, &mut store, GATE, "judge")?,
            explain_judged: Returning::of(instance, &mut store, GATE, "explain-judged")?,
            reserve: Returning::of(instance, &mut store, POLICY, "reserve")?,
            commit: Returning::of(instance, &mut store, POLICY, "commit")?,
            check_delta: Returning::of(instance, &mut store, POLICY, "check-delta")?,
            apply_delta: Returning::of(instance, &mut store, POLICY, "apply-delta")?,
            load_keys: Returning::of(instance, &mut store, POLICY, "load-keys")?,
            confirm: instance.get_typed_func(&mut store, &format!("{POLICY}#confirm"))?,
            describe: Returning::of(instance, &mut store, POLICY, "describe")?,
        })
    }

    /// The memory that all of them work on.
    pub(crate) fn memory(&self) -> Memory {
        self.memory
    }

    #[inline]
    pub(crate) fn decide(
        &self,
        mut store: impl AsContextMut,
        head: &[u8],
        now: UnixTime,
        body_digest: Option<&[u8]>,
        replay: Option<ReplayAnswer>,
    ) -> Result<Decision, Ruined> {
        let (head, head_bytes) = self.put(&mut store, head)?;
        let (has_digest, digest, digest_bytes) = self.put_digest(&mut store, body_digest)?;
        let (has_replay, replay) = match replay {
            None => (0, 0),
            Some(ReplayAnswer::Fresh) => (1, 0),
            Some(ReplayAnswer::Seen) => (1, 1),
        };
        let asked = (head, head_bytes, now.as_secs(), has_digest, digest, digest_bytes, has_replay, replay);
        let at = self.decide.call(&mut store, asked)?;
        Lifted(self.memory.data(&store)).answer(at as usize)
    }

    pub(crate) fn explain(
        &self,
        mut store: impl AsContextMut,
        head: &[u8],
        now: UnixTime,
        body_digest: Option<&[u8]>,
    ) -> Result<Explanation, Ruined> {
        let (head, head_bytes) = self.put(&mut store, head)?;
        let (has_digest, digest, digest_bytes) = self.put_digest(&mut store, body_digest)?;
        let asked = (head, head_bytes, now.as_secs(), has_digest, digest, digest_bytes);
        self.call(store, &self.explain, asked, |lifted, at| lifted.explanation(at))
    }

    /// The inner result is [`DecideError::FactsMalformed`] where the bytes are no facts.
    pub(crate) fn judge(
        &self,
        mut store: impl AsContextMut,
        facts: &[u8],
        now: UnixTime,
    ) -> Result<Result<Decision, DecideError>, Ruined> {
        let (facts, bytes) = self.put(&mut store, facts)?;
        self.call(store, &self.judge, (facts, bytes, now.as_secs()), |lifted, at| lifted.judged(at, Lifted::answer))
    }

    /// As [`Exports::judge`].
    pub(crate) fn explain_judged(
        &self,
        mut store: impl AsContextMut,
        facts: &[u8],
        now: UnixTime,
    ) -> Result<Result<Explanation, DecideError>, Ruined> {
        let (facts, bytes) = self.put(&mut store, facts)?;
        let asked = (facts, bytes, now.as_secs());
        self.call(store, &self.explain_judged, asked, |lifted, at| lifted.judged(at, Lifted::explanation))
    }

    /// Leads to the address of the place.
    pub(crate) fn reserve(&self, store: impl AsContextMut, bytes: u64) -> Result<u64, LoadError> {
        self.call(store, &self.reserve, bytes, |lifted, at| lifted.loaded(at, Lifted::u64))?
    }

    pub(crate) fn commit(&self, store: impl AsContextMut) -> Result<Revision, LoadError> {
        self.call(store, &self.commit, (), |lifted, at| lifted.loaded(at, Lifted::u64))?.map(Revision)
    }

    pub(crate) fn check_delta(&self, mut store: impl AsContextMut, delta: &[u8]) -> Result<Revision, LoadError> {
        let delta = self.put(&mut store, delta)?;
        self.call(store, &self.check_delta, delta, |lifted, at| lifted.loaded(at, Lifted::u64))?.map(Revision)
    }

    pub(crate) fn apply_delta(&self, store: impl AsContextMut, to: Revision) -> Result<(), LoadError> {
        self.call(store, &self.apply_delta, to.0, |lifted, at| lifted.loaded(at, Lifted::nothing))?
    }

    pub(crate) fn load_keys(&self, mut store: impl AsContextMut, part: &[u8]) -> Result<(), LoadError> {
        let part = self.put(&mut store, part)?;
        self.call(store, &self.load_keys, part, |lifted, at| lifted.loaded(at, Lifted::nothing))?
    }

    pub(crate) fn confirm(&self, store: impl AsContextMut, at: UnixTime) -> Result<(), Ruined> {
        Ok(self.confirm.call(store, at.as_secs())?)
    }

    pub(crate) fn describe(&self, store: impl AsContextMut) -> Result<Description, Ruined> {
        self.call(store, &self.describe, (), |lifted, at| lifted.description(at))
    }

    fn call<P: WasmParams, T>(
        &self,
        mut store: impl AsContextMut,
        function: &Returning<P>,
        asked: P,
        lift: impl FnOnce(Lifted<'_>, usize) -> Result<T, Ruined>,
    ) -> Result<T, Ruined> {
        let at = function.call.call(&mut store, asked)?;
        let lifted = lift(Lifted(self.memory.data(&store)), at as usize)?;
        function.done.call(&mut store, at)?;
        Ok(lifted)
    }

    /// Puts a list into memory that the guest sets aside, and frees in the call that it is for.
    #[inline]
    fn put(&self, mut store: impl AsContextMut, bytes: &[u8]) -> Result<List, Ruined> {
        let length = u32::try_from(bytes.len()).map_err(|_| BROKEN)?;
        let at = self.realloc.call(&mut store, (0, 0, 1, length))?;
        let place =
            self.memory.data_mut(&mut store).get_mut(at as usize..).and_then(|rest| rest.get_mut(..bytes.len()));
        place.ok_or(BROKEN)?.copy_from_slice(bytes);
        Ok((at, length))
    }

    #[inline]
    fn put_digest(&self, store: impl AsContextMut, digest: Option<&[u8]>) -> Result<OptionalList, Ruined> {
        let Some(digest) = digest else { return Ok((0, 0, 0)) };
        let (at, length) = self.put(store, digest)?;
        Ok((1, at, length))
    }
}

const BROKEN: Ruined = Ruined(DecideError::BadAnswer);

/// A memory, out of which values are read at their addresses.
#[derive(Clone, Copy)]
struct Lifted<'a>(&'a [u8]);

impl<'a> Lifted<'a> {
    #[inline]
    fn answer(self, at: usize) -> Result<Decision, Ruined> {
        let verdict = match self.u8(at)? {
            0 => Verdict::Allow,
            1 => Verdict::Deny(Reason::from_number(u16::from_le_bytes(self.bytes(at + 4)?)).ok_or(BROKEN)?),
            2 => {
                let algorithm = match self.u8(at + 4)? {
                    0 => DigestAlgorithm::Sha256,
                    1 => DigestAlgorithm::Sha512,
                    _ => return Err(BROKEN),
                };
                Verdict::NeedBody(NeedBody { algorithm, cap_bytes: self.u32(at + 8)? })
            }
            _ => return Err(BROKEN),
        };
        Decision::new(verdict, self.list(at + 12, 1)?.to_vec()).map_err(|_| BROKEN)
    }

    fn explanation(self, at: usize) -> Result<Explanation, Ruined> {
        let steps = self.list(at + 20, STEP_BYTES)?;
        if steps.len() > MAX_STEPS * STEP_BYTES {
            return Err(BROKEN);
        }
        let steps = steps.chunks_exact(STEP_BYTES).map(|step| {
            let step = Lifted(step);
            let outcome = match step.u8(8)? {
                0 => Outcome::Pass,
                1 => Outcome::Fail,
                2 => Outcome::Observed,
                3 => Outcome::Skip,
                _ => return Err(BROKEN),
            };
            Ok(Step { check: self.text(step, 0)?, outcome, detail: self.text(step, 12)? })
        });
        Ok(Explanation { decision: self.answer(at)?, steps: steps.collect::<Result<_, _>>()? })
    }

    fn description(self, at: usize) -> Result<Description, Ruined> {
        let days = self.list(at + 56, 4)?.chunks_exact(4).map(|day| Lifted(day).u32(0).map(Day));
        Ok(Description {
            revision: self.optional(at)?.map(Revision),
            confirmed: self.optional(at + 16)?.and_then(UnixTime::from_secs),
            base_bytes: self.u64(at + 32)?,
            overlay_bytes: self.u64(at + 40)?,
            overlay_layers: self.u32(at + 48)?,
            credentials: self.u32(at + 52)?,
            key_days: days.collect::<Result<_, _>>()?,
            checkpoint: self.text(self, at + 64)?,
        })
    }

    fn judged<T>(
        self,
        at: usize,
        lift: impl FnOnce(Self, usize) -> Result<T, Ruined>,
    ) -> Result<Result<T, DecideError>, Ruined> {
        match self.u8(at)? {
            0 => lift(self, at + 4).map(Ok),
            1 => Ok(Err(DecideError::FactsMalformed)),
            _ => Err(BROKEN),
        }
    }

    fn loaded<T>(
        self,
        at: usize,
        lift: impl FnOnce(Self, usize) -> Result<T, Ruined>,
    ) -> Result<Result<T, LoadError>, Ruined> {
        match self.u8(at)? {
            0 => lift(self, at + 8).map(Ok),
            1 => self.load_error(at + 8).map(Err),
            _ => Err(BROKEN),
        }
    }

    fn load_error(self, at: usize) -> Result<LoadError, Ruined> {
        Ok(match self.u8(at)? {
            0 => LoadError::Invalid(self.text(self, at + 8)?),
            1 => LoadError::NewerFormat(self.u32(at + 8)?),
            2 => LoadError::WrongKind,
            3 => LoadError::WrongRevision { at: Revision(self.u64(at + 8)?) },
            4 => LoadError::Dangling(self.text(self, at + 8)?),
            5 => LoadError::OverlayFull,
            6 => LoadError::OutOfMemory,
            7 => LoadError::NoBase,
            _ => return Err(BROKEN),
        })
    }

    fn optional(self, at: usize) -> Result<Option<u64>, Ruined> {
        match self.u8(at)? {
            0 => Ok(None),
            1 => self.u64(at + 8).map(Some),
            _ => Err(BROKEN),
        }
    }

    /// The text that is told of at a place in `of`.
    fn text(self, of: Lifted<'_>, at: usize) -> Result<String, Ruined> {
        let bytes = self.span(of.u32(at)?, of.u32(at + 4)?, 1)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| BROKEN)
    }

    /// The list that is told of at a place.
    #[inline]
    fn list(self, at: usize, element_bytes: usize) -> Result<&'a [u8], Ruined> {
        self.span(self.u32(at)?, self.u32(at + 4)?, element_bytes)
    }

    #[inline]
    fn span(self, address: u32, elements: u32, element_bytes: usize) -> Result<&'a [u8], Ruined> {
        let length = (elements as usize).checked_mul(element_bytes).ok_or(BROKEN)?;
        self.0.get(address as usize..).and_then(|rest| rest.get(..length)).ok_or(BROKEN)
    }

    fn nothing(self, _: usize) -> Result<(), Ruined> {
        Ok(())
    }

    #[inline]
    fn u8(self, at: usize) -> Result<u8, Ruined> {
        self.bytes(at).map(u8::from_le_bytes)
    }

    #[inline]
    fn u32(self, at: usize) -> Result<u32, Ruined> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn u64(self, at: usize) -> Result<u64, Ruined> {
        self.bytes(at).map(u64::from_le_bytes)
    }

    #[inline]
    fn bytes<const N: usize>(self, at: usize) -> Result<[u8; N], Ruined> {
        self.0.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(BROKEN)
    }
}

#[cfg(test)]
mod tests {
    use portcullis_model::answer::DetailsOf;
    use portcullis_model::facts::FactsOf;

    use super::*;

    /// Where an answer's details lie, behind everything else.
    const DETAILS_AT: u32 = 128;

    fn details() -> Vec<u8> {
        let mut packed = Vec::new();
        let at = UnixTime::from_secs(1_800_000_000).unwrap();
        let facts = FactsOf::<&str>::unknown(Revision(7), at, "192.0.2.1".parse().unwrap());
        DetailsOf::of(facts).pack(&mut packed).unwrap();
        packed
    }

    /// A memory with these words at its start, then a list's address and length, and the details of an answer far behind.
    fn memory(words: [u32; 3], list: (u32, u32)) -> Vec<u8> {
        let mut memory: Vec<u8> = words.iter().chain([&list.0, &list.1]).flat_map(|word| word.to_le_bytes()).collect();
        memory.resize(DETAILS_AT as usize, 0);
        memory.extend(details());
        memory
    }

    fn answer(words: [u32; 3], list: (u32, u32)) -> Result<Verdict, DecideError> {
        let answer = Lifted(&memory(words, list)).answer(0);
        answer.map(|decision| decision.verdict()).map_err(|Ruined(error)| error)
    }

    #[test]
    fn an_answer_is_one_of_the_contract_or_none() {
        let length = u32::try_from(details().len()).unwrap();
        let whole = (DETAILS_AT, length);
        let (broken, cap_bytes) = (Err(DecideError::BadAnswer), 9);
        let sha512 = NeedBody { algorithm: DigestAlgorithm::Sha512, cap_bytes };
        assert_eq!(answer([0, 0, 0], whole), Ok(Verdict::Allow));
        let number = Reason::PolicyMissing.number();
        assert_eq!(answer([1, number.into(), 0], whole), Ok(Verdict::Deny(Reason::PolicyMissing)));
        assert_eq!(answer([2, 1, cap_bytes], whole), Ok(Verdict::NeedBody(sha512)));
        for words in [[3, 0, 0], [0xff, 0, 0], [1, 0, 0], [1, 0xffff, 0], [2, 2, 0]] {
            assert_eq!(answer(words, whole), broken, "{words:?}");
        }
        for list in [
            (DETAILS_AT, length + 1),
            (DETAILS_AT + 1, length),
            (DETAILS_AT, length - 1),
            (0, 0),
            (u32::MAX, u32::MAX),
            (0, u32::MAX),
            (u32::MAX, 0),
        ] {
            assert_eq!(answer([0, 0, 0], list), broken, "{list:?}");
        }
    }

    #[test]
    fn an_answer_beyond_the_memory_is_none() {
        let memory = memory([0; 3], (DETAILS_AT, 1));
        for at in [memory.len() - 4, memory.len(), memory.len() + 1, u32::MAX as usize] {
            assert!(Lifted(&memory).answer(at).is_err(), "{at}");
            assert!(Lifted(&memory).description(at).is_err(), "{at}");
            assert!(Lifted(&memory).explanation(at).is_err(), "{at}");
        }
    }

    #[test]
    fn texts_steps_and_cases_are_checked() {
        let mut memory = memory([0; 3], (DETAILS_AT, u32::try_from(details().len()).unwrap()));
        let word = |memory: &mut Vec<u8>, at: usize, word: u32| memory[at..at + 4].copy_from_slice(&word.to_le_bytes());
        let explained = |memory: &[u8]| Lifted(memory).explanation(0).map(|explanation| explanation.steps.len());
        assert!(matches!(explained(&memory), Ok(0)));
        // One step at 32: its name of three bytes at 64, its outcome, no detail.
        for (at, value) in [(20, 32), (24, 1), (32, 64), (36, 3), (40, 2), (44, 64), (48, 0)] {
            word(&mut memory, at, value);
        }
        memory[64..67].copy_from_slice(b"key");
        assert!(matches!(explained(&memory), Ok(1)));
        for (at, wrong) in [(40, 4), (36, u32::MAX), (20, u32::MAX), (24, 65), (24, u32::MAX)] {
            let mut memory = memory.clone();
            word(&mut memory, at, wrong);
            assert!(explained(&memory).is_err(), "{wrong} at {at}");
        }
        memory[64] = 0xff;
        assert!(explained(&memory).is_err(), "no UTF-8");

        for wrong in [2, 0xff] {
            word(&mut memory, 0, wrong);
            assert!(Lifted(&memory).judged(0, Lifted::nothing).is_err());
            assert!(Lifted(&memory).loaded(0, Lifted::nothing).is_err());
            assert!(Lifted(&memory).optional(0).is_err());
        }
        word(&mut memory, 8, 8);
        assert!(Lifted(&memory).load_error(8).is_err());
    }

    #[test]
    fn the_module_is_found_in_a_component_and_nowhere_else() {
        let module = core_module(crate::COMPONENT).unwrap();
        assert_eq!(module.get(..4), Some(&b"\0asm"[..]));
        for none in [&b""[..], b"\0asm", module, &crate::COMPONENT[..100]] {
            assert_eq!(core_module(none), None);
        }
    }
}
