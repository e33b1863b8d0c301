//! Reads the kinds of sources that have a file of their own.

pub(super) mod lines;
pub(super) mod modbus;
pub(super) mod mqtt;
mod payload;
