//! A source that subscribes to variables of an OPC UA server, in builds with the feature `opcua`.
//!
//! In reading order: [`settings`] is what a flow says of it, with the ids of nodes read by [`node_id`] and certificates told apart by
//! [`trust`]; [`client`] is the source itself. It asks what the server offers, holds its certificate against what the flow
//! trusts, opens a session with a certificate of the node's own, and listens; what comes becomes numbers, and numbers become readings,
//! of which a subscription reports only what changed.

#[cfg(feature = "opcua")]
pub mod client;
#[cfg(not(feature = "opcua"))]
#[path = "opcua/no_client.rs"]
pub mod client;
#[cfg(feature = "opcua")]
mod hold;
#[cfg(feature = "opcua")]
mod line;
pub mod node_id;
#[cfg(feature = "opcua")]
mod own;
#[cfg(feature = "opcua")]
mod server;
pub mod settings;
pub mod trust;
#[cfg(feature = "opcua")]
mod value;
