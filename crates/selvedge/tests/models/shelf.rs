//! `show`, `ls`, `import`, `rm`, `fit`, `bench`: which models are here, what they are and need.

use crate::stage::Stage;

#[test]
fn a_model_comes_is_listed_and_goes() {
    let stage = Stage::new();
    let mut seen = vec![stage.run(&["ls"]).ok()];
    seen.push(stage.run(&["import", "--link", "tiny.gguf"]).ok());
    seen.push(stage.run(&["import", "plain.gguf", "--name", "own/plain"]).ok());
    seen.push(stage.run(&["ls"]).ok());
    let (code, error) = stage.run(&["import", "plain.gguf", "--name", "own/plain"]).failed();
    assert!(code == Some(1) && error.contains("there is already a model own/plain"), "{error}");
    let (code, error) = stage.run(&["run", "tinny", "x"]).failed();
    assert!(code == Some(1) && error.contains("did you mean tiny"), "{error}");
    assert_eq!(stage.run(&["tokenize", "own/plain", "the", "--count"]).ok(), "1\n");
    let listed = stage.run(&["ls", "--json"]).json();
    assert_eq!(listed["models"].as_array().unwrap().len(), 2);
    std::fs::remove_file(stage.path("tiny.gguf")).unwrap();
    seen.push(stage.run(&["ls"]).ok());
    let (_, error) = stage.run(&["run", "tiny", "x"]).failed();
    assert!(error.contains("the file of tiny is gone"), "{error}");
    let (_, error) = stage.run(&["rm", "own/plain", "nothing"]).failed();
    assert!(error.contains("\"nothing\""), "{error}");
    assert_eq!(
        stage.run(&["ls", "--json"]).json()["models"].as_array().unwrap().len(),
        2,
        "none of them is removed"
    );
    seen.push(stage.run(&["rm", "tiny", "own/plain"]).ok());
    seen.push(stage.run(&["ls"]).ok());
    insta::assert_snapshot!("shelf", stage.tidy(&seen.join("---\n")));
}

#[test]
fn a_model_shows_what_it_is() {
    let stage = Stage::new();
    insta::assert_snapshot!("show", stage.run(&["show", "tiny.gguf", "--context", "64"]).ok());
    insta::assert_snapshot!("show-metadata", stage.run(&["show", "tiny.gguf", "--metadata"]).ok());
    let tensors = stage.run(&["show", "plain.gguf", "--tensors"]).ok();
    assert_eq!(tensors.lines().count(), 1 + 21, "{tensors}");
    assert!(stage.run(&["show", "tiny.gguf", "--template"]).ok().starts_with("{% for message"));
    let (code, error) = stage.run(&["show", "plain.gguf", "--template"]).failed();
    assert!(code == Some(1) && error.contains("no chat template"), "{error}");
    let page = stage.run(&["show", "plain.gguf", "--json"]).json();
    assert_eq!((&page["family"], &page["chat"]["template"]), (&"llama".into(), &false.into()));
    assert_eq!(page["shape"]["kv_heads"], 2);
    assert!(page["memory"][0]["q8_0_bytes"].as_u64() < page["memory"][0]["f16_bytes"].as_u64());
}

#[test]
fn what_fits_is_named_best_first() {
    let stage = Stage::new();
    stage.run(&["quantize", "plain.gguf", "small.gguf", "q8_0"]).ok();
    let words = ["fit", "small.gguf", "plain.gguf", "--memory", "3MB", "--context", "64"];
    insta::assert_snapshot!("fit", stage.run(&words).ok());
    let rows = stage.run(&[&words[..], &["--json"]].concat()).json();
    let verdicts: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| row["verdict"]["verdict"].clone()).collect();
    assert_eq!(verdicts, ["fits", "too_large"]);
    let measured = stage.run(&["fit", "small.gguf", "--measure", "--json"]).json();
    assert!(measured[0]["speed"]["answer"]["median"].as_f64().unwrap() > 0.0, "{measured}");
}

#[test]
fn speeds_are_measured() {
    let stage = Stage::new();
    let quick =
        ["bench", "tiny.gguf", "--prompt", "16", "--answer", "4", "--repetitions", "2", "--threads", "1,2"];
    let report = stage.run(&[&quick[..], &["--json"]].concat()).json();
    let speeds = report[0]["speeds"].as_array().unwrap();
    assert_eq!(speeds.iter().map(|speed| speed["threads"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    for speed in speeds {
        for what in ["prompt", "answer"] {
            let at = |key: &str| speed[what][key].as_f64().unwrap();
            assert!(
                0.0 < at("least") && at("least") <= at("median") && at("median") <= at("most"),
                "{speed}"
            );
        }
        let share = |of: &str| speed[of].as_f64().unwrap();
        assert!(share("prompt_share") > 0.0 && share("answer_share") > 0.0, "{speed}");
    }
    // Every matrix but the embedding: 7 of each layer, and the output.
    assert_eq!(report[0]["kernels"][0][1], 15);
    let table = stage.run(&quick).ok();
    assert!(table.contains("prompt of 16") && table.contains("answer of 4"), "{table}");
    assert!(table.contains("at most, on 2 threads:"), "{table}");
    // The line of kernels is as long as they are many.
    let lines = table.lines().filter(|line| !line.starts_with("kernels"));
    assert!(lines.map(|line| line.chars().count()).all(|width| width <= 100), "{table}");
    let without = stage.run(&[&quick[..], &["--no-limits"]].concat()).ok();
    assert!(!without.contains("at most, on"), "{without}");
    let (code, _) = stage.run(&["bench"]).failed();
    assert_eq!(code, Some(2));
    assert!(stage.run(&["bench", "detect", "--help"]).ok().contains("--nab"));
}
