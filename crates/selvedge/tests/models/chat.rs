//! A chat on a terminal, which `script` of util-linux lends.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::stage::Stage;

/// What a chat shows when these lines are typed.
fn chat(stage: &Stage, words: &str, typed: &str) -> Option<String> {
    let mut command = Command::new("script");
    let line = format!("{} {words}", env!("CARGO_BIN_EXE_selvedge"));
    command.args(["-qec", &line, "/dev/null"]).current_dir(stage.path(""));
    command.env("TERM", "xterm").env("NO_COLOR", "1").env("SELVEDGE_MODELS", stage.path("shelf"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: chat: no `script` of util-linux");
        return None;
    };
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert_eq!(output.status.code(), Some(0), "{shown}");
    Some(shown)
}

#[test]
fn a_chat_goes_turn_by_turn() {
    let stage = Stage::new();
    let typed = "the pump\n/figures\nruns?\n/save talk.json\n/clear\n/nothing\n/system the pump runs\n/help\n/bye\n";
    let words = "run tiny.gguf --temperature 0 -n 8 --threads 1";
    let Some(shown) = chat(&stage, words, typed) else { return };
    for expected in [
        "context 256. /help shows what else there is",
        "Figures are shown.",
        "known from before",
        "Saved to talk.json.",
        "A new conversation.",
        "There is no /nothing",
        "A new conversation with these instructions.",
        "Ctrl-C          ends an answer",
    ] {
        assert!(shown.contains(expected), "{expected:?} in {shown}");
    }
    let talk: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(stage.path("talk.json")).unwrap()).unwrap();
    let roles: Vec<&str> = talk.as_array().unwrap().iter().map(|turn| turn["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    let once = stage.run(&["run", "tiny.gguf", "--temperature", "0", "-n", "8", "the pump"]).ok();
    assert_eq!(talk[1]["content"].as_str().unwrap().trim(), once.trim(), "a chat answers as one question does");
}

#[test]
fn a_chat_that_outgrows_its_context_says_so() {
    let stage = Stage::new();
    let long = "the pump runs. ".repeat(20);
    let typed = format!("the\n{long}\n{long}{long}\n/bye\n");
    let Some(shown) = chat(&stage, "run tiny.gguf --temperature 0 -n 8", &typed) else { return };
    assert!(shown.contains("Your last text was taken back; /clear begins anew."), "{shown}");
}
