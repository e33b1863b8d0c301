//! A chat on a terminal, which `script` of util-linux lends.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::stage::Stage;

/// What a chat shows when these lines are typed, each when it asks for one.
fn chat(stage: &Stage, words: &str, lines: &[&str]) -> Option<String> {
    let mut command = Command::new("script");
    let line = format!("{} {words}", env!("CARGO_BIN_EXE_selvedge"));
    command.args(["-qec", &line, "/dev/null"]).current_dir(stage.path(""));
    command.env("TERM", "xterm").env("NO_COLOR", "1").env("SELVEDGE_MODELS", stage.path("shelf"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: chat: no `script` of util-linux");
        return None;
    };
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut lines, mut prompts) = (Vec::new(), lines.iter(), 0);
    let mut buffer = [0; 4096];
    loop {
        // A terminal whose program is gone reads as an error.
        let count = screen.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            break;
        }
        shown.extend_from_slice(&buffer[..count]);
        let asked = shown.windows(PROMPT.len()).filter(|bytes| *bytes == PROMPT).count();
        while prompts < asked {
            prompts += 1;
            if let Some(line) = lines.next() {
                keys.write_all(line.as_bytes()).unwrap();
                keys.write_all(b"\r").unwrap();
            }
        }
    }
    let code = child.wait().unwrap().code();
    let shown = String::from_utf8_lossy(&shown).replace('\r', "");
    assert_eq!(code, Some(0), "{shown}");
    Some(shown)
}

/// What a chat shows last before it listens; what is typed is drawn in the same way, one frame a key.
const PROMPT: &[u8] = b"\x1b[?2004h";

#[test]
fn a_chat_goes_turn_by_turn() {
    let stage = Stage::new();
    let typed = [
        "the pump",
        "/figures",
        "runs?",
        "/save talk.json",
        "/clear",
        "/nothing",
        "/system the pump runs",
        "/help",
        "/bye",
    ];
    let words = "run tiny.gguf --temperature 0 -n 8 --threads 1";
    let Some(shown) = chat(&stage, words, &typed) else { return };
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
    let roles: Vec<&str> =
        talk.as_array().unwrap().iter().map(|turn| turn["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    let once = stage.run(&["run", "tiny.gguf", "--temperature", "0", "-n", "8", "the pump"]).ok();
    assert_eq!(
        talk[1]["content"].as_str().unwrap().trim(),
        once.trim(),
        "a chat answers as one question does"
    );
}

#[test]
fn a_chat_that_outgrows_its_context_says_so() {
    let stage = Stage::new();
    let long = "the pump runs. ".repeat(20);
    let longer = long.repeat(2);
    let Some(shown) = chat(&stage, "run tiny.gguf --temperature 0 -n 8", &["the", &long, &longer, "/bye"])
    else {
        return;
    };
    assert!(shown.contains("Your last text was taken back; /clear begins anew."), "{shown}");
}
