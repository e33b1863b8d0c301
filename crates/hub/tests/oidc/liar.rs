//! At a provider of ours that does one thing wrong at a time: each is refused by its name.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wire::world::{Clock as _, Simulated};

use crate::browser::{Browser, hub_at};

/// Makes a token of claims that is not what it should be.
type Lie<'a> = Box<dyn Fn(Value) -> String + 'a>;

struct Key {
    key: EncodingKey,
    id: &'static str,
}

impl Key {
    fn new(id: &'static str) -> Key {
        let pair = rcgen::KeyPair::generate().unwrap();
        Key { key: EncodingKey::from_ec_der(&pair.serialize_der()), id }
    }

    fn published(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, &self.key).unwrap()
    }
}

/// What it says next.
#[derive(Default)]
struct Says {
    keys: Vec<Value>,
    token: String,
    /// What the verifier must be the digest's source of.
    challenge: String,
}

struct Liar {
    url: String,
    says: Arc<Mutex<Says>>,
}

impl Liar {
    async fn start() -> Liar {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let says: Arc<Mutex<Says>> = Arc::default();
        let metadata = json!({
            "issuer": url, "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"), "jwks_uri": format!("{url}/jwks"),
        });
        let (keys, tokens) = (says.clone(), says.clone());
        let token = move |headers: HeaderMap, body: String| async move {
            // As RFC 6749 has it: encoded as in a form, then as Basic has it.
            let shown = BASE64_STANDARD.encode("selvedge:s%2Fe%2Bc+r%3Det");
            assert_eq!(headers["authorization"], format!("Basic {shown}"));
            let form = reqwest::Url::parse(&format!("http://form/?{body}")).unwrap();
            let word = |name: &str| form.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
            let says = tokens.lock().unwrap();
            let digest = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(word("code_verifier")));
            assert_eq!((word("grant_type").as_str(), digest), ("authorization_code", says.challenge.clone()));
            json!({ "access_token": "x", "token_type": "Bearer", "id_token": says.token }).to_string()
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(move || async move { metadata.to_string() }))
            .route(
                "/jwks",
                get(move || async move { json!({ "keys": keys.lock().unwrap().keys }).to_string() }),
            )
            .route("/token", post(token));
        tokio::spawn(async move { axum_serve(listener, router).await });
        Liar { url, says }
    }
}

