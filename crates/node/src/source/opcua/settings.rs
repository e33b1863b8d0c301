//! What a flow says of a source that subscribes to an OPC UA server.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::node_id::NodeName;
use super::trust::Pin;

/// The settings, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct OpcuaSettings {
    /// Where the server is: `opc.tcp://host:port/path`.
    pub endpoint: String,
    /// How what is said is kept from others.
    pub security: Security,
    /// Who asks, and the file with the password; `None`: nobody in particular.
    pub user: Option<(String, PathBuf)>,
    /// Each channel's variable.
    pub nodes: Vec<(String, NodeName)>,
    /// How often variables are sampled and told of.
    pub every: Duration,
    /// Changes of at most this much, in a variable's own unit, are not told; `None`: all are.
    pub deadband: Option<f64>,
    /// Silent for longer, the server is called anew.
    pub silence: Duration,
    /// A request may take so long.
    pub timeout: Duration,
}

/// How what is said is kept from others.
#[derive(Debug, Clone, PartialEq)]
pub enum Security {
    /// Not at all.
    Open,
    /// Signed, by both sides' certificates.
    Sealed {
        /// Encrypted, too.
        encrypted: bool,
        /// By which algorithms.
        policy: Policy,
        /// Which certificate the server must show; `None`: nobody has said, so none will do.
        server: Option<Pin>,
    },
}

/// A set of algorithms, as the standard names it. Those with SHA-1 signatures or RSA 1.5 padding are deprecated, and not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// What most servers have.
    Basic256Sha256,
    /// The same with AES of 128 bits.
    Aes128Sha256RsaOaep,
    /// PSS signatures, OAEP with SHA-256.
    Aes256Sha256RsaPss,
}

impl Policy {
    /// All of them, the usual one first.
    pub const ALL: [Policy; 3] =
        [Policy::Basic256Sha256, Policy::Aes128Sha256RsaOaep, Policy::Aes256Sha256RsaPss];

    /// As the standard names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Basic256Sha256 => "Basic256Sha256",
            Policy::Aes128Sha256RsaOaep => "Aes128_Sha256_RsaOaep",
            Policy::Aes256Sha256RsaPss => "Aes256_Sha256_RsaPss",
        }
    }

    /// Reads a name: the standard's, also without its underscores. The error says what to write.
    pub fn read(text: &str) -> Result<Policy, String> {
        let plain = |text: &str| text.replace('_', "").to_ascii_lowercase();
        if let Some(policy) = Policy::ALL.into_iter().find(|policy| plain(policy.as_str()) == plain(text)) {
            return Ok(policy);
        }
        let instead = "write \"Basic256Sha256\", \"Aes128_Sha256_RsaOaep\" or \"Aes256_Sha256_RsaPss\"";
        Err(match plain(text).as_str() {
            "basic128rsa15" | "basic256" => {
                format!(
                    "{text:?} is deprecated, since it signs by SHA-1: turn on a newer one at the server, and {instead}"
                )
            }
            "none" => {
                format!("without algorithms there is no security: write `security = \"none\"`, or {instead}")
            }
            _ => format!("there is no {text:?} here: {instead}"),
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        fn check(text: &str, expected: Result<Policy, &str>) {
            match (Policy::read(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        for policy in Policy::ALL {
            check(policy.as_str(), Ok(policy));
        }
        check("Aes256Sha256RsaPss", Ok(Policy::Aes256Sha256RsaPss));
        check("Basic256", Err("is deprecated"));
        check("Basic128Rsa15", Err("is deprecated"));
        check("None", Err("no security"));
        check("Rot13", Err("there is no \"Rot13\""));
    }
}
