//! The verbs for packages and trust, as a user meets them: the real binary on models that are made here, and the programs of
//! others that read what it writes.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on says where")]

mod afar;
mod audit;
mod authority;
mod beside;
mod evidence;
mod experiment;
mod explain;
mod fields;
mod fleet;
mod flow;
mod flow_releases;
mod help;
mod install;
mod kills;
mod kinds;
mod networks;
mod peers;
mod plant;
mod refused;
mod rollout;
mod sealed;
mod shadow;
mod spares;
mod stage;
mod token;
mod trust;
