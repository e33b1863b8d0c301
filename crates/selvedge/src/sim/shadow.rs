//! A release beside what runs, rehearsed in virtual time: a fleet that is asked now and then, a release that says something else now
//! and then, and the real machines that watch it.
//!
//! Real: plans, rings and groups, the engine that check-ins meet, bounds and verdicts (`hub::experiment`); documents as nodes judge them
//! (`package::trust::assignment`); slots, budgets, the owner's cap, what is counted and when it is told (`node::install`, `node::behaviour`).
//! Modelled: the network (calls that are lost), power, people (who ask at chance times), and the release, in a few numbers: how long an
//! answer takes, and with which chance it parts, which differs from node to node. Signatures and weights are not played here.
//!
//! After every event the [`check`] looks at what must never be; what it finds ends the run with the seed that plays it again. In reading
//! order: [`setup`], [`machine`], [`night`], [`check`], [`report`].

pub(crate) mod check;
pub(crate) mod machine;
pub(crate) mod night;
pub(crate) mod report;
pub(crate) mod setup;

#[cfg(test)]
mod tests;
