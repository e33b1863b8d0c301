//! A folder of pictures: each looked at once, over restarts; what is broken is told; what becomes of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use net::picture::Picture;
use node::flow::Flow;
use node::play::play;
use node::source::pictures::folder::listed;
use serde_json::{Value, json};
use wire::hash::Hash;

use crate::light::{BRIGHT, folder};
use crate::stand::{records, run, source, until};

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

/// The marks of the files that a node remembers to have looked at.
fn remembered(dir: &Path) -> BTreeSet<u64> {
    let text = fs::read_to_string(dir.join("data/sources/eye.seen")).unwrap_or_default();
    text.lines().filter(|line| line.len() == 16).map(|line| u64::from_str_radix(line, 16).unwrap()).collect()
}

/// How often each picture was looked at, by its digest.
fn looks(dir: &Path) -> BTreeMap<String, usize> {
    let mut looks = BTreeMap::new();
    if dir.join("data").exists() {
        for answer in records(dir, "inferences") {
            *looks.entry(answer["input"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    looks
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
    node.stop().unwrap();
    assert_eq!(remembered(dir.path()).len(), 3);

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

/// A flow whose network records each look, at so many pictures together.
fn each(batch: usize) -> String {
    let network = format!("file = \"light.onnx\"\nrecord = \"each\"\nrecipe.batch = {batch}\n");
    flow("").replace("file = \"light.onnx\"\n", &network)
}

#[test]
fn pictures_that_are_played_say_the_same_together_as_alone() {
    let dir = folder("");
    fs::create_dir(dir.path().join("uploads")).unwrap();
    for at in 0..23u8 {
        put(dir.path(), &format!("{at:02}.png"), at * 11);
    }
    let played = |batch: usize| {
        let flow = Flow::parse(&dir.path().join("flow.toml"), each(batch).into());
        let flow = flow.unwrap_or_else(|errors| panic!("{errors}"));
        let mut told = Vec::new();
        play(&flow, 0, |_, pipeline, products| {
            assert_eq!(pipeline.foresight(0), if batch > 1 { batch + 1 } else { 0 });
            for product in products {
                let mut body: Value = serde_json::from_str(product.draft().body.get()).unwrap();
                // Runtimes add in another order.
                if let Some(p) = body.pointer_mut("/fields/p") {
                    *p = json!(p.as_f64().unwrap().round());
                }
                told.push(body);
            }
        })
        .unwrap();
        told
    };
    let alone = played(1);
    assert!(alone.len() > 23, "{alone:?}");
    for batch in [2, 5, 23] {
        assert_eq!(played(batch), alone);
    }
}

#[test]
fn a_node_that_stops_looks_at_no_picture_twice_and_at_none_not_at_all() {
    let dir = folder(&each(4));
    fs::create_dir(dir.path().join("uploads")).unwrap();
    let mut made = BTreeSet::new();
    for life in 0..6u8 {
        for at in 0..30 {
            let bytes = put(dir.path(), &format!("{life}-{at:02}.png"), life * 30 + at);
            made.insert(Hash::of(&bytes).to_string());
        }
        let before: usize = looks(dir.path()).values().sum();
        let node = run(dir.path());
        // In the middle of what is under way, and the last one when all is done.
        let enough = if life == 5 { made.len() } else { before + 5 + usize::from(life) };
        until("pictures", || looks(dir.path()).values().sum::<usize>() >= enough);
        node.stop().unwrap();
        let (looks, remembered) = (looks(dir.path()), remembered(dir.path()));
        assert_eq!(looks.len(), remembered.len(), "what is in the journal is remembered, and nothing else");
        assert!(looks.values().all(|times| *times == 1), "{looks:?}");
    }
    assert_eq!(looks(dir.path()).into_keys().collect::<BTreeSet<_>>(), made);
}

/// Where the process of a node that is to be killed finds its folder.
const FOLDER: &str = "PICTURES_NODE";

/// Not a test: the process that [`a_node_that_is_killed_looks_again_at_what_it_did_not_remember_alone`] kills.
#[test]
fn a_node_to_be_killed() {
    let Some(dir) = std::env::var_os(FOLDER) else { return };
    let _node = run(Path::new(&dir));
    loop {
        std::thread::park();
    }
}

#[test]
fn a_node_that_is_killed_looks_again_at_what_it_did_not_remember_alone() {
    let dir = folder(&each(4));
    fs::create_dir(dir.path().join("uploads")).unwrap();
    let mut made = BTreeSet::new();
    let begin = || -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "folder::a_node_to_be_killed"])
            .env(FOLDER, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let all = || looks(dir.path()).values().sum::<usize>();
    let mut at_kills = Vec::new();
    for kill in 0..4u8 {
        for at in 0..60 {
            let bytes = put(dir.path(), &format!("{kill}-{at:02}.png"), kill * 60 + at);
            made.insert(Hash::of(&bytes).to_string());
        }
        let (before, known) = (all(), remembered(dir.path()).len());
        let mut node = begin();
        until("pictures", || all() >= before + 20);
        if kill % 2 == 1 {
            until("what is remembered", || remembered(dir.path()).len() > known);
        }
        node.kill().unwrap();
        node.wait().unwrap();
        let (remembered, looks) = (remembered(dir.path()), looks(dir.path()));
        let known = listed(&dir.path().join("uploads")).unwrap().into_iter();
        let known = known.filter(|entry| remembered.contains(&entry.mark()));
        for entry in known {
            let bytes = fs::read(dir.path().join("uploads").join(&entry.name)).unwrap();
            let digest = Hash::of(&bytes).to_string();
            let times = looks.get(&digest).copied().unwrap_or(0);
            assert!(times > 0, "{} is remembered, and in no record", entry.name);
            at_kills.push((digest, times));
        }
    }
    let node = run(dir.path());
    until("all pictures", || looks(dir.path()).len() == made.len());
    node.stop().unwrap();
    let looks = looks(dir.path());
    for (digest, times) in at_kills {
        assert_eq!(looks[&digest], times, "what was remembered was looked at again");
    }
    let twice = looks.values().filter(|times| **times > 1).count();
    println!("killed 4 times: {} pictures, none lost, {twice} looked at more than once", looks.len());
}

#[test]
fn a_folder_that_is_declared_anew_while_the_node_runs_is_looked_at_once() {
    let dir = folder(&each(1));
    fs::create_dir(dir.path().join("uploads")).unwrap();
    let put_more =
        |from: u8| (from..from + 30).for_each(|at| drop(put(dir.path(), &format!("{at:03}.png"), at)));
    put_more(0);
    let node = run(dir.path());
    for (at, every_ms) in (1..4).zip([21, 22, 23]) {
        let before: usize = looks(dir.path()).values().sum();
        put_more(at * 30);
        until("pictures", || looks(dir.path()).values().sum::<usize>() > before);
        let text = each(1).replace("every = \"20ms\"", &format!("every = \"{every_ms}ms\""));
        fs::write(dir.path().join("flow.toml"), text).unwrap();
        let _ = node.reload();
    }
    until("all pictures", || looks(dir.path()).len() == 120);
    node.stop().unwrap();
    let looks = looks(dir.path());
    assert!(looks.values().all(|times| *times == 1), "{looks:?}");
    assert_eq!(remembered(dir.path()).len(), 120);
}
