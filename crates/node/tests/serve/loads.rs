//! Loading, unloading, waiting, going away: what a model's thread does when many want something of it.

use std::num::NonZeroUsize;
use std::time::Duration;

use node::serve::offer::{Offer, Offers};
use node::serve::settings::{EngineSettings, Settings};
use node::serve::start;
use serde_json::{Value, json};
use wire::world::System;

use crate::client::{Events, ask_with, get, post};
use crate::house::{chat, house, loaded, settings, until};
use crate::tiny::CONTEXT;

const CHAT: &str = "/v1/chat/completions";

/// A stream that goes on for long.
fn long(more: Value) -> Value {
    let mut body = chat("a long story", CONTEXT - 60, more);
    body["stream"] = json!(true);
    body
}

#[test]
fn who_goes_away_cancels_his_answer() {
    let house = house(settings());
    let mut events = Events::ask(house.address, CHAT, &long(json!({})));
    let seen = events.by_ref().take(4).count();
    assert_eq!(seen, 4);
    assert_eq!(loaded(house.address, "chat").unwrap()["running"], 1);
    drop(events);
    until("an empty batch", || loaded(house.address, "chat").unwrap()["running"] == 0);
    let after = loaded(house.address, "chat").unwrap();
    assert_eq!(
        (&after["waiting"], &after["users"], &after["cache_bytes"]),
        (&json!(0), &json!(0), &json!(0))
    );
    // It did not write to the end.
    assert!(after["tokens"].as_u64().unwrap() < CONTEXT as u64 - 60, "{after}");
    assert!(get(house.address, "/metrics").text.contains("selvedge_model_cancelled_total{model=\"chat\"} 1"));
    // Without a stream as well.
    let address = house.address;
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let body = chat("a long story", CONTEXT - 60, json!({})).to_string();
    {
        use std::io::Write as _;
        let length = body.len();
        write!(stream, "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
            .unwrap();
    }
    until("a busy batch", || loaded(address, "chat").unwrap()["running"] == 1);
    drop(stream);
    until("an empty batch", || loaded(address, "chat").unwrap()["running"] == 0);
}

#[test]
fn what_was_read_is_known_to_the_next_server_unless_it_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let model = folder.path().join("chat.gguf");
    crate::tiny::chat(&model, 1);
    let ask = || {
        let mut settings = settings();
        settings.engine.prefixes = Some(kept.clone());
        let offers = Offers::Listed(vec![Offer { name: "chat".to_owned(), ..Offer::of_file(&model) }]);
        let serving = start(settings, offers, None, System::new()).unwrap();
        let answer =
            post(serving.address(), CHAT, &chat("a long beginning that is worth to be kept", 8, json!({})));
        serving.stop();
        let answer = answer.json();
        let known = answer["x_selvedge"]["reused_prompt_tokens"].as_u64().unwrap();
        let prompt = answer["usage"]["prompt_tokens"].as_u64().unwrap();
        (answer["choices"].clone(), known, prompt)
    };
    let (first, known, prompt) = ask();
    assert_eq!(known, 0);
    assert_eq!(ask(), (first.clone(), prompt - 1, prompt));
    let file = std::fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&file).unwrap();
    // A page is torn, or a byte of it another, or the head is: what is not whole is not known.
    let pages = (prompt as usize + 7).div_ceil(32);
    let page = (whole.len() - 48) / pages;
    let torn = (prompt - 1).min(32 * (pages as u64 - 1));
    let change = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    for (bytes, expected) in [
        (whole[..whole.len() - 1].to_vec(), torn),
        (change(48 + page + 40), 32),
        (change(48 + 4), 0),
        (change(20), 0),
        (change(3), 0),
        (whole[..7].to_vec(), 0),
        (Vec::new(), 0),
    ] {
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(ask(), (first.clone(), expected, prompt));
    }
    // Of another model.
    crate::tiny::chat(&model, 2);
    let (other, known, _) = ask();
    assert!(other != first && known == 0);
}

#[test]
fn a_full_queue_says_so_and_when_to_come_again() {
    let engine =
        EngineSettings { parallel: 1, queue: 1, threads: NonZeroUsize::new(1), ..EngineSettings::default() };
    let house = house(Settings { engine, ..settings() });
    let first = Events::ask(house.address, CHAT, &long(json!({})));
    let second = Events::ask(house.address, CHAT, &long(json!({})));
    let third = post(house.address, CHAT, &chat("x", 1, json!({})));
    assert_eq!(third.problem(), (429, "queue_full".to_owned(), None));
    assert_eq!(third.json()["error"]["type"], "rate_limit_error");
    assert_eq!(third.header("retry-after"), Some("1"));
    // More answers than could ever be taken are a mistake, not a wait.
    let never = post(house.address, CHAT, &chat("x", 1, json!({ "n": 3 })));
    assert_eq!(never.problem(), (400, "invalid_value".to_owned(), Some("n".to_owned())));
    drop((first, second));
    until("room", || post(house.address, CHAT, &chat("x", 1, json!({}))).status == 200);
}

