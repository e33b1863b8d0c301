//! Reads how a source or a sink reaches a broker: `broker`, `version`, `user`, `password_file`, and the files of TLS.

use std::path::Path;

use crate::config::part::{Part, Placed};
use crate::mqtt::broker::{Broker, Tls, Version, read_address};

/// The longest client id that every broker takes is 23 bytes; most take this.
const CLIENT_ID_MAX_BYTES: usize = 128;

/// Reads it; `None` after a problem.
pub(super) fn broker(folder: &Path, part: &mut Part<'_, '_>) -> Option<Broker> {
    let address = part.require::<String>("broker", "\"mqtt://localhost:1883\"");
    let version = part.take_text_or("version", "5", |text| match text {
        "5" => Ok(Version::V5),
        "3.1.1" => Ok(Version::V3),
        other => Err(format!("there is no version {other:?} here: write \"5\" or \"3.1.1\"")),
    });
    let user = part.take::<String>("user").map(|placed| placed.value);
    let file = |part: &mut Part<'_, '_>, key: &'static str| {
        let placed = part.take::<String>(key)?;
        Some(Placed { value: folder.join(placed.value), span: placed.span })
    };
    let password_file = file(part, "password_file");
    if let (None, Some(password)) = (&user, &password_file) {
        let message = format!("`{}` has a password and no user", part.path);
        part.problem(password.span.clone(), message, "add `user = \"…\"`");
    }
    let (ca_file, certificate, key) =
        (file(part, "ca_file"), file(part, "certificate_file"), file(part, "key_file"));
    let address = address?;
    let (host, port, sealed) = match read_address(&address.value) {
        Ok(read) => read,
        Err(bad) => {
            let message = format!("`broker` of `{}`: {bad}", part.path);
            part.problem(address.span, message, bad.help);
            return None;
        }
    };
    if let (false, Some(placed)) = (sealed, ca_file.as_ref().or(certificate.as_ref()).or(key.as_ref())) {
        let message = format!("`{}` has files of TLS, and an address without", part.path);
        part.problem(placed.span.clone(), message, format!("write `broker = \"mqtts://{host}:8883\"`"));
    }
    let own = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate.value, key.value)),
        (Some(alone), None) | (None, Some(alone)) => {
            let message = format!("`{}` has half of a certificate and its key", part.path);
            part.problem(alone.span, message, "write both `certificate_file` and `key_file`");
            None
        }
        (None, None) => None,
    };
    let tls = sealed.then(|| Tls { ca_file: ca_file.map(|placed| placed.value), own });
    let password_file = password_file.map(|placed| placed.value);
    Some(Broker { host, port, version: version.value, tls, user, password_file })
}

/// Reads `client_id`.
pub(super) fn client_id(part: &mut Part<'_, '_>) -> Option<String> {
    let placed = part.take_text("client_id", |text| {
        let good =
            !text.is_empty() && text.len() <= CLIENT_ID_MAX_BYTES && !text.chars().any(char::is_control);
        if good {
            Ok(text.to_owned())
        } else {
            Err(format!("a client id has 1 to {CLIENT_ID_MAX_BYTES} bytes of plain text"))
        }
    })?;
    Some(placed.value)
}
