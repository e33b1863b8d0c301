//! Who may come in, and what is refused with which words.

use std::net::SocketAddr;

use node::serve::offer::Offers;
use node::serve::settings::Settings;
use node::serve::{ServeError, start};
use serde_json::{Value, json};
use wire::world::System;

use crate::client::{Answer, ask_with, get, post};
use crate::house::{chat, house, settings};
use crate::tiny::CONTEXT;

const CHAT: &str = "/v1/chat/completions";

#[test]
fn a_key_is_asked_for() {
    let house = house(Settings { key: Some("sk-right".to_owned()), ..settings() });
    let ask = |headers: &str| ask_with(house.address, "GET", "/v1/models", headers, b"");
    let none = ask("");
    assert_eq!(none.problem(), (401, "invalid_api_key".to_owned(), None));
    assert_eq!(none.header("www-authenticate"), Some("Bearer"));
    assert_eq!(ask("Authorization: Bearer sk-wrong\r\n").status, 401);
    assert_eq!(ask("Authorization: Bearer sk-right\r\n").status, 200);
    assert_eq!(get(house.address, "/metrics").status, 401);
    // Whoever only asks whether it lives learns nothing else.
    assert_eq!(get(house.address, "/health").json(), json!({ "status": "ok" }));
}

#[test]
fn strangers_pages_and_names_stay_out() {
    let shut = house(settings());
    let page = "Origin: https://app.example\r\n";
    let answer = ask_with(shut.address, "GET", "/v1/models", page, b"");
    assert_eq!(answer.problem(), (403, "foreign_origin".to_owned(), None));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let open = house(Settings { origins: vec!["https://app.example".to_owned()], ..settings() });
    let answer = ask_with(open.address, "GET", "/v1/models", page, b"");
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, Some("https://app.example"))
    );
    assert_eq!(ask_with(open.address, "OPTIONS", CHAT, page, b"").status, 204);
    // Another name may be one that was rebound to us; who has the key is no page that was led here.
    let locked = house(Settings { key: Some("sk-right".to_owned()), ..settings() });
    let ask = |address: SocketAddr, host: &str| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let key = "Authorization: Bearer sk-right";
        write!(stream, "GET /v1/models HTTP/1.1\r\nHost: {host}\r\n{key}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let raw = |host: &str| ask(shut.address, host);
    assert!(ask(locked.address, "nas.local").starts_with("HTTP/1.1 200"));
    assert!(raw("evil.example").starts_with("HTTP/1.1 403"));
    assert!(raw("localhost").starts_with("HTTP/1.1 200"));
}

#[test]
fn the_network_needs_a_key_or_a_word() {
    let anywhere = Settings { listen: SocketAddr::from(([0, 0, 0, 0], 0)), ..settings() };
    let begin = |settings: Settings| start(settings, Offers::Listed(Vec::new()), None, System::new());
    assert!(matches!(begin(anywhere.clone()), Err(ServeError::OpenToAll(_))));
    begin(Settings { key: Some("k".to_owned()), ..anywhere.clone() }).unwrap().stop();
    begin(Settings { insecure: true, ..anywhere.clone() }).unwrap().stop();
    for key in ["", "two words", "kéy"] {
        assert!(
            matches!(begin(Settings { key: Some(key.to_owned()), ..anywhere.clone() }), Err(ServeError::Key)),
            "{key}"
        );
    }
}

/// Status, code and param of a refused request.
fn check(answer: &Answer, status: u16, code: &str, param: Option<&str>) {
    assert_eq!(answer.problem(), (status, code.to_owned(), param.map(str::to_owned)), "{answer:?}");
}

