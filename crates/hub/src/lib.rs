//! The control plane: takes what nodes send, once; keeps it; watches it; shows it.
//!
//! In reading order:
//!
//! - [`config`]: what an operator may set;
//! - [`ingest`]: bytes → batches → what is new in them; [`checkin`]: how a node is and when it comes again;
//! - [`fleet`]: what nodes say they are, and which of them an expression means;
//! - [`watch`]: what was stored → alerts;
//! - [`store`]: the tables, in SQL;
//! - [`mod@write`]: what a batch and a check-in do to the store; [`writer`]: the queue, and one transaction at a
//!   time;
//! - [`live`]: what happens now, to everybody who looks; [`metrics`]: the hub's own numbers;
//! - [`experiment`]: two releases beside each other, until the figures decide;
//! - [`downsample`]: a day of summaries → the points of a chart;
//! - [`depot`]: where packages lie; [`registry`]: how they come and go; [`tuf`]: who says that they are genuine;
//!   [`revision`]: the number by which nodes hear of other assignments; [`inflow`]: bodies that take their time;
//!   [`cache`]: what may be kept of answers;
//! - [`audit`]: who did what, published as a log that can only grow;
//! - [`recovery`]: what nodes know that a hub does not which was restored from a backup;
//! - [`identity`]: whom the hub knows by certificates;
//! - [`retain`]: what is too old to keep, and `archive`, where it lies then; [`chains`]: whether records fit each other;
//! - [`replica`]: this hub among others on one database;
//! - [`state`]: what every request can reach; [`access`]: who may ask; [`api`]: the JSON API; [`console`]: the pages;
//! - [`server`]: [`server::Hub::start`], which opens the store, listens and serves.

#![forbid(unsafe_code)]

pub mod access;
pub mod api;
#[cfg(feature = "archive")]
pub mod archive;
pub mod audit;
pub mod cache;
pub mod chains;
pub mod checkin;
pub mod config;
pub mod console;
pub mod depot;
pub mod downsample;
pub mod experiment;
pub mod fleet;
pub mod identity;
pub mod inflow;
pub mod ingest;
pub mod live;
pub mod metrics;
pub mod recovery;
pub mod registry;
pub mod replica;
pub mod retain;
pub mod revision;
pub mod rollout;
pub mod server;
pub mod state;
pub mod store;
pub mod tuf;
pub mod watch;
pub mod write;
pub mod writer;
