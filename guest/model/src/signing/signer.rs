//! What a client does.
