//! Experiments: two releases beside each other, on parts of a fleet that are drawn by lot, or one that answers beside what runs and
//! is seen by nobody, until the figures decide. All pure but [`execute`].
//!
//! In reading order:
//!
//! - [`plan`]: what was decided before anything moves; [`text`]: as JSON that its id is the hash of, and as words;
//! - [`documents`]: every assignment that it can ever hand out, for somebody's key to sign ahead;
//! - [`split`]: how nodes are drawn, and whether the draw looks as it should;
//! - [`sequence`]: the test that may be looked at after every node, and the interval that holds all the time;
//! - [`shadow`]: what nodes told of a release beside what runs, and how often it parts from it, as such an interval;
//! - [`sheet`]: what one node told of its arm;
//! - [`mod@step`]: where an experiment stands, and what an event does to it;
//! - [`draft`]: from what somebody wants to a plan; [`engine`]: all of them in memory; [`execute`]: in the store.
//!
//! What always holds: no node is in two arms; a node's figure is counted once and never changes; what decides was said
//! before; nobody keeps a release that the plan does not say is kept; and what wins is not rolled out by itself.

pub mod documents;
pub mod draft;
pub mod engine;
pub mod execute;
pub mod plan;
pub mod sequence;
pub mod shadow;
pub mod sheet;
pub mod split;
pub mod step;
pub mod text;

#[cfg(test)]
mod tests;
