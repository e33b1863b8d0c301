//! A server for the tests, and what they ask of it.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use node::serve::offer::{Offer, Offers};
use node::serve::settings::{EngineSettings, Settings};
use node::serve::{Serving, start};
use serde_json::{Value, json};
use tempfile::TempDir;
use wire::world::System;

/// A server of `chat`, `other` (the same with other weights) and `embed`, on a free port.
pub(crate) struct House {
    pub(crate) serving: Serving,
    pub(crate) address: SocketAddr,
    _folder: TempDir,
}

/// What most tests begin with: few places, so that the full is met as well.
pub(crate) fn settings() -> Settings {
    let threads = NonZeroUsize::new(2);
    let engine = EngineSettings { parallel: 4, queue: 16, threads, ..EngineSettings::default() };
    Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        engine,
        grace: Duration::from_millis(300),
        ..Settings::default()
    }
}

pub(crate) fn house(settings: Settings) -> House {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(format!("{name}.gguf"));
    crate::tiny::chat(&path("chat"), 1);
    crate::tiny::chat(&path("other"), 2);
    crate::tiny::encoder(&path("embed"));
    let offers =
        ["chat", "other", "embed"].map(|name| Offer { name: name.to_owned(), ..Offer::of_file(&path(name)) });
    let serving = start(settings, Offers::Listed(offers.to_vec()), None, System::new()).unwrap();
    House { address: serving.address(), serving, _folder: folder }
}

/// A greedy chat request for `words`, with `more` over it.
pub(crate) fn chat(words: &str, max_tokens: usize, more: Value) -> Value {
    let mut body = json!({
        "model": "chat",
        "messages": [{ "role": "user", "content": words }],
        "temperature": 0,
        "max_tokens": max_tokens,
        // Nonsense has no end, but it may hit upon the token that is one.
        "logit_bias": { "256": -100, "257": -100, "258": -100 },
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// Waits for something that must come.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..4_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what} did not come");
}

/// A model as `ps` sees it, if it is loaded.
pub(crate) fn loaded(address: SocketAddr, name: &str) -> Option<Value> {
    let list = crate::client::get(address, "/selvedge/models").json();
    list["data"].as_array().unwrap().iter().find(|model| model["id"] == name).cloned()
}