#[test]
fn what_cannot_be_answered_is_refused_by_name() {
    let house = house(settings());
    let raw = |path: &str, body: &str| ask_with(house.address, "POST", path, "", body.as_bytes());
    check(&get(house.address, "/v2/nothing"), 404, "unknown_url", None);
    check(&get(house.address, CHAT), 405, "method_not_allowed", None);
    check(&raw(CHAT, "{\"model\": \n oops}"), 400, "invalid_json", None);
    assert!(
        raw(CHAT, "{\"model\": \n oops}").json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("line 2 column 2")
    );
    check(
        &ask_with(house.address, "POST", CHAT, "Content-Encoding: gzip\r\n", b"{}"),
        415,
        "unsupported_media_type",
        None,
    );
    let missing = post(house.address, CHAT, &chat("x", 1, json!({ "model": "gpt-4" })));
    check(&missing, 404, "model_not_found", Some("model"));
    assert!(missing.json()["error"]["message"].as_str().unwrap().contains("chat, other, embed"));
    check(&get(house.address, "/v1/models/gpt-4"), 404, "model_not_found", Some("model"));
    check(
        &ask_with(house.address, "DELETE", "/selvedge/models/chat", "", b""),
        404,
        "model_not_loaded",
        Some("model"),
    );
    // Said before it is read.
    let huge = "Content-Length: 999999999999\r\n";
    let answer = {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(house.address).unwrap();
        write!(stream, "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{huge}\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("too_large"), "{answer}");

    let cases: [(&str, Value, u16, &str, Option<&str>); 31] = [
        (CHAT, json!({ "messages": [] }), 400, "invalid_value", Some("messages")),
        (CHAT, json!({ "messages": null }), 400, "invalid_value", Some("messages")),
        (
            CHAT,
            json!({ "messages": [{ "role": "robot", "content": "x" }] }),
            400,
            "invalid_value",
            Some("messages[0].role"),
        ),
        (
            CHAT,
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }),
            400,
            "unsupported_parameter",
            Some("messages[0].content[0]"),
        ),
        (CHAT, json!({ "temperature": "hot" }), 400, "invalid_value", Some("temperature")),
        (CHAT, json!({ "temperature": -1 }), 400, "invalid_value", Some("temperature")),
        (CHAT, json!({ "n": 0 }), 400, "invalid_value", Some("n")),
        (CHAT, json!({ "n": 17 }), 400, "invalid_value", Some("n")),
        (CHAT, json!({ "max_tokens": 0 }), 400, "invalid_value", Some("max_completion_tokens")),
        (CHAT, json!({ "max_tokens": CONTEXT }), 400, "context_length_exceeded", Some("messages")),
        (
            CHAT,
            json!({ "messages": [{ "role": "user", "content": "x".repeat(CONTEXT) }], "max_tokens": null }),
            400,
            "context_length_exceeded",
            Some("messages"),
        ),
        (CHAT, json!({ "top_logprobs": 3 }), 400, "invalid_value", Some("top_logprobs")),
        (CHAT, json!({ "logprobs": true, "top_logprobs": 21 }), 400, "invalid_value", Some("top_logprobs")),
        (CHAT, json!({ "logprobs": 5 }), 400, "invalid_value", Some("logprobs")),
        (CHAT, json!({ "logit_bias": { "100000": 1 } }), 400, "invalid_value", Some("logit_bias")),
        (CHAT, json!({ "stop": vec!["x"; 17] }), 400, "invalid_value", Some("stop")),
        (CHAT, json!({ "functions": [] }), 400, "unsupported_parameter", Some("functions")),
        (CHAT, json!({ "modalities": ["audio"] }), 400, "unsupported_parameter", Some("modalities")),
        (CHAT, json!({ "tools": [{ "type": "retrieval" }] }), 400, "unsupported_parameter", Some("tools[0]")),
        (CHAT, json!({ "tool_choice": "required" }), 400, "invalid_value", Some("tools")),
        (
            CHAT,
            json!({ "response_format": { "type": "yaml" } }),
            400,
            "invalid_value",
            Some("response_format"),
        ),
        (
            CHAT,
            json!({ "response_format": { "type": "regex", "regex": "(" } }),
            400,
            "invalid_value",
            Some("response_format"),
        ),
        (CHAT, json!({ "model": "embed" }), 400, "invalid_value", Some("model")),
        (
            "/v1/completions",
            json!({ "prompt": "x", "best_of": 3 }),
            400,
            "unsupported_parameter",
            Some("best_of"),
        ),
        (
            "/v1/completions",
            json!({ "prompt": "x", "suffix": "y" }),
            400,
            "unsupported_parameter",
            Some("suffix"),
        ),
        ("/v1/completions", json!({ "prompt": "" }), 400, "invalid_value", Some("prompt")),
        ("/v1/completions", json!({ "prompt": [5, 100_000] }), 400, "invalid_value", Some("prompt")),
        (
            "/v1/responses",
            json!({ "input": "x", "previous_response_id": "resp_1" }),
            400,
            "unsupported_parameter",
            Some("previous_response_id"),
        ),
        (
            "/v1/responses",
            json!({ "input": "x", "truncation": "auto" }),
            400,
            "unsupported_parameter",
            Some("truncation"),
        ),
        ("/v1/responses", json!({ "input": [] }), 400, "invalid_value", Some("input")),
        (
            "/v1/responses",
            json!({ "input": "x", "tools": [{ "type": "web_search" }] }),
            400,
            "unsupported_parameter",
            Some("tools[0]"),
        ),
    ];
    for (path, more, status, code, param) in cases {
        check(&post(house.address, path, &chat("x", 4, more.clone())), status, code, param);
        // A stream that cannot begin is no stream.
        let mut streaming = chat("x", 4, more);
        streaming["stream"] = json!(true);
        check(&post(house.address, path, &streaming), status, code, param);
    }
    // What clients send and nobody needs is not looked at.
    let extras = json!({ "user": "u", "metadata": {}, "store": true, "service_tier": "auto", "prediction": null, "x_other": [1] });
    assert_eq!(post(house.address, CHAT, &chat("x", 4, extras)).status, 200);
    // One model too many to choose from.
    check(
        &post(house.address, CHAT, &json!({ "messages": [{ "role": "user", "content": "x" }] })),
        404,
        "model_not_found",
        Some("model"),
    );
}
