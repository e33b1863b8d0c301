//! Manifests are kept as they came, and only with all that they name.

use hub::config::HubConfig;
use package::descriptor::Descriptor;
use package::digest::Digest;
use package::index::Index;
use package::manifest::Manifest;
use package::media;
use reqwest::Method;
use serde_json::Value;

use crate::pushing::{Client, Package, hub, refusal, repo};

#[tokio::test]
async fn nothing_that_is_not_whole() {
    whole_or_not(|_| {}).await;
}

pub(crate) async fn whole_or_not(change: impl FnOnce(&mut HubConfig)) {
    let (hub, _folder) = hub(change).await;
    let client = Client::of(&hub);
    let (name, package) = (repo("a"), Package::new("smollm2", 7, 1000));
    let missing = (400, "MANIFEST_BLOB_UNKNOWN".to_owned());
    let digest = Digest::of(&package.manifests[0]).to_string();
    assert_eq!(refusal(client.put_manifest(&name, &digest, &package.manifests[0]).await).await, missing);
    for blob in &package.blobs {
        client.push_blob(&name, blob, 1 << 20).await;
    }
    assert_eq!(refusal(client.put_manifest(&name, "7", &package.index).await).await, missing);
    for manifest in &package.manifests[1..] {
        let answer = client.put_manifest(&name, &Digest::of(manifest).to_string(), manifest).await;
        assert_eq!(answer.status(), 201);
    }
    assert_eq!(refusal(client.put_manifest(&name, "7", &package.index).await).await, missing);
    client.push_blob(&name, &package.manifests[0], 1 << 20).await;
    assert_eq!(
        refusal(client.put_manifest(&name, "7", &package.index).await).await,
        missing,
        "a blob is no manifest"
    );
    assert_eq!(client.put_manifest(&repo("b"), &digest, &package.manifests[0]).await.status(), 201);
    assert_eq!(
        refusal(client.put_manifest(&name, "7", &package.index).await).await,
        missing,
        "it is in another"
    );
    assert_eq!(client.get("/v2/a/manifests/7").await.status(), 404);
    assert_eq!(client.put_manifest(&name, &digest, &package.manifests[0]).await.status(), 201);
    assert_eq!(client.put_manifest(&name, "7", &package.index).await.status(), 201);
    let mut lie = Manifest::parse(&package.manifests[0]).unwrap();
    lie.layers[0].size += 1;
    assert_eq!(refusal(client.put_manifest(&name, "lie", &lie.to_bytes()).await).await, missing);
    hub.stop().await;
}

#[tokio::test]
async fn kept_as_they_came() {
    let (hub, _folder) = hub(|_| {}).await;
    let client = Client::of(&hub);
    let name = repo("a");
    client.push_blob(&name, b"{}", 1 << 20).await;
    let manifest = Manifest::new("a/b", Descriptor::empty());
    let value: Value = serde_json::from_slice(&manifest.to_bytes()).unwrap();
    let odd = format!("\n  {}\n\n", serde_json::to_string_pretty(&value).unwrap()).into_bytes();
    assert_eq!(client.put_manifest(&name, "odd", &odd).await.status(), 201);
    assert_eq!(client.get("/v2/a/manifests/odd").await.bytes().await.unwrap(), odd);
    // A tag may name another one tomorrow.
    assert_eq!(client.put_manifest(&name, "odd", &manifest.to_bytes()).await.status(), 201);
    assert_eq!(client.get("/v2/a/manifests/odd").await.bytes().await.unwrap(), manifest.to_bytes());
    let other = Digest::of(&odd).to_string();
    assert_eq!(client.get(&format!("/v2/a/manifests/{other}")).await.bytes().await.unwrap(), odd);
    let answer = client.put_manifest(&name, &other, &manifest.to_bytes()).await;
    assert_eq!(refusal(answer).await, (400, "DIGEST_INVALID".into()));
    let put = async |kind: &str, bytes: Vec<u8>| {
        refusal(client.ask(Method::PUT, "/v2/a/manifests/x", &[("content-type", kind)], bytes).await).await
    };
    let invalid = (400, "MANIFEST_INVALID".to_owned());
    assert_eq!(put(media::OCI_INDEX, manifest.to_bytes()).await, invalid, "it says that it is a manifest");
    assert_eq!(put(media::OCI_MANIFEST, b"{\"schemaVersion\":2}".to_vec()).await, invalid);
    assert_eq!(put(media::OCI_MANIFEST, b"[".repeat(100_000)).await, invalid);
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    assert_eq!(put(docker, b"{}".to_vec()).await, invalid);
    assert_eq!(put(media::OCI_MANIFEST, vec![b' '; (4 << 20) + 1]).await, (413, "SIZE_INVALID".into()));
    hub.stop().await;
}

