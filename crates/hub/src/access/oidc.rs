//! Signing in where an organisation's people sign in already: OpenID Connect, by the code flow with PKCE.
//!
//! [`begin`] sends a browser to the provider, with a cookie that only this hub can make; [`finish`] takes it back, fetches the
//! proof of who it is, and has [`token`] judge it. Nothing of it is kept here, so any replica finishes what another began.
//! Always: a role follows from the table in the hub's config, and somebody whom no row of it means stays out.

pub mod provider;
pub mod token;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use sha2::{Digest as _, Sha256};
use wire::world::{Entropy, WallMs};

use crate::access::oidc::provider::{Provider, ProviderError};
use crate::access::oidc::token::{Expected, TokenError};
use crate::access::session::Sealer;
use crate::access::tokens::{NAME_MAX, check_name, same_text};
use crate::access::who::Role;
use crate::config::people::OidcConfig;

/// How long a person may take at the provider, in seconds.
const AWAY_S: i64 = 600;

/// Why somebody is not signed in.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The provider.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// What the provider says of who it is.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The provider said no.
    #[error("the provider did not sign anybody in: {0}")]
    Said(String),
    /// The browser does not bring back what it was sent with.
    #[error("this browser was not sent to the provider from here, or too long ago")]
    State,
    /// The answer is from another provider.
    #[error("the answer names another issuer than the one in the hub's config")]
    OtherIssuer,
    /// A name that no operator can have.
    #[error("the provider calls this person {0:?}, which cannot be an operator's name")]
    Name(String),
    /// Nobody gave this person a role.
    #[error("nothing that the provider says of {0} gives a role here")]
    NoRole(String),
}

impl OidcError {
    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            OidcError::Provider(_) => "provider",
            OidcError::Token(error) => error.code(),
            OidcError::Said(_) => "provider-said-no",
            OidcError::State => "state-wrong",
            OidcError::OtherIssuer => "issuer-wrong",
            OidcError::Name(_) => "bad-name",
            OidcError::NoRole(_) => "no-role",
        }
    }
}

/// Somebody whom the provider knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// What stays the same whatever they are called: the issuer, and its word for them.
    pub subject: String,
    /// What they are called.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

/// A browser that is sent away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentAway {
    /// Where to.
    pub url: String,
    /// The cookie that it brings back.
    pub cookie: String,
}

