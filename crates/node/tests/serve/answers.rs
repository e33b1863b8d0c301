//! What each endpoint answers, whole and as it comes.

use serde_json::{Value, json};

use crate::client::{Events, chunks, get, post};
use crate::house::{chat, house, settings};
use crate::tiny::WIDTH;

const CHAT: &str = "/v1/chat/completions";

/// The text that a stream's chunks make together, of one choice.
fn content(chunks: &[Value], choice: usize) -> String {
    let choices = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
    choices.filter(|one| one["index"] == choice).filter_map(|one| one["delta"]["content"].as_str()).collect()
}

#[test]
fn a_chat_is_answered_and_the_stream_says_the_same() {
    let house = house(settings());
    let body =
        chat("hello", 24, json!({ "logprobs": true, "top_logprobs": 3, "x_selvedge": { "signals": true } }));
    let answer = post(house.address, CHAT, &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let whole = answer.json();
    let choice = &whole["choices"][0];
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["model"], "chat");
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(choice["message"]["role"], "assistant");
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(!text.is_empty());
    assert_eq!(whole["usage"]["completion_tokens"], 24);
    let total = whole["usage"]["prompt_tokens"].as_u64().unwrap() + 24;
    assert_eq!(whole["usage"]["total_tokens"], total);

    // Log probabilities: as many as tokens, most probable first, and greedy takes the first.
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(tokens.len(), 24);
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap())
        .map(|byte| byte.as_u64().unwrap() as u8)
        .collect();
    assert_eq!(String::from_utf8_lossy(&bytes), text);
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        let logprobs: Vec<f64> = top.iter().map(|one| one["logprob"].as_f64().unwrap()).collect();
        assert!(logprobs.is_sorted_by(|a, b| a >= b) && logprobs[0] <= 0.0, "{logprobs:?}");
    }

    // What is ours: measured, or absent.
    let ours = &whole["x_selvedge"];
    assert_eq!(ours["ran"], "local");
    assert_eq!(ours["model"]["family"], "llama");
    assert!(ours["first_token_ms"].as_f64().unwrap() > 0.0);
    assert!(ours["tokens_per_s"].as_f64().unwrap() > 0.0);
    assert!(ours["prompt_tokens_per_s"].as_f64().unwrap() > 0.0);
    assert!(ours["mean_entropy"].as_f64().unwrap() > 0.0);
    assert_eq!(ours["signals"][0].as_array().unwrap().len(), 24);
    let mean: f64 = tokens.iter().map(|token| token["logprob"].as_f64().unwrap()).sum::<f64>() / 24.0;
    assert!((ours["mean_logprob"].as_f64().unwrap() - mean).abs() < 1e-6);

    let mut body = body;
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    let streamed = chunks(house.address, CHAT, &body);
    assert_eq!(content(&streamed, 0), text);
    assert_eq!(streamed[0]["choices"][0]["delta"]["role"], "assistant");
    let told = streamed.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
    let told: Vec<&Value> =
        told.flat_map(|choice| choice["logprobs"]["content"].as_array().into_iter().flatten()).collect();
    assert_eq!(told.len(), 24);
    assert!(told.iter().zip(tokens).all(|(a, b)| a["token"] == b["token"]));
    let last = streamed.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 24);
    // The second time the prompt is known, but for its last token.
    let prompt = whole["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(last["usage"]["prompt_tokens_details"]["cached_tokens"], prompt - 1);
    assert_eq!(last["x_selvedge"]["reused_prompt_tokens"], prompt - 1);
    let reasons: Vec<&str> =
        streamed.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(reasons, ["length"]);
}

