//! `type = "opcua"`: a source that listens to variables of an OPC UA server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::part::{Part, Placed};
use crate::config::quantity::duration_ms;
use crate::flow::pairs::{Pair, pairs};
use crate::flow::within::within;
use crate::source::opcua::node_id::NodeName;
use crate::source::opcua::settings::{OpcuaSettings, Policy, Security};
use crate::source::opcua::trust::{Pin, read_digest};

/// The most variables of one source.
const NODES_MAX: usize = 1_000;
/// The longest address.
const ENDPOINT_MAX_BYTES: usize = 1_000;

/// Reads it; `None` after a problem.
pub(super) fn read(
    folder: &Path,
    declared: &mut Option<Vec<String>>,
    part: &mut Part<'_, '_>,
) -> Option<OpcuaSettings> {
    if !part.has("endpoint") {
        part.require_key("endpoint", "\"opc.tcp://10.0.0.7:4840\"");
    }
    let endpoint = part.take_text("endpoint", check_endpoint);
    let security = security(folder, part);
    let user = user(folder, part);
    if let (Some(Security::Open), Some(Placed { span, .. })) = (&security, &user) {
        let help = "write `security = \"sign-and-encrypt\"`, or take out `user` and `password_file`";
        part.problem(span.clone(), "a password would go over an open line", help);
    }
    let every = part.take_text_or("every", "1s", |text| within(text, 10, 86_400_000)).value;
    let silence = part.take_text_or("silence", "10s", |text| within(text, 1_000, 7 * 86_400_000)).value;
    let timeout = part.take_text_or("timeout", "10s", |text| match duration_ms(text)? {
        ms @ 100..=600_000 => Ok(Duration::from_millis(ms as u64)),
        _ => Err("must be from 100 ms to 10 min".to_owned()),
    });
    let deadband = part.take::<f64>("deadband");
    if let Some(Placed { value, span }) = &deadband
        && !(*value > 0.0 && value.is_finite())
    {
        let help = "write how much a value must change to be told, in its own unit: `deadband = 0.5`";
        part.problem(span.clone(), "`deadband` must be above 0", help);
    }
    let nodes = nodes(declared, part)?;
    Some(OpcuaSettings {
        endpoint: endpoint?.value,
        security: security?,
        user: user.map(|placed| placed.value),
        nodes,
        every: Duration::from_millis(every),
        deadband: deadband.map(|placed| placed.value),
        silence: Duration::from_millis(silence),
        timeout: timeout.value,
    })
}

fn check_endpoint(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("opc.tcp://").ok_or("must begin with opc.tcp://")?;
    let host = rest.split('/').next().unwrap_or_default();
    let (name, port) = match host.rsplit_once(':') {
        // The colons of an address of IPv6 stand in brackets.
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let good_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    match () {
        () if host.contains('@') => {
            Err("user and password have settings of their own: `user`, `password_file`".to_owned())
        }
        () if text.len() > ENDPOINT_MAX_BYTES
            || text.chars().any(|c| c.is_whitespace() || c.is_control()) =>
        {
            Err("an address has no blanks, and at most 1000 bytes".to_owned())
        }
        () if name.is_empty() => Err("it has no host".to_owned()),
        () if !good_port => Err(format!("{:?} is no port", port.unwrap_or_default())),
        // What the library expects where nothing is written.
        () if port.is_none() => {
            let (host, path) = rest.split_at(host.len());
            Ok(format!("opc.tcp://{host}:4840{path}"))
        }
        () => Ok(text.to_owned()),
    }
}

fn security(folder: &Path, part: &mut Part<'_, '_>) -> Option<Security> {
    let mode = part.take_text_or("security", "sign-and-encrypt", |word| match word {
        "none" => Ok(None),
        "sign" => Ok(Some(false)),
        "sign-and-encrypt" => Ok(Some(true)),
        other => Err(format!("there is no {other:?}: write \"none\", \"sign\" or \"sign-and-encrypt\"")),
    });
    let policy = part.take_text("policy", Policy::read);
    let digest = part.take_text("server_digest", read_digest);
    let file = part.take::<String>("server_certificate");
    let Some(encrypted) = mode.value else {
        let spans = [
            policy.map(|placed| placed.span),
            digest.map(|placed| placed.span),
            file.map(|placed| placed.span),
        ];
        for span in spans.into_iter().flatten() {
            let help = "take it out, or write `security = \"sign-and-encrypt\"`";
            part.problem(span, "without security nothing is signed, and no certificate looked at", help);
        }
        return Some(Security::Open);
    };
    let server = match (digest, file) {
        (Some(_), Some(Placed { span, .. })) => {
            let help = "write `server_digest` or `server_certificate`";
            part.problem(span, "the server's certificate is named twice", help);
            return None;
        }
        (Some(digest), None) => Some(Pin::Digest(digest.value)),
        (None, Some(file)) => Some(Pin::File(folder.join(file.value))),
        // The node says what it is shown, and goes no further.
        (None, None) => None,
    };
    let policy = policy.map_or(Policy::Basic256Sha256, |placed| placed.value);
    Some(Security::Sealed { encrypted, policy, server })
}

fn user(folder: &Path, part: &mut Part<'_, '_>) -> Option<Placed<(String, PathBuf)>> {
    let user = part.take::<String>("user");
    let password = part.take::<String>("password_file");
    match (user, password) {
        (Some(user), Some(file)) => {
            Some(Placed { value: (user.value, folder.join(file.value)), span: user.span })
        }
        (None, Some(Placed { span, .. })) => {
            part.problem(span, "there is a password and no user", "add `user = \"…\"`");
            None
        }
        (Some(Placed { span, .. }), None) => {
            let help = "add `password_file = \"plc.password\"`: its first line is the password";
            part.problem(span, "there is a user and no password", help);
            None
        }
        (None, None) => None,
    }
}

fn nodes(declared: &mut Option<Vec<String>>, part: &mut Part<'_, '_>) -> Option<Vec<(String, NodeName)>> {
    if declared.is_some() {
        let message = format!("`{}` names its channels twice", part.path);
        part.problem(part.span.clone(), message, "take out `channels`: `nodes` names them");
    }
    let example = "{ pressure = \"ns=2;s=Pump.Pressure\", level = \"ns=3;i=1007\" }";
    part.require_key("nodes", example);
    let (mut nodes, mut names) = (Vec::new(), Vec::new());
    for Pair { name, text, span } in pairs(part, "nodes", example) {
        names.push(name.clone());
        match NodeName::read(&text) {
            Ok(node) => nodes.push((name, node)),
            Err(message) => {
                part.problem(span, message, "every browser of OPC UA shows a variable's NodeId in this form");
            }
        }
    }
    if nodes.len() > NODES_MAX {
        let message = format!("a source has 1 to {NODES_MAX} variables, not {}", nodes.len());
        part.problem(part.span.clone(), message, "make two sources of it");
        return None;
    }
    if nodes.is_empty() {
        return None;
    }
    // Also those whose ids are wrong: what speaks of them is not wrong, too.
    *declared = Some(names);
    Some(nodes)
}
