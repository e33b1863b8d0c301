//! Nodes and the plant around them: brokers, registers, serial lines, programs, and whoever takes records. Against real peers where
//! this machine has them (mosquitto, pymodbus, asyncua); otherwise a test says that it was skipped.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]
#![expect(clippy::print_stderr, reason = "says what is skipped, and what was counted")]

mod actuators;
mod broker;
mod farm;
mod flows;
mod lines;
mod modbus;
mod mqtt;
#[cfg(feature = "opcua")]
mod opcua;
mod otlp;
mod reports;
mod sinks;
#[path = "../stand/mod.rs"]
mod stand;
