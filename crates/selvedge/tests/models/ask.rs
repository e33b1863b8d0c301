//! `run`, `tokenize`, `embed`: a model is asked, and what cannot be asked is said.

use std::io::Read as _;

use crate::stage::Stage;

#[test]
fn a_model_answers_once() {
    let stage = Stage::new();
    let greedy = ["run", "tiny.gguf", "--temperature", "0", "-n", "12", "the pump"];
    let first = stage.run(&greedy).ok();
    assert!(first.ends_with('\n') && first.trim().len() > 1, "{first:?}");
    assert_eq!(stage.run(&greedy).ok(), first, "greedy twice is the same");
    // What is piped in stands before the prompt, and alone is the prompt.
    let fed = |words: &[&str], text: &str| {
        let base = ["run", "tiny.gguf", "--temperature", "0", "-n", "12"];
        stage.run_fed(&[&base[..], words].concat(), text).ok()
    };
    assert_eq!(fed(&[], "the pump\n"), first);
    assert_eq!(fed(&["the", "pump"], ""), first, "words of a prompt are joined");
    assert_eq!(fed(&["pump"], "the"), stage.run(&[&greedy[..6], &["the\n\npump"]].concat()).ok());
    let seeded = |seed| stage.run(&["run", "tiny.gguf", "--seed", seed, "-n", "24", "the pump"]).ok();
    assert_eq!(seeded("7"), seeded("7"));
    assert_ne!(seeded("7"), seeded("8"));
}

#[test]
fn a_record_says_what_was_measured() {
    let stage = Stage::new();
    let words = ["run", "tiny.gguf", "--json", "--top", "2", "--seed", "3", "-n", "5", "pump"];
    let record = stage.run(&words).json();
    let tokens = record["tokens"].as_array().unwrap();
    assert_eq!(record["written_tokens"], tokens.len());
    assert_eq!((&record["seed"], &record["family"]), (&3.into(), &"llama".into()));
    assert_eq!(
        record["prompt_tokens"].as_u64().map(|count| count > 10),
        Some(true),
        "the template's words count"
    );
    for token in tokens {
        assert!(token["logprob"].as_f64().unwrap() <= 0.0 && token["entropy"].as_f64().unwrap() >= 0.0);
        assert_eq!(token["top"].as_array().unwrap().len(), 2);
    }
    assert!(record["timing"]["first_token_ms"].as_f64().unwrap() > 0.0);
    let figures = stage.run(&["run", "tiny.gguf", "-v", "-n", "3", "pump"]);
    assert!(figures.err.contains("first token  after") && figures.err.contains("seed"), "{}", figures.err);
}

