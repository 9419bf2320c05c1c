//! What can go wrong around a decision.

use portcullis_model::id::Revision;

/// Why no verdict came back. Whoever enforces denies the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// The instance trapped. It has been replaced.
    #[error("the sandbox trapped")]
    Trapped,
    /// The decision did not end in time. Its instance has been replaced.
    #[error("the decision exceeded its deadline")]
    Deadline,
    /// The answer is not what the contract says. Its instance has been replaced.
    #[error("the sandbox gave an answer that breaks the contract")]
    BadAnswer,
    /// Every instance is being rebuilt.
    #[error("no instance is in rotation")]
    NoInstance,
    /// The facts that were to be judged are not packed facts.
    #[error("the bytes are not packed facts")]
    FactsMalformed,
}

/// Why a policy or a delta is not in force. What was in force before still is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes are no policy, were damaged, or are malformed.
    #[error("{0}")]
    Invalid(String),
    /// They are of a format from after this build.
    #[error("the policy has format {0}, which is newer than this build reads")]
    NewerFormat(u32),
    /// A base was given for a delta, or a delta for a base.
    #[error("a base and a delta were mistaken for each other")]
    WrongKind,
    /// The delta applies to another revision, or the base is older than what is in force.
    #[error("it does not follow revision {at}, which is in force")]
    WrongRevision {
        /// The revision in force.
        at: Revision,
    },
    /// The delta refers to something that the policy does not have.
    #[error("the delta refers to the {0}, which the policy does not have")]
    Dangling(String),
    /// The overlay holds as much as it may.
    #[error("the overlay is full: load a new base")]
    OverlayFull,
    /// It exceeds the memory of an instance.
    #[error("the policy needs more memory than an instance may have")]
    OutOfMemory,
    /// No base has been loaded that a delta could apply to.
    #[error("no base has been loaded")]
    NoBase,
    /// The sandbox trapped or did not end in time.
    #[error("the sandbox failed while it loaded the policy")]
    Sandbox,
}

/// Why an engine could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct EngineError {
    pub(crate) what: &'static str,
    pub(crate) source: Box<dyn std::error::Error + Send + Sync>,
}

impl EngineError {
    pub(crate) fn new<E: Into<Box<dyn std::error::Error + Send + Sync>>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| EngineError { what, source: source.into() }
    }
}
