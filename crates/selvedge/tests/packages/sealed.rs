//! Sealed weights, as those who pack and those who run nodes meet them: granted, carried, opened, refused.

use hub::config::HubConfig;
use hub::server::Hub;
use node::install::keys::{Keys, grants_folder};
use node::transfer::grants::{GrantSource, Sealed, bring};
use package::digest::Digest;
use package::disk::system::System;
use package::store::Store;
use serde_json::Value;

use crate::stage::{Stage, files};

/// With keys of two nodes, `a` and `b`, a key that seals, and the package `tiny` sealed to `a`.
fn sealed() -> Stage {
    let stage = Stage::new();
    for node in ["a", "b"] {
        let made = stage.run(&["trust", "key", "node", node]).ok();
        assert!(made.contains("made, for this user alone") && made.contains("ml_kem_768"), "{made}");
    }
    stage.run(&["trust", "key", "new", "seal.age", "--kind", "content", "--work", "4"]).ok();
    pack(&stage, "tiny", &["--seal-to", "a/keys/node.pub.json", "--seal-key", "seal.age"]);
    stage
}

fn pack(stage: &Stage, output: &str, seal: &[&str]) -> String {
    let words = ["pack", "full.gguf", "--model", "tiny", "--release", "7", "-o", output];
    let more = ["--quality", "text.txt", "--golden-from", "prompts.txt", "--licence", "Apache-2.0"];
    stage.run(&[&words[..], &more[..], seal].concat()).ok()
}

fn variant(stage: &Stage, package: &str) -> Value {
    stage.run(&["inspect", package, "--json"]).json()["releases"][0]["variants"][0].clone()
}

/// The digest of the weights.
fn weights(stage: &Stage) -> Digest {
    Digest::parse(variant(stage, "tiny")["files"][0]["digest"].as_str().unwrap()).unwrap()
}

/// What the node with the data folder `node` says of the model; its store has all blobs of the package.
fn proved(stage: &Stage, node: &str, package: &str) -> Value {
    let store = stage.path(node).join("packages/blobs/sha256");
    std::fs::create_dir_all(&store).unwrap();
    for entry in std::fs::read_dir(stage.path(package).join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), store.join(entry.file_name())).unwrap();
    }
    let manifest = variant(stage, package)["manifest"].as_str().unwrap().to_owned();
    let packages = format!("{node}/packages");
    stage.run(&["prove", "--packages", &packages, "--keys", node, &manifest]).json()
}

/// The node looks for its grant there.
fn brings(stage: &Stage, node: &str, from: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(asks(stage, node, GrantSource::in_folder(&stage.path(from)).unwrap()))
}

async fn asks(stage: &Stage, node: &str, source: GrantSource) -> bool {
    let (data, store) = (stage.path(node), Store::open(System, &stage.path("tiny"), u64::MAX).unwrap());
    let sealed = Sealed::of(&store, weights(stage)).unwrap().unwrap();
    let keys = Keys::open(&data).unwrap();
    bring(&sealed, keys.secret().unwrap(), &[source], &System, &grants_folder(&data)).await.unwrap()
}