#[test]
fn a_model_is_unloaded_by_name_and_when_idle() {
    let house = house(Settings { keep_alive: Some(Duration::from_millis(500)), ..settings() });
    assert!(loaded(house.address, "chat").is_none());
    let mut events = Events::ask(house.address, CHAT, &long(json!({})));
    events.next().unwrap();
    // Answers under way are written first.
    let stop = || ask_with(house.address, "DELETE", "/selvedge/models/chat", "", b"");
    let answer = stop();
    assert_eq!((answer.status, &answer.json()["waits_for"]), (202, &json!(1)));
    let again = post(house.address, CHAT, &chat("x", 1, json!({})));
    if loaded(house.address, "chat").is_some() {
        assert_eq!(again.problem(), (503, "model_unloading".to_owned(), None));
    }
    assert_eq!(events.last().unwrap().1, "[DONE]");
    until("it to be gone", || post(house.address, CHAT, &chat("x", 1, json!({}))).status == 200);
    assert!(loaded(house.address, "chat").is_some());
    until("it to be idle for long", || loaded(house.address, "chat").is_none());
}

#[test]
fn models_make_room_for_each_other() {
    // Room for one model and its cache, not for two.
    let probe = house(settings());
    assert_eq!(post(probe.address, CHAT, &chat("x", 1, json!({}))).status, 200);
    let needed = loaded(probe.address, "chat").unwrap()["memory_bytes"].as_u64().unwrap();
    let tight = house(Settings { memory_bytes: Some(needed * 3 / 2), ..settings() });
    for model in ["chat", "other", "chat"] {
        let answer = post(tight.address, CHAT, &chat("x", 1, json!({ "model": model })));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(loaded(tight.address, model).is_some());
    }
    assert!(loaded(tight.address, "other").is_none());
    // One that is at work does not leave.
    let mut events = Events::ask(tight.address, CHAT, &long(json!({})));
    events.next().unwrap();
    let refused = post(tight.address, CHAT, &chat("x", 1, json!({ "model": "other" })));
    assert_eq!(refused.problem(), (503, "insufficient_memory".to_owned(), None));
    assert_eq!(refused.header("retry-after"), Some("10"));
    drop(events);
    until("room", || post(tight.address, CHAT, &chat("x", 1, json!({ "model": "other" }))).status == 200);
    let small = house(Settings { memory_bytes: Some(1000), ..settings() });
    let never = post(small.address, CHAT, &chat("x", 1, json!({})));
    assert_eq!(never.problem(), (503, "insufficient_memory".to_owned(), None));
}

#[test]
fn a_server_that_stops_ends_its_streams_with_a_word() {
    let engine =
        EngineSettings { parallel: 1, queue: 4, threads: NonZeroUsize::new(1), ..EngineSettings::default() };
    let house = house(Settings { engine, grace: Duration::ZERO, ..settings() });
    let streams = [CHAT, "/v1/responses"].map(|path| {
        let mut body = long(json!({ "input": "a long story", "max_output_tokens": CONTEXT - 60 }));
        body["model"] = json!("chat");
        Events::ask(house.address, path, &body)
    });
    let address = house.address;
    let reading =
        streams.map(|stream| std::thread::spawn(move || stream.map(|(_, data)| data).collect::<Vec<_>>()));
    until("both to be there", || {
        loaded(address, "chat")
            .is_some_and(|model| model["running"].as_u64().unwrap() + model["waiting"].as_u64().unwrap() == 2)
    });
    house.serving.stop();
    let [chat, responses] = reading.map(|reading| reading.join().unwrap());
    let last: Value = serde_json::from_str(&chat[chat.len() - 2]).unwrap();
    assert_eq!((&last["error"]["code"], chat.last().unwrap().as_str()), (&json!("shutting_down"), "[DONE]"));
    let last: Value = serde_json::from_str(responses.last().unwrap()).unwrap();
    assert_eq!(last["type"], "response.failed");
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_file_that_is_no_model_is_told_as_such() {
    use node::serve::offer::{Offer, Offers};
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.gguf");
    std::fs::write(&file, "<html>").unwrap();
    let offers = Offers::Listed(vec![Offer::of_file(&file)]);
    let serving = node::serve::start(settings(), offers, None, wire::world::System::new()).unwrap();
    let said = serving.load("page").unwrap_err().to_string();
    assert!(said.contains("\"page\" cannot be loaded"), "{said}");
    let answer = post(serving.address(), CHAT, &chat("x", 1, json!({ "model": "" })));
    assert_eq!(answer.problem(), (503, "model_not_loaded".to_owned(), None));
    serving.stop();
}
