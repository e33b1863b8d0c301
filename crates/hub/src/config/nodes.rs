//! `[nodes]` and `[identity]`: the door that nodes come to with certificates, and who makes these.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wire::id::NodeId;

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
    /// At this address, and under no other name.
    pub fn at(listen: SocketAddr) -> NodesConfig {
        NodesConfig { listen, names: Vec::new(), connections_max: connections_max() }
    }

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
    /// Makers whose devices come in by the certificates that they were made with.
    pub factory: Vec<FactoryConfig>,
}

/// `[[identity.factory]]`: a maker of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactoryConfig {
    /// The certificate of the maker's authority, as PEM.
    pub ca: PathBuf,
    /// The serial numbers that are let in, one a line. The file may change while the hub runs.
    pub serials: PathBuf,
    /// What such a device is called, with `{serial}` in it.
    #[serde(default = "factory_name")]
    pub name: String,
}

/// What stands for the serial number in a name.
pub const SERIAL: &str = "{serial}";

fn factory_name() -> String {
    format!("sn-{SERIAL}")
}

impl FactoryConfig {
    /// Whether its name can be one, whatever the serial number.
    pub fn has_good_name(&self) -> bool {
        self.name.contains(SERIAL) && NodeId::new(&self.name.replace(SERIAL, "0")).is_ok()
    }
}

impl Default for IdentityConfig {
    fn default() -> IdentityConfig {
        IdentityConfig { keys: None, node_days: 365, factory: Vec::new() }
    }
}