/// One connection after the other is enough here.
async fn axum_serve(listener: tokio::net::TcpListener, router: Router) {
    use hyper_util::rt::TokioIo;
    use hyper_util::service::TowerToHyperService;
    while let Ok((stream, _)) = listener.accept().await {
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

#[tokio::test]
async fn each_lie_is_refused_by_its_name() {
    let (folder, world) = (tempfile::tempdir().unwrap(), Simulated::new(1));
    let (liar, key, next, stolen) = (Liar::start().await, Key::new("a"), Key::new("b"), Key::new("a"));
    liar.says.lock().unwrap().keys = vec![
        json!({ "kty": "of tomorrow" }),
        json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "s" }),
        key.published(),
    ];
    let hub = hub_at(&liar.url, folder.path(), world.clone()).await;
    let good = |nonce: &str| {
        let now_s = world.wall_ms() / 1000;
        json!({
            "iss": liar.url, "aud": "selvedge", "sub": "7", "nonce": nonce, "iat": now_s, "exp": now_s + 300,
            "preferred_username": "ann", "groups": ["fleet"],
        })
    };
    // Signs in with the token that `lie` makes of what would be a good one.
    let try_with = async |lie: &dyn Fn(Value) -> String| {
        let mut browser = Browser::new(&hub);
        let (_, asked) = browser.begin().await;
        {
            let mut says = liar.says.lock().unwrap();
            (says.token, says.challenge) = (lie(good(&asked["nonce"])), asked["code_challenge"].clone());
        }
        let (status, page) = browser.back(&[("code", "c"), ("state", &asked["state"])]).await;
        (status, page, browser)
    };
    let changed = |name: &'static str, value: Value| {
        let key = &key;
        move |mut claims: Value| {
            claims[name] = value.clone();
            key.sign(&claims)
        }
    };
    let now_s = world.wall_ms() / 1000;
    let unsigned = |claims: Value| {
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(json!({ "alg": "none", "typ": "JWT" })), part(claims))
    };
    let by_secret = |claims: Value| {
        let header = Header { kid: Some("s".into()), ..Header::new(Algorithm::HS256) };
        encode(&header, &claims, &EncodingKey::from_secret(b"secret")).unwrap()
    };
    let edited = |claims: Value| {
        let token = key.sign(&claims);
        let parts: Vec<&str> = token.split('.').collect();
        let mut claims = claims;
        claims["sub"] = "8".into();
        format!("{}.{}.{}", parts[0], BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2])
    };
    let lies: Vec<(&str, Lie<'_>)> = vec![
        ("nonce-wrong", Box::new(changed("nonce", "another".into()))),
        ("nonce-wrong", Box::new(changed("nonce", Value::Null))),
        ("audience-wrong", Box::new(changed("aud", "another".into()))),
        ("audience-wrong", Box::new(changed("aud", json!(["selvedge", "another"])))),
        ("audience-wrong", Box::new(changed("azp", "another".into()))),
        ("issuer-wrong", Box::new(changed("iss", "https://another".into()))),
        ("token-expired", Box::new(changed("exp", json!(now_s - 61)))),
        ("token-expired", Box::new(changed("exp", Value::Null))),
        ("token-expired", Box::new(changed("iat", json!(now_s + 61)))),
        ("no-subject", Box::new(changed("sub", "".into()))),
        ("algorithm-refused", Box::new(unsigned)),
        ("algorithm-refused", Box::new(by_secret)),
        ("signature-wrong", Box::new(edited)),
        ("signature-wrong", Box::new(|claims| stolen.sign(&claims))),
        ("key-unknown", Box::new(|claims| next.sign(&claims))),
        ("token-unreadable", Box::new(|_| "hello".to_owned())),
        ("no-role", Box::new(changed("groups", json!(["others"])))),
    ];
    for (word, lie) in &lies {
        let (status, page, mut browser) = try_with(&**lie).await;
        assert!(status == 403 && page.contains(&format!("({word})")), "{word}: {status} {page}");
        assert_eq!(browser.me().await, "- -", "{word}");
    }
    let (status, page, mut browser) = try_with(&|claims| key.sign(&claims)).await;
    assert_eq!((status, browser.me().await.as_str()), (200, "operator:ann operator"), "{page}");

    // The provider has another key now. It is asked for again, but not for each bad token.
    liar.says.lock().unwrap().keys = vec![next.published()];
    let (status, page, _) = try_with(&|claims| next.sign(&claims)).await;
    assert!(status == 403 && page.contains("key-unknown"), "{page}");
    world.advance_ms(10_000);
    assert_eq!(try_with(&|claims| next.sign(&claims)).await.0, 200);
    let (status, page, _) = try_with(&|claims| key.sign(&claims)).await;
    assert!(status == 403 && page.contains("key-unknown"), "{page}");

    // What the browser brings back.
    let mut other = Browser::new(&hub);
    let (_, asked) = other.begin().await;
    let state = asked["state"].as_str();
    let check = async |browser: &mut Browser, words: &[(&str, &str)], word: &str| {
        let (status, page) = browser.back(words).await;
        assert!(status == 403 && page.contains(&format!("({word})")), "{word}: {status} {page}");
    };
    check(&mut other, &[("code", "c"), ("state", "another")], "state-wrong").await;
    check(&mut other, &[("code", "c")], "state-wrong").await;
    check(&mut other, &[("state", state), ("error", "access_denied")], "provider-said-no").await;
    check(&mut other, &[("code", "c"), ("state", state), ("iss", "https://another")], "issuer-wrong").await;
    // Sent there by somebody else, it has no cookie of ours; nor is one that was made up any good.
    check(&mut Browser::new(&hub), &[("code", "c"), ("state", state)], "state-wrong").await;
    let mut forged = Browser::new(&hub);
    let made_up = other.cookies["selvedge_away"].replace(state, "mine");
    forged.cookies.insert("selvedge_away".into(), made_up);
    check(&mut forged, &[("code", "c"), ("state", "mine")], "state-wrong").await;
    world.advance_ms(600_000);
    check(&mut other, &[("code", "c"), ("state", state)], "state-wrong").await;
    hub.stop().await;
}
