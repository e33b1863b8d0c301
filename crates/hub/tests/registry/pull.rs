//! What was pushed comes back, byte for byte, whole or in part.

use hub::config::HubConfig;
use package::digest::Digest;
use package::index::Release;
use package::media;
use reqwest::Method;

use crate::pushing::{Client, Package, hub, refusal, repo};

#[tokio::test]
async fn a_package_comes_back_byte_for_byte() {
    comes_back(|_| {}).await;
}

pub(crate) async fn comes_back(change: impl FnOnce(&mut HubConfig)) {
    let (hub, _folder) = hub(change).await;
    let client = Client::of(&hub);
    let (name, package) = (repo("team/smollm2"), Package::new("smollm2", 7, 9 << 20));
    client.push(&name, "7", &package).await;
    assert_eq!(client.get("/v2/").await.status(), 200);
    let answer = client.get("/v2/team/smollm2/manifests/7").await;
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), media::OCI_INDEX);
    assert_eq!(header("docker-content-digest"), Digest::of(&package.index).to_string());
    assert_eq!(header("cache-control"), "no-cache");
    assert_eq!(header("docker-distribution-api-version"), "registry/2.0");
    let index = answer.bytes().await.unwrap();
    assert_eq!(index, package.index);
    assert_eq!(Release::read(&index).unwrap().variants.len(), 2);
    for bytes in package.manifests.iter().chain([&package.index]) {
        let path = format!("/v2/team/smollm2/manifests/{}", Digest::of(bytes));
        let answer = client.get(&path).await;
        assert!(answer.headers()["cache-control"].to_str().unwrap().contains("immutable"));
        assert_eq!(answer.bytes().await.unwrap(), *bytes);
        let head = client.ask(Method::HEAD, &path, &[], Vec::new()).await;
        assert_eq!(head.headers()["content-length"], *bytes.len().to_string());
    }
    for bytes in &package.blobs {
        let path = format!("/v2/team/smollm2/blobs/{}", Digest::of(bytes));
        let head = client.ask(Method::HEAD, &path, &[], Vec::new()).await;
        assert_eq!(head.headers()["content-length"], *bytes.len().to_string());
        assert!(client.get(&path).await.bytes().await.unwrap() == *bytes);
    }
    hub.stop().await;
}

#[tokio::test]
async fn parts_of_a_blob() {
    parts(|_| {}).await;
}

pub(crate) async fn parts(change: impl FnOnce(&mut HubConfig)) {
    let (hub, _folder) = hub(change).await;
    let client = Client::of(&hub);
    client.push_blob(&repo("a"), b"0123456789", 3).await;
    let digest = Digest::of(b"0123456789");
    let path = format!("/v2/a/blobs/{digest}");
    let ask = async |headers: &[(&str, &str)]| {
        let answer = client.ask(Method::GET, &path, headers, Vec::new()).await;
        let place = answer.headers().get("content-range").map(|place| place.to_str().unwrap().to_owned());
        (answer.status().as_u16(), place.unwrap_or_default(), answer.text().await.unwrap())
    };
    let part = |place: &str, text: &str| (206, place.to_owned(), text.to_owned());
    let whole = (200, String::new(), "0123456789".to_owned());
    assert_eq!(ask(&[("range", "bytes=2-4")]).await, part("bytes 2-4/10", "234"));
    assert_eq!(ask(&[("range", "bytes=8-99")]).await, part("bytes 8-9/10", "89"));
    assert_eq!(ask(&[("range", "bytes=-1")]).await, part("bytes 9-9/10", "9"));
    assert_eq!(ask(&[("range", "bytes=0-1,3-4")]).await, whole);
    let etag = format!("\"{digest}\"");
    assert_eq!(ask(&[("range", "bytes=9-"), ("if-range", &etag)]).await, part("bytes 9-9/10", "9"));
    assert_eq!(ask(&[("range", "bytes=9-"), ("if-range", "\"other\"")]).await, whole);
    assert_eq!(ask(&[("if-none-match", &etag)]).await, (304, String::new(), String::new()));
    let (status, place, _) = ask(&[("range", "bytes=10-")]).await;
    assert_eq!((status, place.as_str()), (416, "bytes */10"));
    client.push_blob(&repo("a"), b"", 3).await;
    let empty = client.get(&format!("/v2/a/blobs/{}", Digest::of(b""))).await;
    assert_eq!((empty.status().as_u16(), empty.bytes().await.unwrap().len()), (200, 0));
    hub.stop().await;
}

#[tokio::test]
async fn what_is_not_here() {
    let (hub, _folder) = hub(|_| {}).await;
    let client = Client::of(&hub);
    let digest = Digest::of(b"nothing");
    for (path, status, code) in [
        (format!("/v2/a/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
        (format!("/v2/a/manifests/{digest}"), 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/manifests/7".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        ("/v2/a/blobs/uploads/0f".to_owned(), 404, "BLOB_UPLOAD_UNKNOWN"),
        ("/v2/a/blobs/sha512:00".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/a/manifests/.x".to_owned(), 400, "MANIFEST_INVALID"),
        ("/v2/A/manifests/7".to_owned(), 400, "NAME_INVALID"),
        ("/v2/a%2F..%2Fb/manifests/7".to_owned(), 400, "NAME_INVALID"),
        (format!("/v2/{}/manifests/7", "a".repeat(256)), 400, "NAME_INVALID"),
        ("/v2/_catalog".to_owned(), 404, "UNSUPPORTED"),
    ] {
        assert_eq!(refusal(client.get(&path).await).await, (status, code.to_owned()), "{path}");
    }
    let path = format!("/v2/a/manifests/{digest}");
    let deleted = client.ask(Method::DELETE, &path, &[], Vec::new()).await;
    assert_eq!(refusal(deleted).await, (405, "UNSUPPORTED".to_owned()));
    hub.stop().await;
}
