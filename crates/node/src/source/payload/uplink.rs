//! The uplinks of LoRaWAN networks, as their MQTT integrations hand them on: ChirpStack 4 (`application/+/device/+/event/up`)
//! and The Things Stack 3 (`v3/+/devices/+/up`). The network's codec has decoded the payload; bytes are not guessed at.

use serde_json::{Map, Value};

use super::refused::{BadPayload, bad};

/// A kind of network server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// ChirpStack 4.
    ChirpStack,
    /// The Things Stack 3.
    Ttn,
}

/// What one uplink says.
pub(super) struct Uplink {
    /// The device's EUI; its name where the network tells none.
    pub(super) device: String,
    name: String,
    /// When the network heard it.
    pub(super) time: Option<String>,
    /// What the codec made of the payload, with `rssi`, `snr`, `f_cnt` and `f_port` beside it.
    pub(super) fields: Value,
}

impl Uplink {
    /// Whether it comes from the device of this EUI or name.
    pub(super) fn is_from(&self, id: &str) -> bool {
        self.device.eq_ignore_ascii_case(id) || self.name == id
    }
}

/// Reads an uplink.
pub(super) fn read(network: Network, document: &Value) -> Result<Uplink, BadPayload> {
    let (message, info, eui, name, decoded, heard, counter, port, codec) = match network {
        Network::ChirpStack => (
            document,
            "deviceInfo",
            "devEui",
            "deviceName",
            "object",
            "rxInfo",
            "fCnt",
            "fPort",
            "give the device's profile a codec",
        ),
        Network::Ttn => (
            &document["uplink_message"],
            "end_device_ids",
            "dev_eui",
            "device_id",
            "decoded_payload",
            "rx_metadata",
            "f_cnt",
            "f_port",
            "give the device a payload formatter",
        ),
    };
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (eui, name) = (word(&document[info][eui]), word(&document[info][name]));
    if eui.is_empty() && name.is_empty() {
        return Err(bad(format!("it is no uplink: it has no `{info}`")));
    }
    let Value::Object(decoded_fields) = &message[decoded] else {
        return Err(bad(format!("it has no `{decoded}`: {codec}, or its codec gave nothing")));
    };
    let mut fields: Map<String, Value> = decoded_fields.clone();
    // Of several gateways that heard it, the one that heard it best.
    let gateways = message[heard].as_array().map(Vec::as_slice).unwrap_or_default();
    let strength = |gateway: &&Value| gateway["rssi"].as_f64().unwrap_or(f64::NEG_INFINITY);
    let best = gateways.iter().max_by(|a, b| strength(a).total_cmp(&strength(b)));
    let beside = [
        ("rssi", best.map(|gateway| &gateway["rssi"])),
        ("snr", best.map(|gateway| &gateway["snr"])),
        ("f_cnt", Some(&message[counter])),
        ("f_port", Some(&message[port])),
    ];
    for (name, value) in beside {
        if let Some(value @ Value::Number(_)) = value {
            fields.entry(name).or_insert_with(|| value.clone());
        }
    }
    let time = match network {
        Network::ChirpStack => document["time"].as_str(),
        Network::Ttn => message["received_at"].as_str().or_else(|| document["received_at"].as_str()),
    };
    Ok(Uplink {
        device: if eui.is_empty() { name.clone() } else { eui },
        name,
        time: time.map(str::to_owned),
        fields: Value::Object(fields),
    })
}
