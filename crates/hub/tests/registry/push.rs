//! Blobs come in once, whole, and as what they are said to be, however often the connection is cut.

use std::time::Duration;

use package::digest::Digest;
use package::registry::upload_range;
use reqwest::Method;

use crate::pushing::{Client, announce, hub, noise, refusal, repo};

/// Begins an upload; where it goes on.
async fn begin(client: &Client, name: &str) -> String {
    let answer = client.ask(Method::POST, &format!("/v2/{name}/blobs/uploads/"), &[], Vec::new()).await;
    assert_eq!(answer.status(), 202);
    assert!(answer.headers().get("range").is_none(), "nothing came yet");
    answer.headers()["location"].to_str().unwrap().to_owned()
}

async fn patch(client: &Client, location: &str, range: &str, body: &[u8]) -> reqwest::Response {
    client.ask(Method::PATCH, location, &[("content-range", range)], body.to_vec()).await
}

async fn put(client: &Client, location: &str, digest: &Digest, body: &[u8]) -> reqwest::Response {
    client.ask(Method::PUT, &format!("{location}?digest={digest}"), &[], body.to_vec()).await
}

async fn is_here(client: &Client, bytes: &[u8]) -> bool {
    let path = format!("/v2/a/blobs/{}", Digest::of(bytes));
    let answer = client.get(&path).await;
    answer.status() == 200 && answer.bytes().await.unwrap() == bytes
}

#[tokio::test]
async fn a_cut_upload_goes_on_where_it_was() {
    let (hub, _folder) = hub(|_| {}).await;
    let client = Client::of(&hub);
    let bytes = noise(1, 5 << 20);
    let location = begin(&client, "a").await;
    let (half, whole) = (bytes.len() / 2, bytes.len());
    let request = format!("PATCH {location} HTTP/1.1\r\ncontent-length: {whole}");
    announce(&hub, &request, &bytes[..half], true).await;
    let mut came = 0;
    for _ in 0..500 {
        let told = client.get(&location).await;
        assert_eq!(told.status(), 204);
        came =
            told.headers().get("range").map_or(0, |range| upload_range(range.to_str().unwrap()).unwrap().end);
        if came == half as u64 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(came, half as u64, "every byte that came counts");
    let answer = patch(&client, &location, &format!("{half}-{}", whole - 1), &bytes[half..]).await;
    assert_eq!(answer.status(), 202);
    assert_eq!(answer.headers()["range"], *format!("0-{}", whole - 1));
    let answer = put(&client, &location, &Digest::of(&bytes), b"").await;
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers()["docker-content-digest"], *Digest::of(&bytes).to_string());
    assert!(is_here(&client, &bytes).await);
    assert_eq!(client.push_blob(&repo("b"), &bytes, 1 << 20).await, 0, "it is here: nothing is sent");
    hub.stop().await;
}

#[tokio::test]
async fn pieces_come_in_order() {
    let (hub, folder) = hub(|_| {}).await;
    let client = Client::of(&hub);
    let location = begin(&client, "a").await;
    assert_eq!(patch(&client, &location, "0-4", b"01234").await.status(), 202);
    for (range, body) in [("0-4", "01234"), ("3-6", "3456"), ("6-7", "67")] {
        let answer = patch(&client, &location, range, body.as_bytes()).await;
        assert_eq!(answer.status(), 416, "{range}");
        assert_eq!(answer.headers()["range"], "0-4");
        assert_eq!(answer.headers()["location"], *location);
    }
    for (range, body) in [("5-9", "567"), ("5-6", "56789"), ("x", "5"), ("6-5", "5")] {
        let (status, code) = refusal(patch(&client, &location, range, body.as_bytes()).await).await;
        let expected =
            if range.len() == 3 && range != "6-5" { "SIZE_INVALID" } else { "BLOB_UPLOAD_INVALID" };
        assert_eq!((status, code.as_str()), (400, expected), "{range}");
    }
    assert_eq!(client.get(&location).await.headers()["range"], "0-4");
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, String>("56"), Ok("789")]));
    let chunked = client.http.patch(format!("{}{location}", hub.url())).body(stream).send().await.unwrap();
    assert_eq!((chunked.status().as_u16(), &chunked.headers()["range"]), (202, &"0-9".parse().unwrap()));
    let answer = put(&client, &location, &Digest::of(b"0123456789abc"), b"abc").await;
    assert_eq!(answer.status(), 201);
    assert!(is_here(&client, b"0123456789abc").await);
    assert_eq!(client.get(&location).await.status(), 404, "it is over");
    assert_eq!(std::fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0);
    hub.stop().await;
}