#[test]
fn what_is_guessed_ahead_is_told_and_changes_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let draft = folder.path().join("draft.gguf");
    crate::tiny::chat(&draft, 1);
    let with = |guess: bool, draft: Option<&std::path::Path>| {
        let mut settings = settings();
        settings.engine.guess = guess;
        settings.engine.draft = draft.map(Into::into);
        house(settings)
    };
    let schema = json!({ "enum": ["what it was made for", "what it was not made for"] });
    let format =
        json!({ "type": "json_schema", "json_schema": { "name": "x", "strict": true, "schema": schema } });
    let bodies = [
        chat("and so on", 60, json!({ "logit_bias": { "97": 100 } })),
        chat("and so on", 60, json!({ "temperature": 0.3, "seed": 7 })),
        chat("and so on", 60, json!({ "logit_bias": {}, "response_format": format })),
    ];
    let ask =
        |house: &crate::house::House| bodies.clone().map(|body| post(house.address, CHAT, &body).json());
    let plain = ask(&with(false, None));
    assert!(plain.iter().all(|answer| answer["x_selvedge"]["draft_tokens"] == 0));
    assert_eq!(plain[0]["usage"]["completion_tokens_details"], Value::Null);
    for (guess, draft) in [(true, None), (false, Some(draft.as_path())), (true, Some(draft.as_path()))] {
        let answers = ask(&with(guess, draft));
        for (answer, plain) in answers.iter().zip(&plain) {
            assert_eq!(answer["choices"], plain["choices"]);
            let told = &answer["x_selvedge"];
            assert!(
                told["accepted_draft_tokens"].as_u64().unwrap() <= told["draft_tokens"].as_u64().unwrap()
            );
        }
        let accepted: u64 =
            answers.iter().map(|one| one["x_selvedge"]["accepted_draft_tokens"].as_u64().unwrap()).sum();
        let counted: u64 = answers
            .iter()
            .filter_map(|one| {
                one["usage"]["completion_tokens_details"]["accepted_prediction_tokens"].as_u64()
            })
            .sum();
        assert!(accepted == counted && (accepted > 0 || !guess), "{answers:?}");
    }
    let other = folder.path().join("other.gguf");
    crate::tiny::encoder(&other);
    let answer = post(with(true, Some(&other)).address, CHAT, &bodies[0]);
    assert_eq!(answer.status, 503);
    let message = answer.json()["error"]["message"].to_string();
    assert!(
        message.contains("other.gguf cannot guess for") && message.contains("is an encoder"),
        "{message}"
    );
}

#[test]
fn a_stop_string_ends_an_answer_before_it() {
    let house = house(settings());
    let answer = post(house.address, CHAT, &chat("stop", 40, json!({}))).json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    // A character from the middle of what it writes anyway, and two of them.
    let middle: Vec<char> = text.chars().collect();
    for stop in [middle[9..10].iter().collect::<String>(), middle[9..11].iter().collect()] {
        let before = text.find(&stop).unwrap();
        let body = chat("stop", 40, json!({ "stop": ["never here, never", stop], "logprobs": true }));
        let stopped = post(house.address, CHAT, &body).json();
        let choice = &stopped["choices"][0];
        assert_eq!(choice["message"]["content"].as_str().unwrap(), &text[..before]);
        assert_eq!(choice["finish_reason"], "stop");
        let mut body = body;
        body["stream"] = json!(true);
        assert_eq!(content(&chunks(house.address, CHAT, &body), 0), text[..before]);
    }
    // Nothing goes on in the background.
    crate::house::until("an idle model", || {
        crate::house::loaded(house.address, "chat").unwrap()["running"] == 0
    });
}

#[test]
fn several_answers_differ_and_a_seed_brings_them_back() {
    let house = house(settings());
    let body = chat("dice", 16, json!({ "n": 3, "temperature": 1, "seed": 7 }));
    let texts = |body: &Value| -> Vec<String> {
        let answer = post(house.address, CHAT, body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        let choices = answer["choices"].as_array().unwrap();
        choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap().to_owned()).collect()
    };
    let first = texts(&body);
    assert_eq!(first.len(), 3);
    assert!(first[0] != first[1] && first[1] != first[2]);
    assert_eq!(texts(&body), first);
    let mut streaming = body.clone();
    streaming["stream"] = json!(true);
    let streamed = chunks(house.address, CHAT, &streaming);
    assert_eq!((0..3).map(|choice| content(&streamed, choice)).collect::<Vec<_>>(), first);
    let unseeded = chat("dice", 16, json!({ "temperature": 1 }));
    assert_ne!(texts(&unseeded), texts(&unseeded));
}

