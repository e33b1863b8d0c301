//! A folder of pictures: each looked at once, over restarts; what is broken is told; what becomes of each.

use std::fs;
use std::path::Path;

use net::picture::Picture;
use wire::hash::Hash;

use crate::stand::{BRIGHT, folder, records, run, source, until};

fn flow(more: &str) -> String {
    format!("[source.eye]\ntype = \"images\"\nfolder = \"uploads\"\nevery = \"20ms\"\n{more}\n{BRIGHT}")
}

/// A picture of 20×10 pixels of one brightness; returns its file's bytes.
fn put(dir: &Path, name: &str, brightness: u8) -> Vec<u8> {
    let bytes = Picture::new(20, 10, vec![brightness; 600]).unwrap().png().unwrap();
    // As a camera uploads: under the name that counts from the first byte on.
    fs::write(dir.join("uploads").join(name), &bytes).unwrap();
    bytes
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn each_picture_is_looked_at_once_and_records_have_its_digest_and_nothing_of_it() {
    let dir = folder(&flow(""));
    fs::create_dir(dir.path().join("uploads")).unwrap();
    let dark = put(dir.path(), "a.png", 40);
    let node = run(dir.path());
    until("the first picture", || source(&node).readings == 1);
    let bright = put(dir.path(), "b.png", 200);
    fs::write(dir.path().join("uploads/c.jpg"), b"half an upload").unwrap();
    fs::write(dir.path().join("uploads/notes.txt"), b"no picture").unwrap();
    until("the second picture", || source(&node).readings == 2 && source(&node).refused == 1);
    assert_eq!(source(&node).values["brightness"].as_f64().map(f64::round), Some(200.0));
    // What is in the journal is remembered a moment later; a node that stops before looks again.
    let remembered = || fs::read_to_string(dir.path().join("data/sources/eye.seen")).unwrap_or_default();
    until("what is remembered", || remembered().lines().count() == 3);
    node.stop().unwrap();

    let answers = records(dir.path(), "inferences");
    let told: Vec<_> = answers
        .iter()
        .map(|answer| (answer["fields"]["label"].as_str().unwrap(), answer["input"].as_str().unwrap()))
        .collect();
    let digest = |bytes: &[u8]| Hash::of(bytes).to_string();
    assert_eq!(told, [("dark", digest(&dark).as_str()), ("bright", digest(&bright).as_str())]);
    assert_eq!(answers[1]["model"]["variant"], "network tract pictures hop=1");
    let decisions = records(dir.path(), "decisions");
    assert_eq!((decisions.len(), &decisions[0]["input"]), (1, &answers[1]["input"]), "{decisions:?}");
    assert_eq!(decisions[0]["model"]["name"], "light");
    let events = records(dir.path(), "events");
    assert!(
        events.iter().any(|event| event["reason"].as_str().is_some_and(|why| why.contains("\"c.jpg\""))),
        "{events:?}"
    );
    for entry in fs::read_dir(dir.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let held = fs::read(&path).unwrap();
            let has = |bytes: &[u8]| {
                held.windows(32).any(|window| window == &bytes[bytes.len() - 44..bytes.len() - 12])
            };
            assert!(!has(&bright) && !has(&dark), "{} has a picture in it", path.display());
        }
    }

    // Another life looks at what is new alone; what was uploaded again under the same name is.
    let node = run(dir.path());
    put(dir.path(), "d.png", 60);
    until("the new picture", || source(&node).readings == 1);
    put(dir.path(), "a.png", 210);
    until("the picture that was written anew", || source(&node).readings == 2);
    node.stop().unwrap();
    assert_eq!(records(dir.path(), "inferences").len(), 4);
    assert_eq!(names(&dir.path().join("uploads")), ["a.png", "b.png", "c.jpg", "d.png", "notes.txt"]);
}

#[test]
fn pictures_are_moved_or_removed_once_they_are_in_the_journal_and_broken_ones_stay() {
    for (after, left) in
        [("after = \"move\"\nto = \"seen\"", vec!["a.png", "b.png"]), ("after = \"delete\"", vec![])]
    {
        let dir = folder(&flow(after));
        let uploads = dir.path().join("uploads");
        fs::create_dir(&uploads).unwrap();
        let node = run(dir.path());
        put(dir.path(), "a.png", 40);
        put(dir.path(), "b.png", 50);
        fs::write(uploads.join("z.png"), b"\x89PNG, and no more").unwrap();
        until("the folder to be cleared", || names(&uploads) == ["z.png"]);
        assert_eq!((source(&node).readings, source(&node).refused), (2, 1));
        node.stop().unwrap();
        let seen = dir.path().join("seen");
        assert_eq!(if seen.exists() { names(&seen) } else { Vec::new() }, left);
        assert_eq!(
            records(dir.path(), "readings.eye")
                .iter()
                .map(|it| it["t_ms"].as_array().unwrap().len())
                .sum::<usize>(),
            2
        );
    }
}

#[test]
fn more_pictures_than_wait_at_once_are_all_looked_at_and_a_folder_that_is_gone_is_tried_again() {
    let dir = folder(&flow(""));
    let node = run(dir.path());
    until("the trouble", || source(&node).state == "failed");
    assert!(source(&node).reason.contains("uploads cannot be read"), "{}", source(&node).reason);
    fs::create_dir(dir.path().join("uploads")).unwrap();
    for at in 0..200u8 {
        put(dir.path(), &format!("{at:03}.png"), at);
    }
    until("all pictures", || source(&node).readings == 200);
    assert_eq!(source(&node).values["dropped"].as_f64(), Some(0.0));
    node.stop().unwrap();
}

#[test]
fn a_first_look_may_leave_alone_what_is_there() {
    let dir = folder(&flow("from = \"now\""));
    fs::create_dir(dir.path().join("uploads")).unwrap();
    put(dir.path(), "old.png", 40);
    let node = run(dir.path());
    until("the first look", || source(&node).state == "running");
    until("what is remembered", || dir.path().join("data/sources/eye.seen").exists());
    put(dir.path(), "new.png", 220);
    until("the new picture", || source(&node).readings == 1);
    assert_eq!(source(&node).values["brightness"].as_f64().map(f64::round), Some(220.0));
    node.stop().unwrap();
}
