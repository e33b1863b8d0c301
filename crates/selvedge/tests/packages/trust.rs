//! Keys that lie on several machines, other keys, other people: how a repository goes on.

use std::fs;

use package::archive;

use crate::stage::Stage;

const PUBLISH: [&str; 2] = ["snapshot", "timestamp"];

#[test]
fn a_root_gathers_its_signatures_on_other_machines() {
    let stage = Stage::packed();
    for folder in ["keys", "elsewhere"] {
        fs::create_dir(stage.path(folder)).unwrap();
    }
    for name in ["root-2", "root-3"] {
        let file = format!("elsewhere/{name}.age");
        stage.run(&["trust", "key", "new", &file, "--work", "4"]).ok();
        let public = format!("{name}.pub.json");
        fs::copy(stage.path("elsewhere").join(&public), stage.path("keys").join(&public)).unwrap();
    }
    let made = stage.run(&["trust", "init", "repo", "--keys", "keys", "--work", "4"]).ok();
    assert!(made.contains("staged root 1: 1 of 2 signatures") && !made.contains("published"), "{made}");
    stage.refused(&["verify", "tiny", "--root", "repo/staged/root.json", "--repository", "repo"], "too few");
    // The file travels alone.
    fs::rename(stage.path("repo/staged/root.json"), stage.path("elsewhere/root.json")).unwrap();
    let signed = stage.run(&["trust", "sign", "elsewhere/root.json", "--key", "elsewhere/root-2.age"]).ok();
    assert!(signed.contains("root 1, which expires") && signed.contains("has 2 signatures"), "{signed}");
    fs::rename(stage.path("elsewhere/root.json"), stage.path("repo/staged/root.json")).unwrap();
    let published = stage.trust(&["refresh", "repo"], &PUBLISH).ok();
    assert_eq!(published, "published 1.root.json, 1.targets.json, 1.snapshot.json, timestamp.json\n");
    assert!(fs::read_dir(stage.path("repo/staged")).unwrap().next().is_none());
    let only = stage.trust(&["refresh", "repo"], &["timestamp"]).ok();
    assert_eq!(only, "published timestamp.json\n");
    stage.refused(&["trust", "refresh", "repo", "--key", "keys/snapshot.age"], "timestamp is due");
    stage.refused(&["trust", "init", "repo", "--keys", "keys"], "is a repository already");
}

#[test]
fn keys_come_and_go() {
    let stage = Stage::approved();
    stage.run(&["trust", "key", "new", "keys/new.age", "--work", "4"]).ok();
    let verify = ["verify", "tiny", "--root", "repo/metadata/1.root.json", "--repository", "repo"];
    // A root key goes, another comes: the old threshold and the new one sign.
    let rotate = ["rotate", "repo", "root", "--add", "keys/new.pub.json", "--remove", "keys/root-1.pub.json"];
    let waits = stage.trust(&rotate, &["root-1", "snapshot", "timestamp"]).ok();
    assert!(waits.contains("staged root 2: 0 of 2 signatures"), "{waits}");
    for key in ["root-2", "new"] {
        stage.trust(&["sign", "repo/staged/root.json"], &[key]).ok();
    }
    assert!(stage.trust(&["refresh", "repo"], &PUBLISH).ok().contains("2.root.json"));
    assert!(stage.run(&verify).ok().contains("approved: root 2"));
    // Another key for targets: what they approve is signed anew.
    let rotate =
        ["rotate", "repo", "targets", "--add", "keys/new.pub.json", "--remove", "keys/targets.pub.json"];
    let done = stage.trust(&rotate, &["root-2", "new", "snapshot", "timestamp"]).ok();
    assert!(done.contains("3.root.json, 3.targets.json"), "{done}");
    assert!(stage.run(&verify).ok().contains("approved: root 3, targets 3"));
    stage.refused(
        &["trust", "rotate", "repo", "targets", "--remove", "ffffff"],
        "targets has no key ffffff; it has",
    );
    let renewed = stage.trust(&["refresh", "repo", "--renew", "targets"], &["new", "snapshot", "timestamp"]);
    assert!(renewed.ok().contains("4.targets.json"));
}

