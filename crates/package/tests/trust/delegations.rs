//! The search below the top-level targets: its order, its limits, and whose word counts for a path.

use package::trust::canonical::Value;
use package::trust::update::{Outcome, UpdateError, Want};

use crate::simulator::{Client, Repo};

/// Delegations as `from, to, pattern, terminating`.
type Graph<'a> = &'a [(&'a str, &'a str, &'a str, bool)];

fn publish(graph: Graph<'_>) -> Repo {
    let mut repo = Repo::new();
    let mut roles = Vec::new();
    for (from, to, pattern, terminating) in graph {
        repo.delegate(from, to, &[pattern], *terminating);
        if !roles.contains(to) {
            roles.push(*to);
        }
    }
    // A role that two delegate to is signed with both keys.
    roles.extend(["targets", "snapshot", "timestamp"]);
    repo.publish(&roles);
    repo
}

#[test]
fn graph_traversal() {
    let cases: [(Graph<'_>, &[&str]); 12] = [
        (&[("targets", "A", "*", false)], &["A"]),
        (&[("targets", "A", "*", false), ("targets", "B", "*", false)], &["A", "B"]),
        (
            &[("targets", "A", "*", false), ("targets", "B", "*", false), ("B", "C", "*", false)],
            &["A", "B", "C"],
        ),
        (
            &[
                ("targets", "A", "*", false),
                ("targets", "B", "*", false),
                ("A", "C", "*", false),
                ("A", "D", "*", false),
            ],
            &["A", "C", "D", "B"],
        ),
        (
            &[
                ("targets", "A", "*", false),
                ("targets", "B", "*", false),
                ("A", "C", "*", false),
                ("C", "D", "*", false),
            ],
            &["A", "C", "D", "B"],
        ),
        (
            &[
                ("targets", "A", "*", false),
                ("targets", "B", "*", false),
                ("A", "C", "*", true),
                ("A", "D", "*", false),
            ],
            &["A", "C"],
        ),
        (
            &[
                ("targets", "A", "*", false),
                ("targets", "B", "*", false),
                ("A", "C", "*", true),
                ("C", "D", "*", false),
            ],
            &["A", "C", "D"],
        ),
        (&[("targets", "A", "*.py", false), ("targets", "B", "*", false), ("A", "C", "*", false)], &["B"]),
        (
            &[
                ("targets", "A", "*", false),
                ("targets", "B", "*", false),
                ("A", "C", "*.py", false),
                ("C", "D", "*", false),
            ],
            &["A", "B"],
        ),
        (
            &[
                ("targets", "A", "*", false),
                ("targets", "B", "*", false),
                ("B", "C", "*", false),
                ("C", "D", "*", false),
                ("D", "B", "*", false),
            ],
            &["A", "B", "C", "D"],
        ),
        (
            &[
                ("targets", "A", "*", false),
                ("targets", "B", "*", false),
                ("B", "C", "*", false),
                ("A", "C", "*", false),
            ],
            &["A", "C", "B"],
        ),
        (
            &[
                ("targets", "A", "*", false),
                ("targets", "B", "*", false),
                ("B", "C", "*", false),
                ("A", "C", "*.py", false),
            ],
            &["A", "B", "C"],
        ),
    ];
    for (graph, expected) in cases {
        let mut repo = publish(graph);
        let mut client = Client::of(&repo);
        let outcome = client.run(&mut repo, Want::Target("missing".into()));
        assert_eq!(outcome, Outcome::NoTarget, "{graph:?}");
        let expected: Vec<String> = expected.iter().map(|role| format!("1.{role}.json")).collect();
        assert_eq!(repo.asked[4..], expected, "{graph:?}");
    }
}

#[test]
fn targetfile_search() {
    let graph: Graph<'_> = &[
        ("targets", "A", "*.doc", false),
        ("targets", "B", "releases/*/*", false),
        ("B", "C", "releases/x/*", false),
        ("B", "D", "releases/y/*.zip", false),
    ];
    for (role, path, asked) in [
        ("targets", "targetfile", Some(vec![])),
        ("A", "README.doc", Some(vec!["A"])),
        ("A", "releases/README.doc", None),
        ("A", "README.DOC", None),
        ("C", "releases/x/x_v1", Some(vec!["B", "C"])),
        ("D", "releases/y/y_v1.zip", Some(vec!["B", "D"])),
        ("D", "releases/z/z_v1.zip", None),
    ] {
        let mut repo = publish(graph);
        repo.add_target(role, path, path.as_bytes());
        repo.publish(&["A", "B", "C", "D", "targets", "snapshot", "timestamp"]);
        let mut client = Client::of(&repo);
        match (client.run(&mut repo, Want::Target(path.into())), asked) {
            (Outcome::Target(found), Some(asked)) => {
                assert!(found.check(path.as_bytes()).is_ok(), "{path}");
                let asked: Vec<String> = asked.iter().map(|role| format!("2.{role}.json")).collect();
                assert_eq!(repo.asked[4..], asked, "{path}");
            }
            (Outcome::NoTarget, None) => {}
            (outcome, _) => panic!("{path}: {outcome:?}"),
        }
    }
}

#[test]
fn a_cached_role_is_verified_against_its_current_delegator() {
    let mut repo = Repo::new();
    repo.delegate("targets", "parent-a", &["team-a/*"], false);
    repo.delegate("targets", "parent-b", &["team-b/*"], false);
    repo.delegate("parent-a", "release", &["team-a/*"], false);
    repo.delegate("parent-b", "release", &["team-b/*"], false);
    // Signed for A only.
    repo.signers.get_mut("release").unwrap().pop();
    repo.add_target("release", "team-a/x", b"trusted");
    repo.add_target("release", "team-b/x", b"malicious");
    repo.publish(&["release", "parent-a", "parent-b", "targets", "snapshot", "timestamp"]);
    let mut client = Client::of(&repo);
    let first = client.run(&mut repo, Want::Target("team-a/x".into()));
    assert!(matches!(first, Outcome::Target(_)), "{first:?}");
    let second = client.run(&mut repo, Want::Target("team-b/x".into()));
    assert!(matches!(second, Outcome::Failed(UpdateError::Verify { .. })), "{second:?}");
}

#[test]
fn a_delegated_role_that_the_snapshot_does_not_list() {
    let mut repo = publish(&[("targets", "A", "models/*", false)]);
    repo.field("snapshot", &["meta"]).as_object_mut().unwrap().remove("A.json");
    repo.publish(&["snapshot", "timestamp"]);
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    repo.asked.clear();
    let outcome = client.run(&mut repo, Want::Target("models/x".into()));
    assert!(matches!(outcome, Outcome::Failed(UpdateError::NotInSnapshot { .. })), "{outcome:?}");
    assert_eq!(repo.asked, ["2.root.json", "timestamp.json"]);
}

#[test]
fn a_role_may_not_name_what_was_not_delegated_to_it() {
    let mut repo = publish(&[("targets", "A", "models/a/*", false)]);
    repo.add_target("A", "models/b/1", b"stolen");
    repo.publish(&["A", "targets", "snapshot", "timestamp"]);
    let mut client = Client::of(&repo);
    assert_eq!(client.run(&mut repo, Want::Target("models/b/1".into())), Outcome::NoTarget);
    assert_eq!(repo.asked.len(), 4);
}

#[test]
fn a_search_has_an_end() {
    let names: Vec<String> = (0..50).map(|n| format!("r{n}")).collect();
    let graph: Vec<(&str, &str, &str, bool)> =
        names.iter().map(|name| ("targets", name.as_str(), "*", false)).collect();
    let mut repo = publish(&graph);
    let mut client = Client::of(&repo);
    assert_eq!(client.run(&mut repo, Want::Target("missing".into())), Outcome::NoTarget);
    assert_eq!(repo.asked.len(), 4 + 32);
}

#[test]
fn delegations_of_a_wrong_form_are_refused() {
    let check = |change: &dyn Fn(&mut Value), why: &str| {
        let mut repo = publish(&[("targets", "A", "*", false)]);
        change(repo.field("targets", &["delegations"]));
        repo.publish(&["targets", "snapshot", "timestamp"]);
        let mut client = Client::of(&repo);
        let UpdateError::Verify { source, .. } = client.refresh(&mut repo).unwrap_err() else { panic!() };
        let source = std::error::Error::source(&source).unwrap().to_string();
        assert!(source.contains(why), "{source}");
    };
    fn role(delegations: &mut Value) -> &mut std::collections::BTreeMap<String, Value> {
        let Value::List(roles) = delegations.as_object_mut().unwrap().get_mut("roles").unwrap() else {
            panic!()
        };
        roles[0].as_object_mut().unwrap()
    }
    check(&|all| drop(role(all).insert("name".into(), "targets".into())), "name of a delegated role");
    check(&|all| drop(role(all).insert("name".into(), "a\0".into())), "name of a delegated role");
    check(&|all| drop(role(all).insert("threshold".into(), 0u64.into())), "threshold");
    check(&|all| drop(role(all).insert("path_hash_prefixes".into(), Value::List(vec![]))), "not both");
    check(&|all| drop(role(all).remove("paths")), "not both");
    check(
        &|all| drop(all.as_object_mut().unwrap().insert("succinct_roles".into(), Value::Null)),
        "not supported",
    );
}
