//! A rollout rehearsed in virtual time: a fleet that is partly away, a release that is partly bad, and the real machines
//! that would lead it.
//!
//! Real: plans, documents' rings and expressions, members, offers, rates, gates, tests and steps (`hub::rollout`), groups
//! (`wire::select`), lots (`package::trust::assignment`). Modelled: the network (calls that are lost), the store (a row is
//! there before the answer leaves, a hub restarts from its JSON), and the node, in a few numbers: how long it fetches and
//! tries, that a second miss refuses, that a version never goes back. Signatures, discs, clocks and the node's own
//! machines are not played here; they have simulations of their own.
//!
//! [`shadow`] plays experiments in which a release answers beside what runs, with the node's own machines.
//!
//! Idle nodes cost nothing: whether one is reachable is drawn when somebody asks. After every event the [`check`] looks
//! at everything that must never be; what it finds ends the run with the seed that plays it again.

pub(crate) mod check;
pub(crate) mod files;
pub(crate) mod fleet;
pub(crate) mod night;
pub(crate) mod picture;
pub(crate) mod release;
pub(crate) mod report;
pub(crate) mod setup;
#[cfg(feature = "language")]
pub(crate) mod shadow;

#[cfg(test)]
mod tests;