#[test]
fn a_format_is_kept() {
    let house = house(settings());
    let schema = json!({
        "type": "object",
        "properties": { "pump": { "enum": ["on", "off"] }, "level": { "type": "integer", "minimum": 0, "maximum": 99 } },
        "required": ["pump", "level"],
        "additionalProperties": false,
    });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "state", "schema": schema, "strict": true } });
    // A random model likes white space too well: without it the answer comes to its end.
    let bias = json!({ "32": -100, "10": -100, "9": -100, "13": -100, "220": -100, "198": -100 });
    let body = chat("state", 200, json!({ "response_format": format, "logit_bias": bias }));
    let answer = post(house.address, CHAT, &body).json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "stop", "{answer}");
    let state: Value = serde_json::from_str(choice["message"]["content"].as_str().unwrap()).unwrap();
    assert!(["on", "off"].contains(&state["pump"].as_str().unwrap()));
    assert!(state["level"].as_u64().unwrap() <= 99);

    let body = chat(
        "word",
        50,
        json!({ "response_format": { "type": "regex", "regex": "[ab]{3}c" }, "logit_bias": {} }),
    );
    let answer = post(house.address, CHAT, &body).json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.len() == 4 && text.ends_with('c'), "{text}");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_tool_that_must_be_called_is_called() {
    let house = house(settings());
    let parameters = json!({
        "type": "object",
        "properties": { "valve": { "enum": ["north", "south"] } },
        "required": ["valve"],
        "additionalProperties": false,
    });
    let tool = json!({ "type": "function", "function": { "name": "open_valve", "parameters": parameters, "strict": true } });
    let bias = json!({ "32": -100, "10": -100, "9": -100, "13": -100, "220": -100, "198": -100 });
    let body = chat(
        "open",
        200,
        json!({
            "tools": [tool], "tool_choice": "required", "parallel_tool_calls": false, "logit_bias": bias,
        }),
    );
    let answer = post(house.address, CHAT, &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(call["function"]["name"], "open_valve");
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!(["north", "south"].contains(&arguments["valve"].as_str().unwrap()));

    let mut streaming = body.clone();
    streaming["stream"] = json!(true);
    let streamed = chunks(house.address, CHAT, &streaming);
    let deltas: Vec<&Value> = streamed
        .iter()
        .flat_map(|chunk| chunk["choices"].as_array().unwrap())
        .flat_map(|choice| choice["delta"]["tool_calls"].as_array().into_iter().flatten())
        .collect();
    assert_eq!(deltas[0]["function"]["name"], "open_valve");
    assert!(deltas[0]["id"].as_str().unwrap().starts_with("call_"));
    let joined: String = deltas.iter().filter_map(|delta| delta["function"]["arguments"].as_str()).collect();
    assert_eq!(joined, call["function"]["arguments"].as_str().unwrap());
    let reasons: Vec<&str> =
        streamed.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(reasons, ["tool_calls"]);

    // The conversation goes on with what the tool said.
    let mut next = body;
    next["tool_choice"] = json!("none");
    let messages = next["messages"].as_array_mut().unwrap();
    messages.push(choice["message"].clone());
    messages.push(json!({ "role": "tool", "tool_call_id": call["id"], "content": "it is open" }));
    assert_eq!(post(house.address, CHAT, &next).status, 200);
}

#[test]
fn text_goes_on_and_an_echo_tells_what_the_model_thought_of_it() {
    let house = house(settings());
    const PATH: &str = "/v1/completions";
    let bias = json!({ "256": -100, "257": -100, "258": -100 });
    let body = |more: Value| {
        let mut body = json!({ "model": "chat", "prompt": "abc", "temperature": 0, "max_tokens": 8, "logit_bias": bias });
        more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        body
    };
    let plain = post(house.address, PATH, &body(json!({ "logprobs": 2 }))).json();
    let text = plain["choices"][0]["text"].as_str().unwrap();
    assert_eq!(
        plain["usage"],
        json!({
            "prompt_tokens": 3, "completion_tokens": 8, "total_tokens": 11, "prompt_tokens_details": { "cached_tokens": 0 },
        })
    );
    let logprobs = &plain["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 8);
    assert_eq!(logprobs["text_offset"][0], 0);
    assert_eq!(logprobs["top_logprobs"][0].as_object().unwrap().len(), 2);

    // The same prompt as tokens, and two prompts with two answers each.
    let tokens = post(house.address, PATH, &body(json!({ "prompt": [97, 98, 99] }))).json();
    assert_eq!(tokens["choices"][0]["text"], text);
    let many = post(house.address, PATH, &body(json!({ "prompt": ["abc", "xyz"], "n": 2 }))).json();
    let texts: Vec<&str> =
        many["choices"].as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap()).collect();
    assert_eq!((texts.len(), texts[0], texts[1]), (4, text, text));
    assert_eq!(texts[2], texts[3]);
    assert_ne!(texts[0], texts[2]);
    assert_eq!(many["usage"]["prompt_tokens"], 6);

    let echo = post(house.address, PATH, &body(json!({ "echo": true, "logprobs": 1 }))).json();
    assert_eq!(echo["choices"][0]["text"], format!("abc{text}"));
    let told = &echo["choices"][0]["logprobs"];
    assert_eq!(told["tokens"].as_array().unwrap().len(), 11);
    assert_eq!(told["token_logprobs"][0], Value::Null);
    assert_eq!(told["text_offset"].as_array().unwrap()[..4], [0, 1, 2, 3].map(|n| json!(n)));
    let after: Vec<&Value> = told["token_logprobs"].as_array().unwrap()[3..].iter().collect();
    for (one, other) in after.iter().zip(logprobs["token_logprobs"].as_array().unwrap()) {
        assert!((one.as_f64().unwrap() - other.as_f64().unwrap()).abs() < 1e-4);
    }
    let silent =
        post(house.address, PATH, &body(json!({ "echo": true, "logprobs": 1, "max_tokens": 0 }))).json();
    assert_eq!(silent["choices"][0]["text"], "abc");
    assert_eq!(silent["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(), 3);
    assert_eq!(silent["usage"]["completion_tokens"], 0);

    for (more, whole) in [(json!({}), text.to_owned()), (json!({ "echo": true }), format!("abc{text}"))] {
        let mut more = more;
        more["stream"] = json!(true);
        let streamed = chunks(house.address, PATH, &body(more));
        let said: String = streamed.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
        assert_eq!(said, whole);
        assert!(streamed.last().unwrap()["x_selvedge"]["tokens_per_s"].is_number());
    }
}

#[test]
fn texts_become_vectors() {
    let house = house(settings());
    const PATH: &str = "/v1/embeddings";
    let ask = |more: Value| {
        let mut body = json!({ "model": "embed", "input": ["abc", "xyz", "abc"] });
        more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        post(house.address, PATH, &body)
    };
    let vector = |one: &Value| -> Vec<f64> {
        one["embedding"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let answer = ask(json!({})).json();
    let vectors: Vec<Vec<f64>> = answer["data"].as_array().unwrap().iter().map(vector).collect();
    assert_eq!(vectors.len(), 3);
    assert_eq!(vectors[0].len(), WIDTH);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    assert!((dot(&vectors[0], &vectors[0]) - 1.0).abs() < 1e-5);
    assert!((dot(&vectors[0], &vectors[2]) - 1.0).abs() < 1e-5);
    assert!(dot(&vectors[0], &vectors[1]) < 0.999);
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 9);

    // The same bytes.
    use base64::Engine as _;
    let packed = ask(json!({ "encoding_format": "base64", "dimensions": WIDTH })).json();
    let bytes = packed["data"][1]["embedding"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(bytes).unwrap();
    let numbers = bytes.chunks(4).map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap())));
    assert_eq!(numbers.collect::<Vec<_>>(), vectors[1]);

    let param = |more: Value| ask(more).problem();
    assert_eq!(
        param(json!({ "dimensions": 8 })),
        (400, "unsupported_parameter".into(), Some("dimensions".into()))
    );
    let long = "a ".repeat(100);
    assert_eq!(
        param(json!({ "input": ["b", long] })),
        (400, "context_length_exceeded".into(), Some("input".into()))
    );
    assert_eq!(param(json!({ "input": [] })), (400, "invalid_value".into(), Some("input".into())));
    assert_eq!(param(json!({ "input": [[99_999]] })), (400, "invalid_value".into(), Some("input[0]".into())));
    // A model that writes gives its states only to who says how.
    assert_eq!(param(json!({ "model": "chat" })).0, 400);
    let states = ask(json!({ "model": "chat", "x_selvedge": { "pooling": "mean" } }));
    assert_eq!(states.status, 200, "{states:?}");
}

#[test]
fn a_response_is_answered_and_its_events_tell_the_same() {
    let house = house(settings());
    const PATH: &str = "/v1/responses";
    let body = json!({
        "model": "chat",
        "input": "hello",
        "instructions": "be brief",
        "temperature": 0,
        "max_output_tokens": 20,
        "store": true,
        "include": ["message.output_text.logprobs"],
        "logit_bias": { "256": -100, "257": -100, "258": -100 },
    });
    let whole = post(house.address, PATH, &body);
    assert_eq!(whole.status, 200, "{whole:?}");
    let whole = whole.json();
    assert_eq!(whole["object"], "response");
    assert_eq!((&whole["status"], &whole["store"]), (&json!("incomplete"), &json!(false)));
    assert_eq!(whole["incomplete_details"]["reason"], "max_output_tokens");
    let part = &whole["output"][0]["content"][0];
    assert_eq!(part["type"], "output_text");
    let text = part["text"].as_str().unwrap();
    assert_eq!(part["logprobs"].as_array().unwrap().len(), 20);
    assert_eq!(whole["usage"]["output_tokens"], 20);

    let mut streaming = body;
    streaming["stream"] = json!(true);
    let events: Vec<(String, Value)> = Events::ask(house.address, PATH, &streaming)
        .map(|(name, data)| (name.unwrap(), serde_json::from_str(&data).unwrap()))
        .collect();
    let names: Vec<&str> = events
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| *name != "response.output_text.delta")
        .collect();
    assert_eq!(
        names,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.incomplete",
        ]
    );
    for (at, (name, event)) in events.iter().enumerate() {
        assert_eq!(
            (event["type"].as_str(), event["sequence_number"].as_u64()),
            (Some(name.as_str()), Some(at as u64))
        );
    }
    let said: String = events
        .iter()
        .filter(|(name, _)| name == "response.output_text.delta")
        .map(|(_, event)| event["delta"].as_str().unwrap())
        .collect();
    assert_eq!(said, text);
    let last = &events.last().unwrap().1["response"];
    assert_eq!(last["output"][0]["content"][0]["text"], text);
    assert!(last["x_selvedge"]["tokens_per_s"].is_number());
}

