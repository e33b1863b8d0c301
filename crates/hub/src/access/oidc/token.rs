//! What a provider says of who somebody is: a signed token, believed only where each word of it is as it should be.

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use crate::access::tokens::same_text;

/// How far two clocks may be apart, in seconds.
const LEEWAY_S: i64 = 60;

/// The longest token.
const TOKEN_MAX_BYTES: usize = 64 << 10;

/// Signatures that are believed: those with a public key. With a shared secret whoever may read it could sign.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not one.
    #[error("the provider's token cannot be read")]
    Unreadable,
    /// Not signed, or in a way that is not believed.
    #[error("the provider's token is not signed in a way that is believed here")]
    Algorithm,
    /// By nobody known.
    #[error("the provider's token is signed with a key that it does not publish")]
    UnknownKey,
    /// Not by that key.
    #[error("the signature of the provider's token is wrong")]
    Signature,
    /// By another.
    #[error("the provider's token is from another issuer")]
    Issuer,
    /// For another.
    #[error("the provider's token is for another program")]
    Audience,
    /// For another occasion.
    #[error("the provider's token was not made for this sign-in")]
    Nonce,
    /// Too late, or from the future.
    #[error("the provider's token does not count now; are the clocks right?")]
    Time,
    /// About nobody.
    #[error("the provider's token does not say whom it is about")]
    Nobody,
}

impl TokenError {
    /// A word for programs.
    pub fn code(self) -> &'static str {
        match self {
            TokenError::Unreadable => "token-unreadable",
            TokenError::Algorithm => "algorithm-refused",
            TokenError::UnknownKey => "key-unknown",
            TokenError::Signature => "signature-wrong",
            TokenError::Issuer => "issuer-wrong",
            TokenError::Audience => "audience-wrong",
            TokenError::Nonce => "nonce-wrong",
            TokenError::Time => "token-expired",
            TokenError::Nobody => "no-subject",
        }
    }
}

/// What must be so.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Who signs in people here.
    pub issuer: &'a str,
    /// What this hub is called there.
    pub audience: &'a str,
    /// What the browser was sent with.
    pub nonce: &'a str,
    /// Seconds since 1970.
    pub now_s: i64,
}

/// What a token says that is believed.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// The provider's word for whom it is about, which stays.
    pub subject: String,
    all: Map<String, Value>,
}

impl Claims {
    /// Those, about somebody.
    pub fn of(subject: &str, all: Map<String, Value>) -> Claims {
        Claims { subject: subject.to_owned(), all }
    }

    /// The words of one claim: its text, or the texts of its list. `a.b` is `b` within `a`, unless there is a claim of that name.
    pub fn words(&self, name: &str) -> Vec<String> {
        let within = || {
            let (outer, inner) = name.split_once('.')?;
            self.all.get(outer)?.get(inner)
        };
        match self.all.get(name).or_else(within) {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(texts)) => {
                texts.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Judges a token by the keys that its provider publishes.
pub fn judge(token: &str, keys: &[Jwk], expected: &Expected<'_>) -> Result<Claims, TokenError> {
    if token.len() > TOKEN_MAX_BYTES || token.split('.').count() != 3 {
        return Err(TokenError::Unreadable);
    }
    // `none` is no algorithm that the library knows, so it is an unreadable header there.
    let header = decode_header(token).map_err(|_| TokenError::Algorithm)?;
    if !ALGORITHMS.contains(&header.alg) || header.crit.is_some() {
        return Err(TokenError::Algorithm);
    }
    let key = key(keys, header.kid.as_deref(), header.alg).ok_or(TokenError::UnknownKey)?;
    let key = DecodingKey::from_jwk(key).map_err(|_| TokenError::UnknownKey)?;
    let mut validation = Validation::new(header.alg);
    // All of it is looked at below, by the hub's own clock.
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let all = decode::<Map<String, Value>>(token, &key, &validation).map_err(|_| TokenError::Signature)?;
    check(all.claims, expected)
}

/// The key that a token names; where it names none, the only one that it could mean.
fn key<'a>(keys: &'a [Jwk], id: Option<&str>, algorithm: Algorithm) -> Option<&'a Jwk> {
    let fits = |key: &&Jwk| {
        let kind = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => {
                matches!(key.algorithm, AlgorithmParameters::EllipticCurve(_))
            }
            Algorithm::EdDSA => matches!(key.algorithm, AlgorithmParameters::OctetKeyPair(_)),
            _ => matches!(key.algorithm, AlgorithmParameters::RSA(_)),
        };
        let is_for = key.common.key_algorithm.is_none_or(|named| named == algorithm.into());
        let signs = key.common.public_key_use.as_ref().is_none_or(|so| *so == PublicKeyUse::Signature);
        kind && is_for && signs
    };
    let mut fitting = keys.iter().filter(fits);
    match id {
        Some(id) => fitting.find(|key| key.common.key_id.as_deref() == Some(id)),
        None => fitting.next().filter(|_| fitting.next().is_none()),
    }
}

fn check(all: Map<String, Value>, expected: &Expected<'_>) -> Result<Claims, TokenError> {
    let text = |name: &str| all.get(name).and_then(Value::as_str);
    let seconds = |name: &str| all.get(name).and_then(Value::as_f64).map(|s| s as i64);
    if text("iss") != Some(expected.issuer) {
        return Err(TokenError::Issuer);
    }
    let audiences = match all.get("aud") {
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(one)) => vec![one.as_str()],
        _ => Vec::new(),
    };
    // One for several programs says for whom it was made.
    let party = text("azp").or((audiences.len() == 1).then_some(expected.audience));
    if !audiences.contains(&expected.audience) || party != Some(expected.audience) {
        return Err(TokenError::Audience);
    }
    let now_s = expected.now_s;
    let not_before = seconds("nbf").into_iter().chain(seconds("iat")).all(|from| from <= now_s + LEEWAY_S);
    if seconds("exp").is_none_or(|until| until <= now_s - LEEWAY_S) || !not_before {
        return Err(TokenError::Time);
    }
    if !text("nonce").is_some_and(|nonce| same_text(nonce, expected.nonce)) {
        return Err(TokenError::Nonce);
    }
    let subject = text("sub").filter(|subject| (1..=255).contains(&subject.len()));
    let subject = subject.ok_or(TokenError::Nobody)?.to_owned();
    Ok(Claims { subject, all })
}
