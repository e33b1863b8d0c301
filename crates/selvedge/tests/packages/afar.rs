//! Packages in a registry: looked at, brought and verified over the network; and a repository of trust made again from what a
//! hub serves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use hub::config::HubConfig;
use hub::server::{Hub, Running};
use tokio::runtime::Runtime;
use wire::world::System;

use crate::stage::{Ran, Stage, files};

const TOKEN: &str = "0123456789abcdef";

/// A stage, and a hub that has its package.
pub(crate) struct House {
    pub(crate) stage: Stage,
    hub: Running,
    runtime: Runtime,
}

impl House {
    pub(crate) fn new(stage: Stage) -> House {
        let house = House::empty(stage);
        house.run(&["push", "tiny", "hub:tiny"]).ok();
        house
    }

    /// With a hub that has nothing yet.
    pub(crate) fn empty(stage: Stage) -> House {
        stage.write("token", TOKEN);
        let runtime = Runtime::new().unwrap();
        let config = HubConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            data: stage.path("hub"),
            token_file: Some(stage.path("token")),
            ..HubConfig::default()
        };
        let hub = runtime.block_on(Hub::start(config, System::new())).unwrap();
        House { stage, hub, runtime }
    }

    pub(crate) fn words(&self, words: &[&str]) -> Vec<String> {
        let more = ["--hub", &self.hub.url(), "--token-file", "token"].map(str::to_owned);
        words.iter().map(|word| (*word).to_owned()).chain(more).collect()
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        let words = self.words(words);
        self.stage.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[track_caller]
    pub(crate) fn refused(&self, words: &[&str], code: i32, expected: &str) {
        let Ran { code: found, out, err } = self.run(words);
        assert!(found == Some(code) && err.contains(expected), "{words:?}: {found:?} {out}{err}");
    }

    /// Where the hub has metadata.
    pub(crate) fn metadata(&self) -> String {
        format!("{}/tuf/metadata", self.hub.url())
    }

    fn put(&self, path: &str, bytes: Vec<u8>) {
        let request = reqwest::Client::new().put(format!("{}{path}", self.hub.url()));
        let answer = self.runtime.block_on(request.bearer_auth(TOKEN).body(bytes).send()).unwrap();
        let status = answer.status();
        assert!(status.is_success(), "{path}: {status} {}", self.runtime.block_on(answer.text()).unwrap());
    }

    /// Gives the repository to the hub: roots and targets first, the timestamp last.
    pub(crate) fn publish(&self, repository: &str) {
        let mut found: Vec<(PathBuf, Vec<u8>)> =
            files(&self.stage.path(repository).join("metadata")).into_iter().collect();
        let rank = |name: &str| (name == "timestamp.json", name.contains("snapshot"), !name.contains("root"));
        found.sort_by_key(|(path, _)| rank(path.to_str().unwrap()));
        for (path, bytes) in found {
            self.put(&format!("/api/v1/tuf/metadata/{}", path.display()), bytes);
        }
    }
}

/// The blobs of a package's folder, by name.
fn blobs(stage: &Stage, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    files(&stage.path(folder).join("blobs"))
}

#[test]
fn a_package_is_looked_at_where_it_is() {
    let house = House::new(Stage::packed());
    let stage = &house.stage;
    // None of its layers is asked for: the hub has lost the largest.
    let lost = stage.blob("f32", "weights");
    let lost = lost.file_name().unwrap().to_str().unwrap();
    let there = files(&stage.path("hub"));
    let there: Vec<_> = there.keys().filter(|path| path.to_str().unwrap().contains(lost)).collect();
    assert_eq!(there.len(), 1, "{there:?}");
    std::fs::remove_file(stage.path("hub").join(there[0])).unwrap();
    let here = stage.run(&["inspect", "tiny"]).ok().replace("2 golden answers", "golden answers");
    for words in ["hub:tiny", "hub:tiny:7"] {
        assert_eq!(house.run(&["inspect", words]).ok(), here);
    }
    let json = |ran: Ran| ran.json()["releases"].clone();
    let index = json(house.run(&["inspect", "hub:tiny", "--json"]));
    assert_eq!(index, json(stage.run(&["inspect", "tiny", "--json"])));
    let digest = index[0]["index"].as_str().unwrap();
    let address = format!("oci://{}/tiny@{digest}", house.hub.url().strip_prefix("http://").unwrap());
    assert_eq!(house.run(&["inspect", &address]).ok(), here);
    house.refused(&["inspect", "hub:tiny:8"], 1, "has no tiny:8; it has 7");
    house.refused(&["inspect", "hub:other"], 1, "no other");
    house.refused(&["inspect", "hub:Tiny"], 2, "");
    let unknown = stage.run(&["inspect", "hub:tiny", "--hub", &house.hub.url()]);
    assert!(
        unknown.code == Some(1) && unknown.err.contains("asks for a name and a password"),
        "{}",
        unknown.err
    );
}

