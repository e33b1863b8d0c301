//! `[nodes]` and `[identity]`: the door that nodes come to with certificates, and who makes these.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[nodes]`: the nodes' own door, TLS with certificates on both ends. With it the hub tells people apart, too: tokens act
/// for operators and no longer for nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodesConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Names and addresses under which nodes reach it, for the hub's certificate; `localhost` and plain addresses that it
    /// listens on are there anyway.
    #[serde(default)]
    pub names: Vec<String>,
    /// The most open connections; further ones wait in the system's queue.
    #[serde(default = "connections_max")]
    pub connections_max: usize,
}

fn connections_max() -> usize {
    2048
}

impl NodesConfig {
    /// A name that can stand in no certificate, if there is one.
    pub fn bad_name(&self) -> Option<&str> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
        let bad = |name: &&String| name.is_empty() || name.len() > 253 || !name.chars().all(good);
        self.names.iter().find(bad).map(String::as_str)
    }
}

/// `[identity]`: the hub's authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// The folder of keys; absent: `keys` in `data`. Never in the database, the same on all replicas.
    pub keys: Option<PathBuf>,
    /// For how many days a node's certificate counts. It is renewed from a third on.
    pub node_days: u16,
}

impl Default for IdentityConfig {
    fn default() -> IdentityConfig {
        IdentityConfig { keys: None, node_days: 365 }
    }
}