#[test]
fn answers_keep_the_form_that_was_asked_for() {
    let stage = Stage::new();
    let asked = |words: &[&str]| stage.run(&[&["run", "tiny.gguf", "pump"], words].concat());
    let digits = asked(&["--regex", "[0-9]{4}"]).ok();
    assert!(
        digits.trim_end().len() == 4 && digits.trim_end().bytes().all(|byte| byte.is_ascii_digit()),
        "{digits:?}"
    );
    stage.write("schema.json", r#"{"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": false}"#);
    let object: serde_json::Value =
        serde_json::from_str(&asked(&["--json-schema", "schema.json", "--seed", "1"]).ok()).unwrap();
    assert!(object["n"] == 1 || object["n"] == 2, "{object}");
    stage.write("yes.gbnf", "root ::= \"the\" | \"pump\"\n");
    let word = asked(&["--grammar", "yes.gbnf"]).ok();
    assert!(["the", "pump"].contains(&word.trim()), "{word:?}");
    let stopped = asked(&["--regex", "ab{3}c.*", "--stop", "c"]).ok();
    assert_eq!(stopped, "abbb\n");
}

#[test]
fn what_cannot_be_asked_is_said() {
    let stage = Stage::new();
    let check = |words: &[&str], code: i32, expected: &str| {
        let (found, error) = stage.run(words).failed();
        assert!(found == Some(code) && error.contains(expected), "{words:?}: {found:?} {error}");
    };
    check(&["run", "tiny.gguf"], 2, "there is nothing to ask");
    check(&["run", "tinny.gguf", "x"], 1, "there is no file tinny.gguf; did you mean ./tiny.gguf?");
    check(&["run", "tiny", "x"], 1, "no model is here yet");
    check(&["run", "tiny.gguf", "--top-p", "0", "x"], 2, "--top-p is 0, and must be above 0, at most 1");
    check(&["run", "tiny.gguf", "--logit-bias", "9999:1", "x"], 2, "there is no token 9999");
    check(&["run", "tiny.gguf", "--logit-bias", "1", "x"], 2, "it reads like 123:-5");
    check(&["run", "tiny.gguf", "--json-schema", "{", "x"], 2, "the schema is not JSON");
    check(&["run", "tiny.gguf", "--json-schema", "no.json", "x"], 1, "no.json cannot be read");
    check(&["run", "tiny.gguf", "--regex", "(", "x"], 2, "--regex");
    check(&["run", "tiny.gguf", "--regex", "a", "--json-schema", "{}", "x"], 2, "cannot be used with");
    check(
        &["run", "tiny.gguf", "--context", "16", "the pump runs. the pump runs. the pump runs."],
        1,
        "--context gives more room",
    );
    check(&["run", "tiny.gguf", "--threads", "0", "x"], 2, "from 1 to 1024");
    check(&["run", "plain.gguf", "--system", "be brief", "x"], 2, "has no chat template");
    check(&["run", "tiny.gguf", "--lora", "plain.gguf", "x"], 1, "not a LoRA adapter");
    stage.write("text.gguf", "this is no model");
    check(&["run", "text.gguf", "x"], 1, "text.gguf cannot be opened as a model");
    let mut command = stage.command(&["run", "tiny.gguf", "x"]);
    command.env("KERNELS_ISA", "mmx");
    let (code, error) = crate::stage::Ran::of(command).failed();
    assert!(code == Some(78) && error.contains("must be one of scalar, avx2"), "{error}");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let stage = Stage::new();
    for words in [
        &["run", "plain.gguf", "the"][..],
        &["show", "tiny.gguf", "--metadata"],
        &["embed", "tiny.gguf", "--pooling", "mean", "a"],
    ] {
        let mut child = stage.command(words).spawn().unwrap();
        drop(child.stdout.take());
        let status = child.wait().unwrap();
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert!(status.success() && !error.contains("panicked"), "{words:?}: {status} {error}");
    }
}

#[test]
fn a_text_is_cut_and_put_together() {
    let stage = Stage::new();
    let text = "the pump runs.";
    let ids = stage.run(&["tokenize", "tiny.gguf", text, "--ids"]).ok();
    assert_eq!(stage.run(&["tokenize", "tiny.gguf", ids.trim(), "--decode"]).ok().trim(), text);
    let count = stage.run_fed(&["tokenize", "tiny.gguf", "--count"], text).ok();
    assert_eq!(count.trim().parse(), Ok(ids.split_whitespace().count()));
    insta::assert_snapshot!(
        "tokenize",
        stage.run(&["tokenize", "tiny.gguf", "the pump\n7</s>", "--special", "--bos"]).ok()
    );
    let record = stage.run(&["tokenize", "tiny.gguf", "the", "--json"]).json();
    assert_eq!(record["tokens"][0]["text"], " the");
    let (code, error) = stage.run(&["tokenize", "tiny.gguf", "1 x", "--decode"]).failed();
    assert!(code == Some(2) && error.contains("\"x\" is no token"), "{error}");
}

#[test]
fn vectors_say_how_alike_texts_are() {
    let stage = Stage::new();
    let words = ["embed", "tiny.gguf", "--pooling", "mean", "the pump", "the pump", "9"];
    let vectors = stage.run(&words).json();
    let vector = |at: usize| -> Vec<f64> {
        vectors[at]["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    assert_eq!((vector(0).len(), vector(0)), (256, vector(1)));
    let length: f64 = vector(2).iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    let table = stage.run(&[&words[..], &["--similarity", "--json"]].concat()).json();
    assert!((table["cosines"][0][1].as_f64().unwrap() - 1.0).abs() < 1e-5);
    assert!(table["cosines"][0][2].as_f64().unwrap() < 0.999);
    let (code, error) = stage.run(&["embed", "tiny.gguf", "a"]).failed();
    assert!(code == Some(2) && error.contains("--pooling"), "{error}");
    let long = "9 ".repeat(300);
    let (code, error) = stage.run(&["embed", "tiny.gguf", "--pooling", "last", &long]).failed();
    assert!(code == Some(1) && error.contains("the model takes 256"), "{error}");
}