#[test]
fn a_package_comes_whole_or_in_part_and_is_verified() {
    let house = House::new(Stage::approved());
    let stage = &house.stage;
    house.publish("repo");
    let trust =
        ["--root", "repo/metadata/1.root.json", "--repository", &house.metadata(), "--token-file", "token"];
    let verify = |words: &[&str]| stage.run(&[&["verify"], words, &trust].concat());

    let said = house.run(&["pull", "hub:tiny", "--to", "all"]).ok();
    assert!(
        said.contains("pulled tiny:7 into all (") && said.contains("nobody vouched for this yet"),
        "{said}"
    );
    assert!(blobs(stage, "all") == blobs(stage, "tiny"), "byte for byte, and nothing beside");
    assert!(verify(&["all"]).ok().contains("tiny:7 is approved: root 1, targets 2, timestamp 2"));
    assert!(house.run(&["pull", "hub:tiny", "--to", "all"]).ok().contains("is in all already"));
    assert!(
        house.run(&["push", "all", "hub:copy"]).ok().contains("pushed"),
        "it is a package like any other"
    );

    let said = house.run(&["pull", "hub:tiny", "--json"]).json();
    let variant = said["variants"][0].as_str().unwrap();
    assert_eq!((said["to"].as_str(), said["is_all"].as_bool()), (Some("tiny-7"), Some(false)), "{said}");
    let best = stage.run(&["fit", "--explain", "tiny", "--json"]).json();
    assert_eq!(best["best"], said["variants"][0], "the one that this machine would take");
    assert!(stage.run(&["inspect", "tiny-7"]).ok().contains("tiny release 7"));
    let found = verify(&["tiny-7"]);
    assert!(found.code == Some(1) && found.out.contains("is not there"), "{}{}", found.out, found.err);
    verify(&["tiny-7", "--variant", variant]).ok();
    let other = if variant == "f32" { "q8_0" } else { "f32" };
    assert_eq!(verify(&["tiny-7", "--variant", "q2_k"]).code, Some(2));
    house.run(&["pull", "hub:tiny", "--to", "tiny-7", "--variant", other]).ok();
    verify(&["tiny-7"]).ok();

    house.run(&["pull", "hub:tiny:7", "--to", "one.tar"]).ok();
    assert!(verify(&["one.tar"]).ok().contains("is approved"));
    assert!(!stage.path(".one.tar.pulled").exists());
    house.refused(&["pull", "hub:tiny", "--to", "one.tar"], 1, "--replace replaces it");
    house.refused(&["pull", "hub:tiny", "--to", "one.tar", "--variant", "f32"], 2, "whole releases");
    house.refused(&["pull", "hub:tiny", "--to", "x", "--variant", "q2_k"], 2, "there are");
    std::fs::create_dir(stage.path("mine")).unwrap();
    stage.write("mine/letter", "dear");
    house.refused(&["pull", "hub:tiny", "--to", "mine"], 1, "has other files in it");
    house.refused(&["pull", "owner/name", "--to", "mine"], 2, "for packages");

    // A repository that cannot be reached vouches for nothing, nor does one of somebody else.
    let nobody =
        ["verify", "all", "--root", "repo/metadata/1.root.json", "--repository", "http://127.0.0.1:9/tuf"];
    stage.refused(&nobody, "could not be fetched");
    stage.run(&["trust", "init", "theirs", "--keys", "their-keys", "--work", "4"]).ok();
    let theirs = ["verify", "all", "--root", "theirs/metadata/1.root.json"];
    stage.refused(&[&theirs[..], &trust[2..]].concat(), "the repository is not accepted");
}

