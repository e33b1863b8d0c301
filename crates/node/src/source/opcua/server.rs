//! Which of the endpoints that a server offers is meant. Pure.

use opcua::types::{EndpointDescription, MessageSecurityMode, UserTokenType};

use super::settings::{OpcuaSettings, Security};
use super::trust;

/// What names of policies begin with.
const POLICIES: &str = "http://opcfoundation.org/UA/SecurityPolicy#";
/// What offers and addresses of a server are quoted up to.
const QUOTED_CHARS: usize = 300;

/// The endpoint that has the security which the flow asks for, from the server that the flow trusts. The error says what is in the way.
pub(super) fn choose(
    offered: &[EndpointDescription],
    settings: &OpcuaSettings,
) -> Result<EndpointDescription, String> {
    let (mode, policy) = match &settings.security {
        Security::Open => (MessageSecurityMode::None, "None"),
        Security::Sealed { encrypted: false, policy, .. } => (MessageSecurityMode::Sign, policy.as_str()),
        Security::Sealed { encrypted: true, policy, .. } => {
            (MessageSecurityMode::SignAndEncrypt, policy.as_str())
        }
    };
    let fits = |endpoint: &&EndpointDescription| {
        endpoint.security_mode == mode
            && policy_of(endpoint) == Some(policy)
            && endpoint.endpoint_url.as_ref().starts_with("opc.tcp://")
    };
    let mut endpoint = offered.iter().find(fits).cloned().ok_or_else(|| {
        format!("the server does not offer {}: it offers {}", shown(mode, policy), offers(offered))
    })?;
    if let Security::Sealed { server, .. } = &settings.security {
        let certificate = trust::leaf(endpoint.server_certificate.as_ref())
            .ok_or_else(|| "the server shows no certificate that could be read".to_owned())?;
        trust::check(server.as_ref(), certificate)?;
    }
    let wanted = if settings.user.is_some() { UserTokenType::UserName } else { UserTokenType::Anonymous };
    let tokens = endpoint.user_identity_tokens.as_deref().unwrap_or_default();
    if !tokens.iter().any(|token| token.token_type == wanted) {
        return Err(match settings.user {
            None => "the server wants to know who asks: add `user` and `password_file`".to_owned(),
            Some(_) => {
                "the server knows no names of users there: take out `user` and `password_file`".to_owned()
            }
        });
    }
    endpoint.endpoint_url = address(&settings.endpoint, endpoint.endpoint_url.as_ref()).into();
    Ok(endpoint)
}

fn policy_of(endpoint: &EndpointDescription) -> Option<&str> {
    endpoint.security_policy_uri.as_ref().strip_prefix(POLICIES)
}

fn shown(mode: MessageSecurityMode, policy: &str) -> String {
    match mode {
        MessageSecurityMode::None => "\"none\"".to_owned(),
        MessageSecurityMode::Sign => format!("\"sign\" by {policy}"),
        _ => format!("\"sign-and-encrypt\" by {policy}"),
    }
}

fn offers(offered: &[EndpointDescription]) -> String {
    let mut offers: Vec<String> = Vec::new();
    for endpoint in offered {
        let offer = shown(endpoint.security_mode, policy_of(endpoint).unwrap_or("what is unknown here"));
        if !offers.contains(&offer) {
            offers.push(offer);
        }
    }
    let offers = if offers.is_empty() { "nothing".to_owned() } else { offers.join(", ") };
    offers.chars().take(QUOTED_CHARS).collect()
}

