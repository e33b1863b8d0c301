//! The audit log for those who do not believe the hub: what [`crate::store::audit`] keeps, published as a log that can only grow.
//!
//! [`publish`] brings entries, tiles and a signed checkpoint into the depot; [`key`] is what signs it; [`heads`] puts the heads of
//! the nodes' own chains into it, so that neither side can change what was said; [`witness`] holds the log to what nodes saw of it,
//! [`resume`] takes it up after a backup was restored, and [`verify`] looks whether what was published stands.

pub mod heads;
pub mod key;
pub mod publish;
pub mod resume;
pub mod verify;
pub mod witness;