#[test]
fn a_pull_that_is_interrupted_goes_on() {
    let house = House::new(Stage::packed());
    let stage = &house.stage;
    let words = house.words(&["pull", "hub:tiny", "--to", "slow", "--rate", "1500KB"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut child = stage.command(&words).spawn().unwrap();
    let came = || {
        let found = std::fs::read_dir(stage.path("slow/blobs/sha256")).into_iter().flatten().flatten();
        let parts = found.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
        parts.filter_map(|entry| Some(entry.metadata().ok()?.len())).max().unwrap_or(0)
    };
    while came() < 1 << 20 {
        assert_eq!(child.try_wait().unwrap(), None, "it ended before it was half way");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(1) && said.contains("goes on where it stopped"), "{said}");
    stage.refused(&["inspect", "slow"], "slow is no package");
    let said = house.run(&["pull", "hub:tiny", "--to", "slow", "--json"]).json();
    let all: usize = blobs(stage, "tiny").values().map(Vec::len).sum();
    let came = said["came_bytes"].as_u64().unwrap();
    assert!(came + (1 << 20) <= all as u64, "{came} of {all} came again");
    assert!(blobs(stage, "slow") == blobs(stage, "tiny"));
}

#[test]
fn a_lost_repository_is_made_again_from_what_the_hub_serves() {
    let house = House::new(Stage::approved());
    let stage = &house.stage;
    let publish = ["targets", "snapshot", "timestamp"];
    stage.run(&["trust", "key", "new", "keys/assigner.age", "--work", "4"]).ok();
    let delegate = ["delegate", "repo", "assignments", "--add", "keys/assigner.pub.json"];
    let all = ["targets", "snapshot", "timestamp", "assigner"];
    stage.trust(&delegate, &all).ok();
    stage.trust(&["assign", "repo", "--node", "pump-1", "--model", "tiny:7"], &["assigner"]).ok();
    house.publish("repo");
    for bytes in files(&stage.path("repo/assignments")).into_values() {
        house.put("/api/v1/assignments", bytes);
    }
    let (from, root) = (house.metadata(), "1.root.json");
    std::fs::rename(stage.path("repo"), stage.path("lost")).unwrap();
    std::fs::copy(stage.path("lost/metadata/1.root.json"), stage.path(root)).unwrap();
    let init = ["trust", "init", "repo", "--from", &from, "--root", root, "--token-file", "token"];
    let said = stage.run(&init).ok();
    for expected in
        ["proven from 1.root.json", "targets 3, expires in", "1 assignments\n", "assignments 1, expires"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let lost = files(&stage.path("lost"));
    let again = files(&stage.path("repo"));
    let old = ["metadata/1.targets.json", "metadata/2.targets.json", "metadata/2.snapshot.json"];
    let is_old = |path: &PathBuf| old.contains(&path.to_str().unwrap()) || path.ends_with("1.snapshot.json");
    let kept: BTreeMap<_, _> = lost.into_iter().filter(|(path, _)| !is_old(path)).collect();
    assert_eq!(again.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
    assert!(again == kept, "byte for byte");
    stage.refused(&init, "repo is a repository already");

    // And it goes on: with the next release, and with the next version of the same assignment.
    stage.pack("8", "newer").ok();
    stage.trust(&["add", "repo", "newer"], &publish).ok();
    house.publish("repo");
    let verify = ["verify", "newer", "--root", root, "--repository", &from, "--token-file", "token"];
    assert!(stage.run(&verify).ok().contains("targets 4"));
    let assigned =
        stage.trust(&["assign", "repo", "--node", "pump-1", "--model", "tiny:8"], &["assigner"]).ok();
    assert!(assigned.contains("version 2"), "{assigned}");

    // Nothing is made from what another root does not vouch for.
    stage.run(&["trust", "init", "theirs", "--keys", "their-keys", "--work", "4"]).ok();
    let theirs = "theirs/metadata/1.root.json";
    let words = ["trust", "init", "none", "--from", &from, "--root", theirs, "--token-file", "token"];
    stage.refused(&words, "the repository is not accepted");
    assert!(!stage.path("none").exists());
}

#[test]
fn lost_trust_is_reset_by_a_person_alone() {
    let stage = Stage::approved();
    let reset = ["trust", "reset", "--data", "node", "--root", "repo/metadata/1.root.json"];
    let asked = stage.run(&reset);
    assert!(asked.code == Some(2) && asked.err.contains("Say so with --yes"), "{}", asked.err);
    let sure = [&reset[..], &["--yes"]].concat();
    stage.refused(&sure, "node has neither slots nor a trust state");
    std::fs::create_dir_all(stage.path("node/trust")).unwrap();
    stage.write("node/trust/state", "damaged");
    assert!(stage.run(&sure).ok().contains("the node trusts root 1 now, as state 1"));
    assert!(stage.run(&sure).ok().contains("as state 2"), "never the same number twice");
    let other = ["trust", "reset", "--data", "node", "--root", "text.txt", "--yes"];
    stage.refused(&other, "text.txt is no root that a node accepts");
}
