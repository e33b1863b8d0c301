//! Acting: actuators that exist because the flow declares them, each in an envelope that nobody leaves, held by a process that
//! outlives the node.
//!
//! In reading order:
//!
//! - [`limits`]: the numbers of an envelope; [`envelope`]: who may set an actuator to what and when, decided purely;
//! - [`device`]: how an actuator is reached;
//! - [`guard`]: the process that holds the devices, and brings them back when the node is gone; [`word`]: what the two say;
//!   [`keeper`]: the node's end of it;
//! - [`reins`]: what rules that fire ask of actuators;
//! - [`door`]: what people and agents on this machine ask.
//!
//! `agent::acting` is the thread that joins them. Docs: `docs/actuators.md`.

pub mod device;
pub mod door;
pub mod envelope;
pub mod guard;
pub mod keeper;
pub mod limits;
pub mod reins;
pub mod word;
