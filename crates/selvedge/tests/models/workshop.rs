//! `perplexity`, `imatrix`, `quantize`: a model is made smaller, and what that cost is measured.

use std::process::Command;
use std::time::Duration;

use kernels::format::Format;
use lm::specimen::{LEAST_VOCABULARY, Specimen};

use crate::stage::Stage;

#[test]
fn a_model_is_made_smaller_and_measured() {
    let stage = Stage::new();
    stage.write("text.txt", &"the pump runs. 9 pumps, 8 the pump? ".repeat(40));
    let words = ["perplexity", "plain.gguf", "text.txt", "--context", "64"];
    let figure = stage.run(&words).ok();
    assert!(figure.starts_with("perplexity ") && figure.contains("windows of 64 tokens"), "{figure}");
    let record = stage.run(&[&words[..], &["--json"]].concat()).json();
    let plain = record["perplexity"].as_f64().unwrap();
    let documents = stage.run(&["perplexity", "plain.gguf", "text.txt", "--documents", "?", "--json"]).json();
    assert_eq!(documents["documents"], 40);

    let made = stage.run(&["imatrix", "plain.gguf", "text.txt", "-o", "im.gguf", "--context", "64"]).ok();
    assert!(made.starts_with("wrote im.gguf: 14 matrices"), "{made}");
    let words = ["quantize", "plain.gguf", "q4.gguf", "q4_k_m", "--imatrix", "im.gguf", "--text", "text.txt"];
    let record = stage.run(&[&words[..], &["--json"]].concat()).json();
    assert!(
        record["bytes_after"].as_u64().unwrap() * 2 < record["bytes_before"].as_u64().unwrap(),
        "{record}"
    );
    let before = record["perplexity_before"]["perplexity"].as_f64().unwrap();
    let after = record["perplexity_after"]["perplexity"].as_f64().unwrap();
    assert!(before > 1.0 && plain > 1.0 && (after / before).ln().abs() < 0.5, "{before} {after}");
    assert!(!stage.run(&["run", "q4.gguf", "-n", "4", "the"]).ok().is_empty());
    insta::assert_snapshot!("quantize", stage.run(&["quantize", "plain.gguf", "q8.gguf", "Q8_0"]).ok());
}

#[test]
fn what_cannot_be_made_smaller_is_said() {
    let stage = Stage::new();
    stage.run(&["quantize", "plain.gguf", "q8.gguf", "q8_0"]).ok();
    let check = |words: &[&str], code: i32, expected: &str| {
        let (found, error) = stage.run(words).failed();
        assert!(found == Some(code) && error.contains(expected), "{words:?}: {found:?} {error}");
    };
    check(&["quantize", "q8.gguf", "q4.gguf", "q4_0"], 1, "--allow-requantize");
    assert!(!stage.path("q4.gguf").exists());
    check(&["quantize", "plain.gguf", "q8.gguf", "q4_0"], 1, "--force replaces it");
    check(&["quantize", "q8.gguf", "q8.gguf", "q4_0", "--force"], 2, "cannot be both read and written");
    check(&["quantize", "plain.gguf", "q4.gguf", "q4km"], 2, "did you mean Q4_K_M?");
    check(&["quantize", "plain.gguf", "q4.gguf", "q4_0", "--imatrix", "q8.gguf"], 1, "no importance matrix");
    check(&["quantize", "plain.gguf", "q4.gguf", "q4_0", "--text", "none.txt"], 1, "none.txt cannot be read");
    stage.write("short.txt", "the");
    check(&["perplexity", "plain.gguf", "short.txt"], 1, "tokens");
    check(&["imatrix", "plain.gguf", "short.txt"], 1, "take a longer text");
    stage.run(&["quantize", "q8.gguf", "q4.gguf", "q4_0", "--allow-requantize"]).ok();
}

#[test]
fn who_ends_it_half_way_finds_no_half_a_file() {
    let stage = Stage::new();
    let (width, feed_forward, vocabulary) = (1_024, 4_096, LEAST_VOCABULARY);
    let big = Specimen { width, feed_forward, vocabulary, layers: 1, format: Format::F16, ..Specimen::SMALL };
    big.write(&mut std::fs::File::create(stage.path("big.gguf")).unwrap()).unwrap();
    for signal in ["-INT", "-TERM"] {
        let mut child = stage.command(&["quantize", "big.gguf", "small.gguf", "q4_k_m"]).spawn().unwrap();
        let partial = stage.path(&format!(".small.gguf.{}.partial", child.id()));
        while !partial.exists() {
            assert_eq!(child.try_wait().unwrap(), None, "it ended before it began to write");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        assert!(!partial.exists() && !stage.path("small.gguf").exists(), "{signal}");
    }
}
