//! Which broker, and how a node shows who it is there.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Its name or number.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Which MQTT it is spoken to in.
    pub version: Version,
    /// How the connection is sealed, if it is.
    pub tls: Option<Tls>,
    /// Who we are there.
    pub user: Option<String>,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
}

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// 3.1.1.
    V3,
    /// 5.
    V5,
}

/// How a connection is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tls {
    /// Who is believed; without it: whom the system believes.
    pub ca_file: Option<PathBuf>,
    /// The certificate that we show, and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// An address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadAddress {
    message: String,
    /// What to write.
    pub help: String,
}

/// Where a broker is: `mqtt://host[:1883]`, `mqtts://host[:8883]`. Gives host, port and whether it is sealed.
pub fn read_address(text: &str) -> Result<(String, u16, bool), BadAddress> {
    let bad = |message: String, help: &str| Err(BadAddress { message, help: help.to_owned() });
    let (rest, sealed) = match text.split_once("://") {
        Some(("mqtt", rest)) => (rest, false),
        Some(("mqtts", rest)) => (rest, true),
        Some((scheme, _)) => {
            return bad(
                format!("brokers are not spoken to by `{scheme}`"),
                "write \"mqtt://host:1883\", or \"mqtts://host:8883\" with TLS",
            );
        }
        None => return bad("the address has no scheme".to_owned(), &format!("write \"mqtt://{text}\"")),
    };
    if rest.contains('@') {
        let help = "write `user = \"…\"` and `password_file = \"…\"`: passwords have no place in a flow";
        return bad("the address has a user".to_owned(), help);
    }
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        // The colons of an address of IPv6 are in brackets.
        Some((host, port)) if !port.ends_with(']') => match port.parse::<u16>() {
            Ok(port) if port > 0 => (host, port),
            _ => return bad(format!("{port:?} is no port"), "a port is a number from 1 to 65535"),
        },
        _ => (rest, if sealed { 8883 } else { 1883 }),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.len() > 253 || host.contains(['/', ' ', '?', '#']) {
        return bad(format!("{host:?} is no host"), "write \"mqtt://host:1883\"");
    }
    Ok((host.to_owned(), port, sealed))
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        fn check(text: &str, expected: Result<(&str, u16, bool), &str>) {
            match (read_address(text), expected) {
                (Ok((host, port, sealed)), Ok(expected)) => {
                    assert_eq!((host.as_str(), port, sealed), expected);
                }
                (Err(bad), Err(part)) => {
                    assert!(format!("{bad} {}", bad.help).contains(part), "{text}: {bad:?}");
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        check("mqtt://broker", Ok(("broker", 1883, false)));
        check("mqtts://broker.local/", Ok(("broker.local", 8883, true)));
        check("mqtt://10.0.0.7:1884", Ok(("10.0.0.7", 1884, false)));
        check("mqtt://[::1]:1884", Ok(("::1", 1884, false)));
        check("mqtt://[::1]", Ok(("::1", 1883, false)));
        check("broker:1883", Err("mqtt://broker:1883"));
        check("ws://broker", Err("by `ws`"));
        check("mqtt://me:secret@broker", Err("password_file"));
        check("mqtt://broker:99999", Err("no port"));
        check("mqtt://", Err("no host"));
    }
}
