//! Roles with names that would leave the folder, if they were used as they are.

use package::trust::update::{Outcome, Want};

use crate::simulator::{Client, Repo};

#[test]
fn unusual_role_names() {
    for (name, file) in [
        ("?", "1.%3F.json"),
        ("#", "1.%23.json"),
        ("/delegatedrole", "1.%2Fdelegatedrole.json"),
        ("../delegatedrole", "1...%2Fdelegatedrole.json"),
        ("..", "1.%2E%2E.json"),
        ("a b\u{e9}", "1.a%20b%C3%A9.json"),
    ] {
        let mut repo = Repo::new();
        repo.delegate("targets", name, &["*"], false);
        repo.publish(&[name, "targets", "snapshot", "timestamp"]);
        let mut client = Client::of(&repo);
        assert_eq!(client.run(&mut repo, Want::Target("missing".into())), Outcome::NoTarget);
        assert_eq!(repo.asked.last().unwrap(), file);
        assert!(client.trusted.delegated.keys().any(|role| role.as_str() == name));
    }
}