/// Where an endpoint is: at the host and port that the flow knows, since a server may call itself by a name that only it knows; at the path
/// that the server names.
fn address(configured: &str, told: &str) -> String {
    fn split(url: &str) -> (&str, &str) {
        let from = url.find("://").map_or(0, |at| at + 3);
        let at = url[from..].find('/').map_or(url.len(), |at| from + at);
        url.split_at(at)
    }
    format!("{}{}", split(configured).0, split(told).1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use opcua::types::UserTokenPolicy;
    use wire::hash::Hash;

    use super::*;
    use crate::source::opcua::settings::Policy;
    use crate::source::opcua::trust::Pin;

    const CERTIFICATE: [u8; 4] = [0x30, 2, 7, 8];

    fn endpoint(mode: MessageSecurityMode, policy: &str, tokens: &[UserTokenType]) -> EndpointDescription {
        let tokens =
            tokens.iter().map(|kind| UserTokenPolicy { token_type: *kind, ..UserTokenPolicy::anonymous() });
        EndpointDescription {
            endpoint_url: "opc.tcp://plc.local:4840/ua/server".into(),
            security_mode: mode,
            security_policy_uri: format!("{POLICIES}{policy}").into(),
            server_certificate: CERTIFICATE.as_slice().into(),
            user_identity_tokens: Some(tokens.collect()),
            ..EndpointDescription::default()
        }
    }

    fn settings(security: Security, user: bool) -> OpcuaSettings {
        OpcuaSettings {
            endpoint: "opc.tcp://10.0.0.7:4841".to_owned(),
            security,
            user: user.then(|| ("reader".to_owned(), "secret".into())),
            nodes: Vec::new(),
            every: Duration::from_secs(1),
            deadband: None,
            silence: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
        }
    }

    fn sealed(policy: Policy, server: Option<Pin>) -> Security {
        Security::Sealed { encrypted: true, policy, server }
    }

    #[test]
    fn the_endpoint_that_is_asked_for() {
        use MessageSecurityMode::{None as Open, Sign, SignAndEncrypt};
        use UserTokenType::{Anonymous, UserName};
        let pin = || Some(Pin::Digest(Hash::of(&CERTIFICATE)));
        let usual = Policy::Basic256Sha256;
        let offered = [
            endpoint(Open, "None", &[Anonymous]),
            endpoint(Sign, "Basic256Sha256", &[Anonymous, UserName]),
            endpoint(SignAndEncrypt, "Basic256", &[UserName]),
            endpoint(SignAndEncrypt, "Basic256Sha256", &[UserName]),
        ];
        let check = |security: Security, user: bool, expected: Result<usize, &str>| match (
            choose(&offered, &settings(security, user)),
            expected,
        ) {
            (Ok(found), Ok(at)) => {
                assert_eq!(found.security_mode, offered[at].security_mode);
                assert_eq!(found.endpoint_url.as_ref(), "opc.tcp://10.0.0.7:4841/ua/server");
            }
            (Err(found), Err(why)) => assert!(found.contains(why), "{found}"),
            (found, _) => panic!("{found:?}"),
        };
        check(Security::Open, false, Ok(0));
        check(Security::Open, true, Err("knows no names of users"));
        check(Security::Sealed { encrypted: false, policy: usual, server: pin() }, false, Ok(1));
        check(sealed(usual, pin()), true, Ok(3));
        check(sealed(usual, pin()), false, Err("wants to know who asks"));
        check(sealed(usual, None), true, Err("does not say which to trust"));
        check(sealed(usual, Some(Pin::Digest(Hash::GENESIS))), true, Err("another certificate"));
        let other = sealed(Policy::Aes256Sha256RsaPss, pin());
        check(
            other,
            true,
            Err("it offers \"none\", \"sign\" by Basic256Sha256, \"sign-and-encrypt\" by Basic256, "),
        );
    }

    #[test]
    fn a_server_that_shows_nothing() {
        let mut offered = [endpoint(MessageSecurityMode::SignAndEncrypt, "Basic256Sha256", &[])];
        offered[0].server_certificate = opcua::types::ByteString::null();
        let told = choose(&offered, &settings(sealed(Policy::Basic256Sha256, None), false)).unwrap_err();
        assert!(told.contains("no certificate that could be read"), "{told}");
        let told = choose(&[], &settings(Security::Open, false)).unwrap_err();
        assert!(told.contains("it offers nothing"), "{told}");
    }
}