#[test]
fn a_team_has_its_models_and_somebody_assigns() {
    let stage = Stage::packed();
    stage.run(&["trust", "init", "repo", "--keys", "keys", "--work", "4"]).ok();
    for name in ["keys/team.age", "keys/assigner.age"] {
        stage.run(&["trust", "key", "new", name, "--work", "4"]).ok();
    }
    let all = ["targets", "team", "snapshot", "timestamp"];
    stage
        .trust(&["delegate", "repo", "team-a", "--paths", "models/t*/*", "--add", "keys/team.pub.json"], &all)
        .ok();
    stage.trust(&["add", "repo", "tiny", "--role", "team-a"], &["team", "snapshot", "timestamp"]).ok();
    let shown = stage.run(&["trust", "show", "repo"]).ok();
    assert!(shown.contains("team-a, trusted with models/t*/*, approves\n  models/tiny/7"), "{shown}");
    let verify = ["verify", "tiny", "--root", "repo/metadata/1.root.json", "--repository", "repo"];
    stage.run(&verify).ok();

    let assign = ["assign", "repo", "--node", "pump-1", "--model", "tiny:7"];
    stage.refused(
        &["trust", "assign", "repo", "--node", "pump-1", "--model", "tiny:7"],
        "nobody may assign yet",
    );
    let key = ["--add", "keys/assigner.pub.json"];
    let delegate = [&["delegate", "repo", "assignments"][..], &key].concat();
    stage.trust(&delegate, &["targets", "assigner", "snapshot", "timestamp"]).ok();
    let first = stage.trust(&assign, &["assigner"]).ok();
    assert!(first.ends_with(": version 1, tiny:7 for node pump-1\n"), "{first}");
    assert!(stage.trust(&assign, &["assigner"]).ok().contains("version 2"));
    let part = ["assign", "repo", "--label", "site=oslo", "--ring", "0..64", "--model", "tiny:7"];
    assert!(stage.trust(&part, &["assigner"]).ok().contains("for site=oslo, ring 0..64"));
    stage.refused(
        &["trust", "assign", "repo", "--node", "pump-1", "--model", "tiny:8", "--key", "keys/assigner.age"],
        "tiny:8 is not approved",
    );
    assert_eq!(stage.trust(&assign, &["team"]).code, Some(2), "another key is none");
    accepted(&stage);
    let exported = stage.run(&["export", "tiny", "--usb", "stick.tar", "--with-trust", "repo"]).ok();
    assert!(exported.contains("files of trust"), "{exported}");
    let carried = archive::contents(&mut fs::File::open(stage.path("stick.tar")).unwrap()).unwrap();
    let assignments = carried.keys().filter(|name| matches!(name, archive::Name::Assignment(_)));
    assert_eq!(assignments.count(), 2, "a node is fed whole");
}

/// A node that follows the repository accepts the assignment that is for it.
fn accepted(stage: &Stage) {
    use forge::repository::{follow, metadata_in};
    use package::trust::Policy;
    use package::trust::assignment::{NodeFacts, accept};
    use package::trust::update::Want;
    use wire::world::{Clock as _, System};

    let (repo, policy, now_ms) = (stage.path("repo"), Policy::default(), System::new().wall_ms());
    let root = fs::read(repo.join("metadata/1.root.json")).unwrap();
    let want = Want::Target("models/tiny/7".to_owned());
    let fetch =
        |file: &package::trust::metadata::FileName, max_bytes: u64| metadata_in(&repo, file, max_bytes);
    let followed = follow(&root, &policy, want, now_ms, fetch).unwrap();
    let labels = std::collections::BTreeMap::new();
    let facts = wire::facts::Facts::default();
    let node = |name| NodeFacts { name, labels: &labels, facts: &facts };
    let documents: Vec<Vec<u8>> = fs::read_dir(repo.join("assignments"))
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    let holds = |name| {
        let all =
            documents.iter().filter_map(|it| accept(&followed.trusted, &policy, it, node(name), now_ms).ok());
        all.map(|accepted| accepted.assignment.head.version).collect::<Vec<u64>>()
    };
    assert_eq!((holds("pump-1"), holds("pump-2")), (vec![2], vec![]));
}