#[tokio::test]
async fn only_what_it_is_said_to_be() {
    let (hub, folder) = hub(|_| {}).await;
    let client = Client::of(&hub);
    let location = begin(&client, "a").await;
    assert_eq!(patch(&client, &location, "0-2", b"abc").await.status(), 202);
    let nameless = client.ask(Method::PUT, &location, &[], Vec::new()).await;
    assert_eq!(refusal(nameless).await, (400, "DIGEST_INVALID".into()));
    let answer = put(&client, &location, &Digest::of(b"abd"), b"").await;
    assert_eq!(refusal(answer).await, (400, "DIGEST_INVALID".into()));
    assert!(!is_here(&client, b"abc").await && !is_here(&client, b"abd").await);
    let again = put(&client, &location, &Digest::of(b"abc"), b"").await;
    assert_eq!(refusal(again).await, (404, "BLOB_UPLOAD_UNKNOWN".into()));
    assert_eq!(std::fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0);
    hub.stop().await;
}

#[tokio::test]
async fn one_request_or_none() {
    let (hub, _folder) = hub(|_| {}).await;
    let client = Client::of(&hub);
    let digest = Digest::of(b"abc");
    let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    assert_eq!(client.ask(Method::POST, &mount, &[], Vec::new()).await.status(), 202, "it is not here yet");
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let answer = client.ask(Method::POST, &path, &[], b"abc".to_vec()).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers()["location"], *format!("/v2/a/blobs/{digest}"));
    let mounted = client.ask(Method::POST, &mount, &[], Vec::new()).await;
    assert_eq!(mounted.status(), 201);
    assert_eq!(mounted.headers()["location"], *format!("/v2/b/blobs/{digest}"));
    let wrong = client.ask(Method::POST, &path, &[], b"abd".to_vec()).await;
    assert_eq!(refusal(wrong).await, (400, "DIGEST_INVALID".into()));
    hub.stop().await;
}

#[tokio::test]
async fn a_session_belongs_to_its_repository() {
    let (hub, _folder) = hub(|config| config.registry.uploads_max = 2).await;
    let client = Client::of(&hub);
    let location = begin(&client, "a").await;
    let foreign = location.replace("/v2/a/", "/v2/b/");
    for method in [Method::GET, Method::PATCH, Method::PUT, Method::DELETE] {
        let answer = client.ask(method, &foreign, &[], Vec::new()).await;
        assert_eq!(refusal(answer).await, (404, "BLOB_UPLOAD_UNKNOWN".into()));
    }
    begin(&client, "b").await;
    let third = client.ask(Method::POST, "/v2/c/blobs/uploads/", &[], Vec::new()).await;
    assert_eq!(third.headers()["retry-after"], "10");
    assert_eq!(refusal(third).await, (429, "TOOMANYREQUESTS".into()));
    assert_eq!(client.ask(Method::DELETE, &location, &[], Vec::new()).await.status(), 204);
    assert_eq!(client.get(&location).await.status(), 404);
    begin(&client, "c").await;
    hub.stop().await;
}

#[tokio::test]
async fn no_more_than_allowed() {
    let (hub, folder) = hub(|config| config.registry.blob_max_bytes = 1 << 20).await;
    let client = Client::of(&hub);
    let location = begin(&client, "a").await;
    let request = format!("PATCH {location} HTTP/1.1\r\ncontent-length: 10000000000");
    let answer = announce(&hub, &request, b"", false).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("SIZE_INVALID"), "{answer}");
    let answer = patch(&client, &location, &format!("0-{}", u64::MAX - 1), b"x").await;
    assert_eq!(refusal(answer).await, (400, "SIZE_INVALID".into()));
    let pieces = (0..20).map(|n| Ok::<_, String>(noise(n, 100_000)));
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let endless = client.http.patch(format!("{}{location}", hub.url())).body(stream).send().await;
    // The hub may answer and close before all is sent.
    assert!(endless.is_err() || endless.is_ok_and(|answer| answer.status() == 413));
    assert_eq!(client.get(&location).await.status(), 404, "what is too long is forgotten");
    assert_eq!(std::fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0);
    hub.stop().await;
}
