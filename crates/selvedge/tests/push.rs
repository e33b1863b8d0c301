//! `selvedge push` against a real hub: all of a package arrives, what is there stays, and who may not is told so.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::path::Path;
use std::process::{Command, Output};

use hub::config::HubConfig;
use hub::server::{Hub, Running};
use package::descriptor::Descriptor;
use package::disk::system::System as Disk;
use package::index::Index;
use package::layout::Layout;
use package::manifest::Manifest;
use package::media;
use wire::world::System;

/// An index with two manifests that share a blob; the large one goes in two pieces.
fn pack(folder: &Path) -> (Descriptor, Vec<Vec<u8>>) {
    let layout = Layout::create(Disk, folder).unwrap();
    let put = |kind: &str, bytes: &[u8]| {
        layout.put_blob(bytes).unwrap();
        Descriptor::of(kind, bytes)
    };
    let large: Vec<u8> = (0..9_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let shared = put(media::DOC_RAW, b"the same for both");
    let mut index = Index { artifact_type: Some(media::PACKAGE.into()), ..Index::default() };
    let mut documents = Vec::new();
    for weights in [&large[..], &large[..1000]] {
        let mut manifest = Manifest::new(media::MODEL_MANIFEST, put(media::MODEL_CONFIG, b"{}"));
        manifest.layers = vec![put(media::WEIGHT_RAW, weights), shared.clone()];
        index.manifests.push(put(media::OCI_MANIFEST, &manifest.to_bytes()));
        documents.push(manifest.to_bytes());
    }
    let root = put(media::OCI_INDEX, &index.to_bytes());
    layout.set_ref("smollm2:7", &root).unwrap();
    documents.push(index.to_bytes());
    (root, documents)
}

async fn push(hub: &Running, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    command.arg("push").arg(folder.join("package")).args(["--hub", &hub.url()]).args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let (root, documents) = pack(&folder.path().join("package"));
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    let config = HubConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        data: folder.path().join("hub"),
        token_file: Some(token.clone()),
        ..HubConfig::default()
    };
    let hub = Hub::start(config, System::new()).await.unwrap();

    let refused = push(&hub, folder.path(), &["hub:team/smollm2"]).await;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("asks for a token"), "{why}");
    let with_token = ["hub:team/smollm2", "--token-file", token.to_str().unwrap()];
    for there in ["0 of 4", "4 of 4"] {
        let pushed = push(&hub, folder.path(), &with_token).await;
        let said = String::from_utf8_lossy(&pushed.stdout).into_owned();
        assert!(pushed.status.success(), "{said}{}", String::from_utf8_lossy(&pushed.stderr));
        assert!(said.contains("/team/smollm2:7 ") && said.contains(there), "{said}");
        assert!(said.contains(&root.digest.to_string()), "{said}");
    }
    let get = async |path: &str| {
        let request =
            reqwest::Client::new().get(format!("{}{path}", hub.url())).bearer_auth("0123456789abcdef");
        request.send().await.unwrap().bytes().await.unwrap()
    };
    assert_eq!(get("/v2/team/smollm2/manifests/7").await, documents[2]);
    for document in &documents {
        let digest = package::digest::Digest::of(document);
        assert_eq!(get(&format!("/v2/team/smollm2/manifests/{digest}")).await, *document);
    }
    hub.stop().await;
}
