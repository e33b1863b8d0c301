//! `fit --explain`: the text that a person reads.

use crate::stage::Stage;

/// The text, with what this machine has left out.
fn explained(stage: &Stage, memory: &str) -> String {
    let text = stage.run(&["fit", "--explain", "tiny", "--memory", memory]).ok();
    let (head, rest) = text.split_once('\n').unwrap();
    let (before, machine) = head.split_once("free; ").unwrap();
    assert!(machine.starts_with(std::env::consts::ARCH) && machine.ends_with("; no accelerator"), "{head}");
    format!("{before}free; PROCESSOR\n{rest}")
}

#[test]
fn the_choice_is_explained() {
    let stage = Stage::packed();
    insta::assert_snapshot!("explain", explained(&stage, "2GiB"));
    insta::assert_snapshot!("explain-little", explained(&stage, "9MiB"));
    let found = stage.run(&["fit", "--explain", "tiny", "--memory", "1MiB", "--json"]).json();
    assert!(found["best"].is_null(), "{found}");
    assert!(found["variants"][0]["lacks"][0].as_str().unwrap().contains("missing"), "{found}");
    stage.refused(&["fit", "--explain", "full.gguf"], "no package in one file");
    assert_eq!(stage.run(&["fit", "--explain", "tiny", "full.gguf"]).code, Some(2));
}
