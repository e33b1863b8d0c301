//! A write that names itself is done once, however often it is asked for.

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::door::{Stand, told};

const NAME: &str = "0123456789abcdefghijkl";

/// Asks as the admin, under this name; status, body, and whether it is the answer from before.
async fn named(stand: &Stand, method: Method, path: &str, name: &str, body: &Value) -> (u16, Value, bool) {
    let url = format!("{}{path}", stand.hub.url());
    let request = Client::new().request(method, url).bearer_auth(&stand.admin).json(body);
    let answer = request.header("idempotency-key", name).send().await.unwrap();
    let is_replayed = answer.headers().contains_key("idempotency-replayed");
    let (status, body) = told(answer).await;
    (status, body, is_replayed)
}

#[tokio::test]
async fn the_same_words_are_answered_the_same_and_nothing_is_done_twice() {
    let stand = Stand::new().await;
    let tokens = async || {
        stand.ask(&stand.admin, Method::GET, "/api/v1/tokens", None).await.1.as_array().unwrap().len()
    };
    let (path, ask) = ("/api/v1/tokens", json!({"operator": "first-admin", "name": "ci"}));
    let before = tokens().await;
    let (status, made, replayed) = named(&stand, Method::POST, path, NAME, &ask).await;
    assert_eq!((status, replayed, tokens().await), (201, false, before + 1));
    let again = named(&stand, Method::POST, path, NAME, &ask).await;
    assert_eq!(again, (201, made.clone(), true));
    assert_eq!(tokens().await, before + 1);
    let me = stand.ask(made["token"].as_str().unwrap(), Method::GET, "/api/v1/me", None).await;
    assert_eq!(me.0, 200, "the token is the one from before");

    // Something else under the same name; the same under another.
    let other = json!({"operator": "first-admin", "name": "other"});
    let (status, body, _) = named(&stand, Method::POST, path, NAME, &other).await;
    assert_eq!((status, &body["error"]["code"]), (422, &json!("key-reused")));
    let (status, body, _) = named(&stand, Method::POST, "/api/v1/operators/ann", NAME, &ask).await;
    assert_eq!((status, &body["error"]["code"]), (405, &json!("method")));
    let (status, next, _) = named(&stand, Method::POST, path, "another-name-for-it", &ask).await;
    assert!(status == 201 && next != made);
    // The same name of somebody else is another name.
    let url = format!("{}{path}", stand.hub.url());
    let as_ci = Client::new().post(url).bearer_auth(made["token"].as_str().unwrap()).json(&ask);
    let (status, body) = told(as_ci.header("idempotency-key", NAME).send().await.unwrap()).await;
    assert_eq!((status, body), (201, made.clone()), "it is a token of the same operator");

    // A refusal changed nothing, so the same words may be tried again.
    let early = json!({"operator": "ann"});
    let name = "tried-before-ann-is-there";
    assert_eq!(named(&stand, Method::POST, path, name, &early).await.0, 404);
    let put = named(
        &stand,
        Method::PUT,
        "/api/v1/operators/ann",
        "ann-ann-ann-ann-ann",
        &json!({"role": "viewer"}),
    )
    .await;
    assert_eq!((put.0, put.2), (204, false));
    let put = named(
        &stand,
        Method::PUT,
        "/api/v1/operators/ann",
        "ann-ann-ann-ann-ann",
        &json!({"role": "viewer"}),
    )
    .await;
    assert_eq!((put.0, put.1, put.2), (204, json!(""), true));
    assert_eq!(named(&stand, Method::POST, path, name, &early).await.0, 201);

    for bad in ["short", "with blanks in it, and long", &"x".repeat(65)] {
        let (status, body, _) = named(&stand, Method::POST, path, bad, &ask).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("bad-key")), "{bad}");
    }
    // What is kept is of no use to whoever has the store.
    for file in std::fs::read_dir(stand.folder.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = if path.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        let secret = made["token"].as_str().unwrap().as_bytes();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", path.display());
    }
    stand.hub.stop().await;
}

#[tokio::test]
async fn many_at_once_are_one() {
    let stand = Stand::new().await;
    let ask = json!({"operator": "first-admin"});
    let all = (0..8).map(|_| named(&stand, Method::POST, "/api/v1/tokens", NAME, &ask));
    let mut made = std::collections::BTreeSet::new();
    for (status, body, _) in futures_util::future::join_all(all).await {
        match status {
            201 => drop(made.insert(body["token"].to_string())),
            _ => assert_eq!((status, &body["error"]["code"]), (409, &json!("under-way"))),
        }
    }
    assert_eq!(made.len(), 1);
    stand.hub.stop().await;
}
