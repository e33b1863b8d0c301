//! A package goes from a hub to a folder and back under another name by somebody else's tool, and nothing of it changes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends where something is not as it should be"
)]

mod pushing;

use std::path::Path;
use std::process::Command;

use package::digest::Digest;
use pushing::{Client, Package, hub, repo};

/// Runs skopeo; false if there is none.
fn skopeo(home: &Path, arguments: &[&str]) -> bool {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--all", "--preserve-digests"]).args(arguments);
    // Its own leftovers and logins stay out of this.
    let run = command.env("HOME", home).env("TMPDIR", home).env("XDG_RUNTIME_DIR", home).output();
    let Ok(run) = run else { return false };
    assert!(
        run.status.success(),
        "{}{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    );
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_copies_a_package_unchanged() {
    let (hub, _folder) = hub(|_| {}).await;
    let client = Client::of(&hub);
    let package = Package::new("smollm2", 7, 9 << 20);
    client.push(&repo("team/smollm2"), "7", &package).await;
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("copy");
    let there = format!("dir:{}", folder.display());
    let of = |name: &str| format!("docker://{}/{name}:7", hub.addr);
    let out = ["--src-tls-verify=false", &of("team/smollm2"), &there].map(str::to_owned);
    let back = ["--dest-tls-verify=false", &there, &of("another/name")].map(str::to_owned);
    for arguments in [out, back] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let path = home.path().to_owned();
        if !tokio::task::block_in_place(|| skopeo(&path, &arguments)) {
            println!("skipped: skopeo is not installed");
            return;
        }
    }
    assert_eq!(std::fs::read(folder.join("manifest.json")).unwrap(), package.index);
    let index = client.get("/v2/another/name/manifests/7").await;
    assert_eq!(index.bytes().await.unwrap(), package.index);
    for manifest in &package.manifests {
        let path = format!("/v2/another/name/manifests/{}", Digest::of(manifest));
        assert_eq!(client.get(&path).await.bytes().await.unwrap(), *manifest);
    }
    for blob in &package.blobs {
        let hex = Digest::of(blob).hex();
        assert!(std::fs::read(folder.join(&hex)).unwrap() == *blob, "{hex}");
        let path = format!("/v2/another/name/blobs/{}", Digest::of(blob));
        assert!(client.get(&path).await.bytes().await.unwrap() == *blob, "{hex}");
    }
    hub.stop().await;
}
