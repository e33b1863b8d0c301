//! What a flow says of a source that listens to a broker.

use crate::mqtt::broker::Broker;
use crate::source::funnel::FunnelSettings;

/// The settings, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttSettings {
    /// Whom it listens to.
    pub broker: Broker,
    /// Who it is there; without it the node's name and its own.
    pub client_id: Option<String>,
    /// Filters.
    pub topics: Vec<String>,
    /// 0 or 1.
    pub qos: u8,
    /// How long the broker keeps what is meant for us while we are away, in seconds; `u32::MAX` for ever.
    pub session_s: u32,
    /// Whether messages count that the broker kept from before: nobody knows how old they are.
    pub retained: bool,
    /// How messages become readings.
    pub funnel: FunnelSettings,
}
