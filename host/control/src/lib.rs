//! The use cases of Portcullis: the life of credentials, and how a change becomes policy.
