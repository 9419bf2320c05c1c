//! What the tests that cross crates share.

pub mod corpus;
pub mod minter;
pub mod random;