/// Sends a browser to the provider.
pub async fn begin(
    provider: &Provider,
    sealer: &Sealer,
    entropy: impl FnOnce() -> [String; 3],
    now_ms: WallMs,
) -> Result<SentAway, OidcError> {
    let metadata = provider.metadata(now_ms).await?;
    let config = provider.config();
    let [state, nonce, verifier] = entropy();
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    let redirect = config.redirect();
    let asks = [
        ("response_type", "code"),
        ("client_id", &config.client_id),
        ("redirect_uri", &redirect),
        ("scope", &config.scopes.join(" ")),
        ("state", &state),
        ("nonce", &nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let url = provider::with_query(&metadata.authorization_endpoint, &asks)?;
    let words = format!("{}.{state}.{nonce}.{verifier}", now_ms / 1000 + AWAY_S);
    Ok(SentAway { url, cookie: sealer.away_cookie(&words, AWAY_S) })
}

/// Three words that nobody guesses: state, nonce and verifier.
pub fn drawn(entropy: &mut dyn Entropy) -> [String; 3] {
    std::array::from_fn(|_| {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    })
}

/// What a browser brings back in its address.
#[derive(Debug, Default, serde::Deserialize)]
pub struct Back {
    /// What the proof is fetched with.
    pub code: Option<String>,
    /// What it was sent with.
    pub state: Option<String>,
    /// Which provider it comes from, where that says so (RFC 9207).
    pub iss: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
}

/// Takes a browser back. `cookie`: what it was sent away with.
pub async fn finish(
    provider: &Provider,
    sealer: &Sealer,
    back: Back,
    cookie: Option<&str>,
    now_ms: WallMs,
) -> Result<Person, OidcError> {
    let config = provider.config();
    let words = cookie.and_then(|value| sealer.read_away(value)).ok_or(OidcError::State)?;
    let mut parts = words.splitn(4, '.');
    let mut part = || parts.next().ok_or(OidcError::State);
    let (until_s, state, nonce, verifier) = (part()?, part()?, part()?, part()?);
    let in_time = until_s.parse::<i64>().is_ok_and(|until_s| now_ms / 1000 < until_s);
    if !in_time || !back.state.as_deref().is_some_and(|shown| same_text(shown, state)) {
        return Err(OidcError::State);
    }
    if let Some(said) = back.error {
        return Err(OidcError::Said(said.chars().filter(|c| !c.is_control()).take(100).collect()));
    }
    if back.iss.is_some_and(|issuer| issuer != config.issuer) {
        return Err(OidcError::OtherIssuer);
    }
    let code = back.code.ok_or(OidcError::State)?;
    let proof = provider.redeem(&code, verifier, now_ms).await?;
    let expected =
        Expected { issuer: &config.issuer, audience: &config.client_id, nonce, now_s: now_ms / 1000 };
    let claims = match token::judge(&proof, &provider.keys(now_ms).await?, &expected) {
        // The provider may have another key since the list was fetched.
        Err(TokenError::UnknownKey) => token::judge(&proof, &provider.newer_keys(now_ms).await?, &expected),
        judged => judged,
    }?;
    person(config, &claims)
}

/// Who this is here.
fn person(config: &OidcConfig, claims: &token::Claims) -> Result<Person, OidcError> {
    let subject = format!("{} {}", config.issuer, claims.subject);
    let name = claims.words(&config.name_claim).into_iter().next().unwrap_or_default();
    let name = name.to_ascii_lowercase();
    if check_name(&name).is_err() {
        return Err(OidcError::Name(name.chars().take(NAME_MAX).collect()));
    }
    let said = claims.words(&config.role_claim);
    let given: Vec<Role> = said.iter().filter_map(|word| config.roles.get(word).copied()).collect();
    // The one that reaches farthest; who is both operator and approver is an operator, since nobody approves their own.
    let role = [Role::Admin, Role::Operator, Role::Approver, Role::Viewer];
    let role = role.into_iter().find(|role| given.contains(role));
    let role = role.ok_or_else(|| OidcError::NoRole(name.clone()))?;
    Ok(Person { subject, name, role })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_role_follows_from_the_table_and_from_nothing_else() {
        let roles = [("ops", Role::Operator), ("readers", Role::Viewer), ("four-eyes", Role::Approver)];
        let config = OidcConfig {
            issuer: "https://id".into(),
            roles: roles.map(|(word, role)| (word.to_owned(), role)).into(),
            ..OidcConfig::default()
        };
        let check = |claims: serde_json::Value, expected: Result<(&str, Role), &str>| {
            let claims = token::Claims::of("7", claims.as_object().unwrap().clone());
            let found = person(&config, &claims);
            let found = found.as_ref().map(|person| (person.name.as_str(), person.role));
            assert_eq!(found.map_err(OidcError::code), expected);
        };
        check(json!({ "preferred_username": "Ann", "groups": ["x", "ops"] }), Ok(("ann", Role::Operator)));
        check(
            json!({ "preferred_username": "ann", "groups": ["four-eyes", "readers"] }),
            Ok(("ann", Role::Approver)),
        );
        check(json!({ "preferred_username": "ann", "groups": "readers" }), Ok(("ann", Role::Viewer)));
        check(json!({ "preferred_username": "ann", "groups": ["admin"] }), Err("no-role"));
        check(json!({ "preferred_username": "ann" }), Err("no-role"));
        check(json!({ "preferred_username": "token-file", "groups": ["ops"] }), Err("bad-name"));
        check(json!({ "preferred_username": 7, "groups": ["ops"] }), Err("bad-name"));
        check(json!({ "groups": ["ops"] }), Err("bad-name"));
    }
}