#[test]
fn granted_nodes_answer_as_if_nothing_were_sealed() {
    let stage = sealed();
    pack(&stage, "plain", &[]);
    let plain = proved(&stage, "plain-node", "plain");
    let answers = |told: &Value| told["answered"]["answers"].clone();
    assert_eq!(answers(&plain).as_array().unwrap().len(), 2, "{plain}");

    let closed = proved(&stage, "a", "tiny");
    assert!(closed["damaged"].as_str().unwrap().contains("no grant for this node's key"), "{closed}");
    assert!(brings(&stage, "a", "tiny"));
    assert_eq!(answers(&proved(&stage, "a", "tiny")), answers(&plain));

    // The other node is let in later, from a stick.
    assert!(!brings(&stage, "b", "tiny"));
    let grant = ["grant", "tiny", "--to", "b/keys/node.pub.json", "--key", "seal.age"];
    let said = stage.run(&[&grant[..], &["-o", "stick"]].concat()).ok();
    assert!(said.starts_with("tiny:7: 1 grant in stick/grants"), "{said}");
    assert!(brings(&stage, "b", "stick"));
    assert_eq!(answers(&proved(&stage, "b", "tiny")), answers(&plain));
    let nobody = proved(&stage, "c", "tiny");
    assert!(nobody["damaged"].as_str().unwrap().contains("this node has no key"), "{nobody}");

    // What a thief of the package has.
    let plain = std::fs::read(stage.path("full.gguf")).unwrap();
    let piece = &plain[plain.len() / 2..][..64];
    for (path, bytes) in files(&stage.path("tiny")) {
        assert!(!bytes.windows(piece.len()).any(|bytes| bytes == piece), "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_go_by_the_hub() {
    let stage = sealed();
    stage.write("token", "0123456789abcdef\n");
    let config = HubConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        data: stage.path("hub"),
        token_file: Some(stage.path("token")),
        ..HubConfig::default()
    };
    let hub = Hub::start(config, wire::world::System::new()).await.unwrap();
    let url = hub.url();
    let source = || GrantSource::at(&url, Some("0123456789abcdef")).unwrap();
    assert!(!asks(&stage, "a", source()).await);
    let with = ["--hub", &url, "--token-file", "token"];
    let run = |words: &[&str]| tokio::task::block_in_place(|| stage.run(&[words, &with[..]].concat()).ok());
    let pushed = run(&["push", "tiny", "hub:tiny"]);
    assert!(pushed.contains("1 grant for sealed weights went with it"), "{pushed}");
    assert!(asks(&stage, "a", source()).await && !asks(&stage, "b", source()).await);
    let grant = ["grant", "tiny", "--to", "b/keys/node.pub.json", "--key", "seal.age", "-o", "hub:"];
    assert!(run(&grant).starts_with("tiny:7: 1 grant at the hub 127.0.0.1:"));
    assert!(asks(&stage, "b", source()).await);
    tokio::task::block_in_place(|| stage.refused(&[&grant[..], &with[..2]].concat(), "asks for a token"));
    hub.stop().await;
}

#[test]
fn a_sealed_package_is_looked_at_like_any_other() {
    let stage = sealed();
    let text = stage.run(&["inspect", "tiny"]).ok();
    assert!(text.contains("sealed to 1 node key") && text.contains("full.gguf.sealed"), "{text}");
    let (closed, open) = (variant(&stage, "tiny"), stage.run(&["fit", "full.gguf", "--json"]).json());
    assert_eq!((&closed["sealed"], &closed["grants"]), (&"aes-256-gcm-1m".into(), &1.into()));
    let (needs, plain) = (&closed["requires"]["ram_bytes"], &open[0]["needed_bytes"]);
    assert!(needs.as_u64() > plain.as_u64(), "its plain bytes are in memory, too: {needs} {plain}");

    let grant = ["grant", "tiny", "--to", "b/keys/node.pub.json", "--key", "seal.age"];
    stage.run(&grant).ok();
    assert!(stage.run(&["inspect", "tiny"]).ok().contains("sealed to 2 node keys"));
    let verified = stage.run(&["verify", "tiny"]).ok();
    assert!(verified.contains("tiny:7 f32: sealed, with grants for 2 node keys"), "{verified}");
    let explained = stage.run(&["fit", "--explain", "tiny", "--memory", "2GiB"]).ok();
    assert!(explained.contains("f32 is sealed: grants for 2 node keys travel with it"), "{explained}");
    // Onto a stick, and from there.
    stage.run(&["export", "tiny", "--usb", "stick.tar"]).ok();
    assert!(stage.run(&["verify", "stick.tar"]).ok().contains("grants for 2 node keys"));
    assert_eq!(variant(&stage, "stick.tar")["grants"], 2);
    assert!(brings(&stage, "b", "stick.tar"));
    pack(&stage, "whole.tar", &["--seal-to", "a/keys/node.pub.json", "--forget-seal-key"]);
    assert_eq!(variant(&stage, "whole.tar")["grants"], 1);
    // Signed and approved as any other.
    stage.run(&["trust", "key", "new", "maker.age", "--kind", "ecdsa-p256", "--work", "4"]).ok();
    stage.run(&["sign", "tiny", "--provenance", "maker.age"]).ok();
    stage.run(&["verify", "tiny", "--provenance", "maker.pub.pem"]).ok();
}

#[test]
fn keys_are_not_mixed_up() {
    let stage = sealed();
    // A node's key is made once.
    let shown = stage.run(&["trust", "key", "node", "a", "--json"]).json();
    assert_eq!(shown["new"], false);
    let public = std::fs::read_to_string(stage.path("a/keys/node.pub.json")).unwrap();
    assert_eq!(shown["public"], serde_json::from_str::<Value>(&public).unwrap());

    let words = ["pack", "full.gguf", "--model", "tiny", "--release", "8", "-o", "other"];
    let to = ["--seal-to", "a/keys/node.pub.json"];
    assert_eq!(stage.run(&[&words[..], &to[..]].concat()).code, Some(2), "which key shall seal?");
    let with = |more: &[&'static str]| [&words[..], more].concat();
    stage.refused(&with(&["--seal-to", "seal.age", "--seal-key", "seal.age"]), "no public key of a node");
    stage.run(&["trust", "key", "new", "maker.age", "--work", "4"]).ok();
    stage.refused(
        &with(&["--seal-to", "a/keys/node.pub.json", "--seal-key", "maker.age"]),
        "--kind content` makes one",
    );
    stage.refused(&["trust", "key", "new", "seal.age", "--kind", "content"], "a key is never overwritten");
    stage.refused(&["sign", "tiny", "--provenance", "seal.age"], "it signs nothing");

    let grant = |package: &'static str, key: &'static str| {
        ["grant", package, "--to", "b/keys/node.pub.json", "--key", key]
    };
    stage.run(&["trust", "key", "new", "seal-2.age", "--kind", "content", "--work", "4"]).ok();
    stage.refused(&grant("tiny", "seal-2.age"), "the key is not this file's");
    pack(&stage, "plain", &[]);
    stage.refused(&grant("plain", "seal.age"), "is not sealed");
    stage.run(&["export", "tiny", "--usb", "stick.tar"]).ok();
    assert_eq!(stage.run(&grant("stick.tar", "seal.age")).code, Some(2), "where shall it go?");
}

#[test]
fn what_was_changed_is_found() {
    let stage = sealed();
    let place = format!("tiny/grants/{}", weights(&stage).hex());
    let grant = std::fs::read_dir(stage.path(&place)).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(&grant).unwrap();
    std::fs::write(&grant, &bytes[1..]).unwrap();
    stage.refused(&["verify", "tiny"], "f32's grants");
    std::fs::rename(&grant, grant.with_file_name(format!("{}.json", "0".repeat(64)))).unwrap();
    stage.refused(&["verify", "tiny"], "f32's grants");
    std::fs::remove_dir_all(stage.path("tiny/grants")).unwrap();
    assert!(stage.run(&["verify", "tiny"]).ok().contains("grants for 0 node keys"));
    assert!(stage.run(&["inspect", "tiny"]).ok().contains("no grant travels with it"));

    let blob = stage.blob("f32", "weights");
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[1 << 20] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    stage.refused(&["verify", "tiny"], "f32/full.gguf.sealed is damaged, from byte 1048576 or soon after");
}