#[tokio::test]
async fn tags_in_pages() {
    tags(|_| {}).await;
}

pub(crate) async fn tags(change: impl FnOnce(&mut HubConfig)) {
    let (hub, _folder) = hub(change).await;
    let client = Client::of(&hub);
    let name = repo("team/a");
    client.push_blob(&name, b"{}", 1 << 20).await;
    let manifest = Manifest::new("a/b", Descriptor::empty()).to_bytes();
    let digest = Digest::of(&manifest).to_string();
    assert_eq!(client.put_manifest(&name, &digest, &manifest).await.status(), 201);
    let list = async |path: &str| {
        let answer = client.get(path).await;
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        let tags: Value = answer.json().await.unwrap();
        assert_eq!(tags["name"], "team/a");
        let tags = tags["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned());
        (tags.collect::<Vec<_>>().join(" "), link)
    };
    assert_eq!(list("/v2/team/a/tags/list").await, (String::new(), None));
    for tag in ["7", "v1.0", "latest", "6"] {
        assert_eq!(client.put_manifest(&name, tag, &manifest).await.status(), 201);
    }
    assert_eq!(list("/v2/team/a/tags/list").await, ("6 7 latest v1.0".into(), None));
    let (first, link) = list("/v2/team/a/tags/list?n=3").await;
    let link = link.unwrap();
    assert_eq!(
        (first.as_str(), link.as_str()),
        ("6 7 latest", "</v2/team/a/tags/list?n=3&last=latest>; rel=\"next\"")
    );
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    assert_eq!(list(next).await, ("v1.0".into(), None));
    assert_eq!(list("/v2/team/a/tags/list?n=0").await, (String::new(), None));
    assert_eq!(list("/v2/team/a/tags/list?last=zzz").await, (String::new(), None));
    assert_eq!(client.get("/v2/team/a/tags/list?n=-1").await.status(), 400);
    hub.stop().await;
}

#[tokio::test]
async fn who_speaks_of_a_manifest() {
    referrers(|_| {}).await;
}

pub(crate) async fn referrers(change: impl FnOnce(&mut HubConfig)) {
    let (hub, _folder) = hub(change).await;
    let client = Client::of(&hub);
    let (name, package) = (repo("a"), Package::new("smollm2", 7, 1000));
    client.push(&name, "7", &package).await;
    let variant = Digest::of(&package.manifests[0]);
    let list = async |query: &str| {
        let answer = client.get(&format!("/v2/a/referrers/{variant}{query}")).await;
        assert_eq!(answer.headers()["content-type"], media::OCI_INDEX);
        let filtered = answer.headers().contains_key("oci-filters-applied");
        (Index::parse(&answer.bytes().await.unwrap()).unwrap().manifests, filtered)
    };
    let (found, filtered) = list("").await;
    assert_eq!((found.len(), filtered), (1, false));
    assert_eq!(found[0].digest, Digest::of(&package.manifests[1]));
    assert_eq!(found[0].artifact_type.as_deref(), Some(media::SIGSTORE_BUNDLE));
    let mut sbom = Manifest::new("application/spdx+json", Descriptor::empty());
    sbom.subject = Some(Descriptor::of(media::OCI_MANIFEST, &package.manifests[0]));
    sbom.annotations.insert("k".into(), "v".into());
    let answer = client.put_manifest(&name, "sbom", &sbom.to_bytes()).await;
    assert_eq!(answer.headers()["oci-subject"], *variant.to_string());
    assert_eq!(list("").await.0.len(), 2);
    let (found, filtered) = list("?artifactType=application/spdx%2Bjson").await;
    assert_eq!((found.len(), filtered), (1, true));
    assert_eq!(found[0].annotation("k"), Some("v"));
    let nobody = client.get(&format!("/v2/b/referrers/{variant}")).await;
    assert!(Index::parse(&nobody.bytes().await.unwrap()).unwrap().manifests.is_empty());
    hub.stop().await;
}
