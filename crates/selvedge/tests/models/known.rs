//! stories260K and MiniLM: what the verbs print of models that others have looked at too.

use crate::stage::{Stage, shared};

#[test]
fn shared_data_stories_are_told_as_published() {
    let (Some(model), Some(text)) =
        (shared("slm/stories260K-f32.gguf"), shared("slm/stories260K.greedy200.expected.txt"))
    else {
        return;
    };
    let stage = Stage::new();
    let told = stage.run(&["run", &model, "--temperature", "0", "-n", "200", ""]).ok();
    assert_eq!(told.trim_end(), std::fs::read_to_string(text).unwrap().trim_end());
}

#[test]
fn shared_data_perplexity_is_the_recorded_one() {
    let (Some(model), Some(text), Some(recorded)) = (
        shared("slm/stories260K-f32.gguf"),
        shared("text/tinystories_sample.txt"),
        shared("slm/stories260K.perplexity.json"),
    ) else {
        return;
    };
    let stage = Stage::new();
    let words =
        ["perplexity", &model, &text, "--documents", "<|endoftext|>", "--cache-type", "f32", "--json"];
    let found = stage.run(&words).json();
    let recorded: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(recorded).unwrap()).unwrap();
    let recorded = &recorded["results"]["f32"];
    assert_eq!(found["tokens"], recorded["tokens"]);
    let (found, recorded) = (found["nll"].as_f64().unwrap(), recorded["nll"].as_f64().unwrap());
    assert!((found - recorded).abs() < 1e-4, "{found} {recorded}");
}

#[test]
fn shared_data_an_encoder_knows_what_is_alike() {
    let Some(model) = shared("minilm/all-MiniLM-L6-v2-q8_0.gguf") else { return };
    let stage = Stage::new();
    let texts = ["embed", &model, "a dog", "a puppy", "tax law", "--similarity", "--json"];
    let cosines = stage.run(&texts).json()["cosines"].clone();
    let at = |a: usize, b: usize| cosines[a][b].as_f64().unwrap();
    assert!(at(0, 1) > 0.6 && at(0, 2) < 0.3, "{cosines}");
    let (code, error) = stage.run(&["run", &model, "x"]).failed();
    assert!(code == Some(1) && error.contains("selvedge embed"), "{error}");
}