#[test]
fn a_response_can_be_a_call() {
    let house = house(settings());
    let parameters = json!({ "type": "object", "properties": { "n": { "enum": [1, 2] } }, "required": ["n"], "additionalProperties": false });
    let body = json!({
        "model": "chat",
        "input": [{ "role": "user", "content": [{ "type": "input_text", "text": "call" }] }],
        "tools": [{ "type": "function", "name": "f", "parameters": parameters, "strict": true }],
        "tool_choice": { "type": "function", "name": "f" },
        "parallel_tool_calls": false,
        "temperature": 0,
        "logit_bias": { "32": -100, "10": -100, "9": -100, "13": -100, "220": -100, "198": -100 },
        "stream": true,
    });
    let events: Vec<(String, Value)> = Events::ask(house.address, "/v1/responses", &body)
        .map(|(name, data)| (name.unwrap(), serde_json::from_str(&data).unwrap()))
        .collect();
    let done = events
        .iter()
        .find(|(name, _)| name == "response.function_call_arguments.done")
        .expect("a call")
        .1
        .clone();
    assert_eq!(done["name"], "f");
    let arguments: Value = serde_json::from_str(done["arguments"].as_str().unwrap()).unwrap();
    assert!([1, 2].contains(&arguments["n"].as_i64().unwrap()));
    let (name, last) = events.last().unwrap();
    assert_eq!(name, "response.completed");
    let call = &last["response"]["output"][0];
    assert_eq!((&call["type"], &call["status"]), (&json!("function_call"), &json!("completed")));
}

#[test]
fn models_are_listed_and_told_apart() {
    let house = house(settings());
    let list = get(house.address, "/v1/models").json();
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["chat", "other", "embed"]);
    assert_eq!(get(house.address, "/v1/models/other").json()["x_selvedge"]["loaded"], false);
    let text = |model: &str| {
        let answer = post(house.address, CHAT, &chat("who", 12, json!({ "model": model }))).json();
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    assert_ne!(text("chat"), text("other"));
    let other = get(house.address, "/v1/models/other").json();
    assert_eq!(
        (&other["x_selvedge"]["loaded"], &other["x_selvedge"]["writes"]),
        (&json!(true), &json!(true))
    );
    let metrics = get(house.address, "/metrics").text;
    assert!(metrics.contains("selvedge_model_tokens_total{model=\"other\"} 12"), "{metrics}");
    assert!(
        metrics.contains("selvedge_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 2"),
        "{metrics}"
    );
}
