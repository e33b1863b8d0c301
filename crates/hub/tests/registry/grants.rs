//! Grants are kept for the node that they are for, and what is none is refused.

use package::digest::Digest;
use package::seal::content::ContentKey;
use package::seal::hybrid::NodeSecret;
use package::seal::wrap::{GRANT_MAX_BYTES, Grant, wrap};
use reqwest::Method;
use wire::world::Simulated;

use crate::pushing::{Client, hub};

#[tokio::test]
async fn a_grant_comes_and_goes() {
    let (hub, _folder) = hub(|_| ()).await;
    let client = Client::of(&hub);
    let chance = &mut Simulated::new(1);
    let (key, node) = (ContentKey::draw(chance), NodeSecret::generate(chance).unwrap());
    let (sealed, to) = (Digest::of(b"sealed"), node.public().id());
    let path = format!("/api/v1/grants/{sealed}/{to}");
    assert_eq!(client.get(&path).await.status(), 404);
    // A second grant for the same blob and key has other bytes, and takes its place.
    for _ in 0..2 {
        let grant = wrap(&key, sealed, node.public(), chance).unwrap();
        let put = client.ask(Method::PUT, &path, &[], grant.to_bytes()).await;
        assert_eq!(put.status(), 204);
        let answer = client.get(&path).await;
        assert_eq!(answer.headers()["cache-control"], "no-cache");
        let found = Grant::parse(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(found, grant);
        assert_eq!(found.open(sealed, &node).unwrap().bytes(), key.bytes());
    }
    let grant = wrap(&key, sealed, node.public(), chance).unwrap().to_bytes();
    let check = async |path: &str, body: &[u8], expected: u16| {
        let status = client.ask(Method::PUT, path, &[], body.to_vec()).await.status();
        assert_eq!(status, expected, "{path}");
    };
    let other = Digest::of(b"other");
    check(&format!("/api/v1/grants/{other}/{to}"), &grant, 400).await;
    check(&format!("/api/v1/grants/{sealed}/{}", other.hex()), &grant, 400).await;
    check(&format!("/api/v1/grants/{sealed}/..%2F{to}"), &grant, 400).await;
    check(&format!("/api/v1/grants/{}/{to}", sealed.hex()), &grant, 400).await;
    check(&path, b"{}", 400).await;
    check(&path, &grant[1..], 400).await;
    check(&path, &[b' '; GRANT_MAX_BYTES + 1], 413).await;
    for path in [format!("/api/v1/grants/{other}/{to}"), format!("/api/v1/grants/x/{to}")] {
        assert_eq!(client.get(&path).await.status(), 404, "{path}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn grants_ask_for_the_token() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "0123456789abcdef").unwrap();
    let (hub, _folder) = hub(|config| config.token_file = Some(secret.path().to_owned())).await;
    let path = format!("/api/v1/grants/{}/{}", Digest::of(b"a"), Digest::of(b"b").hex());
    let mut client = Client::of(&hub);
    assert_eq!(client.get(&path).await.status(), 401);
    assert_eq!(client.ask(Method::PUT, &path, &[], Vec::new()).await.status(), 401);
    client.token = Some("0123456789abcdef".into());
    assert_eq!(client.get(&path).await.status(), 404);
    hub.stop().await;
}
