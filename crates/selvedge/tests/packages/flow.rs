//! From files to a stick: packed, looked at, signed, approved, exported, verified.

use std::process::Command;
use std::time::Duration;

use kernels::format::Format;
use lm::specimen::{LEAST_VOCABULARY, Specimen};

use crate::stage::{Stage, files};

#[test]
fn packing_twice_gives_the_same_bytes() {
    let stage = Stage::packed();
    stage.pack("7", "again").ok();
    let (first, again) = (files(&stage.path("tiny")), files(&stage.path("again")));
    assert!(first == again && first.len() > 10);
    for name in ["one.tar", "two.tar"] {
        stage.pack("7", name).ok();
    }
    assert!(std::fs::read(stage.path("one.tar")).unwrap() == std::fs::read(stage.path("two.tar")).unwrap());
    stage.refused(
        &["pack", "full.gguf", "--model", "tiny", "--release", "7", "-o", "tiny"],
        "--force replaces it",
    );
    stage.run(&["pack", "full.gguf", "--model", "tiny", "--release", "8", "-o", "tiny", "--force"]).ok();
    // What is no package is never replaced.
    std::fs::create_dir(stage.path("mine")).unwrap();
    stage.write("mine/letter", "dear");
    stage.refused(
        &["pack", "full.gguf", "--model", "tiny", "--release", "8", "-o", "mine", "--force"],
        "mine is no package",
    );
    assert!(stage.path("mine/letter").exists());
    let left = std::fs::read_dir(stage.path("")).unwrap();
    let left =
        left.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".partial"));
    assert_eq!(left.count(), 0, "nothing half is left");
}

#[test]
fn a_package_says_what_it_is() {
    let stage = Stage::packed();
    let text = stage.run(&["inspect", "tiny"]).ok();
    for expected in
        ["tiny release 7", "licence  Apache-2.0", "perplexity", "2 golden answers", "nobody says who made it"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let found = stage.run(&["inspect", "tiny", "--json"]).json();
    let variants = &found["releases"][0]["variants"];
    let names: Vec<&str> =
        variants.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"f32") && names.contains(&"q8_0"), "{names:?}");
    let fit = stage.run(&["fit", "full.gguf", "--context", "512", "--json"]).json();
    let full = variants.as_array().unwrap().iter().find(|it| it["name"] == "f32").unwrap();
    assert_eq!(full["requires"]["ram_bytes"], fit[0]["needed_bytes"], "one reckoning");
    assert_eq!(full["config"]["config"]["quantization"], "F32");
    let measured = stage.run(&["perplexity", "full.gguf", "text.txt", "--json"]).json();
    let (measured, said) = (&measured["perplexity"], &full["quality"]["value"]);
    assert!((measured.as_f64().unwrap() - said.as_f64().unwrap()).abs() < 1e-4, "{measured} {said}");

    stage.write("quality.json", r#"{"f32":{"metric":"f1","value":0.75,"better":"higher","on":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}}"#);
    let given = [
        "pack",
        "--variant",
        "f32=full.gguf",
        "--model",
        "tiny",
        "--release",
        "8",
        "--quality-json",
        "quality.json",
    ];
    let given = stage.run(&[&given[..], &["-o", "given", "--json"]].concat()).json();
    assert_eq!(given["variants"][0]["quality"]["value"], 0.75);
}

#[test]
fn from_files_to_a_stick() {
    let stage = Stage::packed();
    let new = ["trust", "key", "new", "maker.age", "--kind", "ecdsa-p256", "--work", "4"];
    assert!(stage.run(&new).ok().contains("maker.pub.json"));
    stage.refused(&new, "a key is never overwritten");
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(stage.path("maker.age")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let signed = stage.run(&["sign", "tiny", "--provenance", "maker.age"]).ok();
    assert!(signed.starts_with("signed 2 variants of tiny:7"), "{signed}");
    let again = stage.run(&["sign", "tiny", "--provenance", "maker.age"]).ok();
    assert!(again.contains("nothing changed") && again.lines().nth(1) == signed.lines().nth(1), "{again}");
    for key in ["maker.pub.pem", "maker.pub.json"] {
        let proven = stage.run(&["verify", "tiny", "--provenance", key]).ok();
        assert_eq!(proven.matches("signed by this maker").count(), 2, "{proven}");
    }

    let made = stage.run(&["trust", "init", "repo", "--keys", "keys", "--work", "4"]).ok();
    assert!(made.contains("1.root.json is what nodes are handed"), "{made}");
    let added = stage.trust(&["add", "repo", "tiny"], &["targets", "snapshot", "timestamp"]).ok();
    assert_eq!(added, "published 2.targets.json, 2.snapshot.json, timestamp.json\n");
    let shown = stage.run(&["trust", "show", "repo"]).ok();
    assert!(shown.contains("targets approves\n  models/tiny/7 ") && shown.contains("2 of 3"), "{shown}");
    let root = ["--root", "repo/metadata/1.root.json"];
    let all = ["verify", "tiny", "--provenance", "maker.pub.pem", "--repository", "repo"];
    let found = stage.run(&[&all[..], &root[..], &["--json"]].concat()).json();
    assert_eq!((found["ok"].as_bool(), found["holds"].as_array().unwrap().len()), (Some(true), 4), "{found}");

    let exported = stage.run(&["export", "tiny", "--usb", "stick.tar", "--with-trust", "repo"]).ok();
    assert!(exported.contains("tiny:7") && exported.contains("files of trust"), "{exported}");
    let found = stage.run(&[&["verify", "stick.tar"][..], &root[..]].concat()).ok();
    assert!(found.contains("tiny:7 is approved: root 1, targets 2, timestamp 2"), "{found}");
    assert!(stage.run(&["inspect", "stick.tar"]).ok().contains("signed by who made it"));

    stage.run(&["export", "stick.tar", "--files", "plain"]).ok();
    let same = |name: &str, model: &str| {
        std::fs::read(stage.path(name)).unwrap() == std::fs::read(stage.path(model)).unwrap()
    };
    assert!(same("plain/f32/full.gguf", "full.gguf") && same("plain/q8_0/small.gguf", "small.gguf"));
    for file in
        ["plain/f32/README.md", "plain/f32/bom.cdx.json", "plain/f32/golden.json", "plain/f32.sigstore.json"]
    {
        assert!(stage.path(file).exists(), "{file}");
    }
    let bom: serde_json::Value =
        serde_json::from_slice(&std::fs::read(stage.path("plain/f32/bom.cdx.json")).unwrap()).unwrap();
    assert_eq!(bom["metadata"]["component"]["type"], "machine-learning-model");
}

#[test]
fn who_ends_it_half_way_finds_nothing_half() {
    let stage = Stage::new();
    let (width, feed_forward, vocabulary) = (1_024, 4_096, LEAST_VOCABULARY);
    let big = Specimen { width, feed_forward, vocabulary, layers: 1, format: Format::F32, ..Specimen::SMALL };
    big.write(&mut std::fs::File::create(stage.path("big.gguf")).unwrap()).unwrap();
    for (signal, output) in [("-INT", "big"), ("-TERM", "big.tar")] {
        let words = ["pack", "big.gguf", "--model", "big", "--release", "1", "-o", output];
        let mut child = stage.command(&words).spawn().unwrap();
        let partial = stage.path(&format!(".{output}.{}.partial", child.id()));
        while !partial.exists() {
            assert_eq!(child.try_wait().unwrap(), None, "it ended before it began to write");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        assert!(!partial.exists() && !stage.path(output).exists(), "{signal}");
    }
}
