//! Documents in which two readers could see two meanings, rightly signed all the same.

use package::trust::update::UpdateError;

use crate::simulator::{Client, Repo};

#[test]
fn signed_but_ambiguous() {
    for (what, from, to) in [
        ("a name twice", r#""version":1"#, r#""version":1,"version":1"#),
        ("a name twice, escaped", r#""version":1"#, r#""version":1,"\u0076ersion":1"#),
        ("a fraction", r#""version":1"#, r#""version":1.0"#),
        ("an exponent", r#""version":1"#, r#""version":1e0"#),
        ("a huge number", r#""version":1"#, r#""version":100000000000000000000"#),
        ("half a pair", r#""version":1"#, r#""x":"\ud800","version":1"#),
        ("behind the end", "}", "}\u{0}"),
        ("deep", r#""version":1"#, &format!(r#""x":{},"version":1"#, "[".repeat(200))),
    ] {
        let mut repo = Repo::new();
        let text = String::from_utf8(repo.files["timestamp.json"].clone()).unwrap();
        assert!(text.contains(from), "{what}");
        let at = text.rfind(from).unwrap();
        let changed = format!("{}{to}{}", &text[..at], &text[at + from.len()..]);
        repo.files.insert("timestamp.json".into(), changed.into_bytes());
        let mut client = Client::of(&repo);
        let error = client.refresh(&mut repo).unwrap_err();
        let UpdateError::Verify { source, .. } = &error else { panic!("{what}: {error}") };
        assert!(source.to_string().contains("cannot be read"), "{what}: {source}");
    }
}

#[test]
fn white_space_and_escapes_do_not_matter() {
    let mut repo = Repo::new();
    let text = String::from_utf8(repo.files["timestamp.json"].clone()).unwrap();
    let spaced = text.replace(',', " ,\n\t").replace("snapshot.json", "snap\\u0073hot.json");
    repo.files.insert("timestamp.json".into(), spaced.into_bytes());
    Client::of(&repo).refresh(&mut repo).unwrap();
}
