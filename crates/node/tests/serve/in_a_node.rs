//! A node that serves a language model beside its flow.

use std::fs;
use std::path::PathBuf;

use node::agent;
use node::config::Config;
use node::serve::offer::Offers;
use serde_json::json;
use tempfile::TempDir;
use wire::world::System;

use crate::client::{ask_with, get};
use crate::house::chat;
use crate::tiny;

/// A folder with a node whose `[serve]` is this.
fn folder(serve: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let node = format!("[node]\nname = \"n\"\n[journal]\nmin_free_bytes = \"0\"\n{serve}");
    fs::write(folder.path().join("node.toml"), node).unwrap();
    fs::write(folder.path().join("flow.toml"), "[source.s]\ntype = \"http\"\n").unwrap();
    folder
}

fn read(folder: &TempDir) -> Result<Config, String> {
    Config::load(&folder.path().join("node.toml")).map_err(|errors| errors.to_string())
}

#[test]
fn a_node_serves_its_model_with_its_key() {
    let folder = folder(
        "[serve]\nlisten = \"127.0.0.1:0\"\nmodels = [\"chat.gguf\"]\ntoken_file = \"key\"\nthreads = 1\n\
         draft = \"chat.gguf\"\nprefixes = \"kept\"\n",
    );
    tiny::chat(&folder.path().join("chat.gguf"), 1);
    fs::write(folder.path().join("key"), "sk-node\n").unwrap();
    let running = agent::start(read(&folder).unwrap(), System::new()).unwrap();
    let address = running.serve_addr().unwrap();
    assert_eq!(get(address, "/v1/models").status, 401);
    let key = "Authorization: Bearer sk-node\r\n";
    let body = chat("hello", 4, json!({})).to_string();
    let answer = ask_with(address, "POST", "/v1/chat/completions", key, body.as_bytes());
    assert_eq!((answer.status, &answer.json()["usage"]["completion_tokens"]), (200, &json!(4)));
    running.stop().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
    assert_eq!(
        fs::read_dir(folder.path().join("kept")).unwrap().count(),
        1,
        "what was read outlives the node"
    );
}

#[test]
fn a_node_without_the_table_serves_nothing() {
    let running = agent::start(read(&folder("")).unwrap(), System::new()).unwrap();
    assert_eq!(running.serve_addr(), None);
    running.stop().unwrap();
}

#[test]
fn what_the_table_says_is_read_or_refused() {
    let config = read(&folder(
        "[serve]\nshelf = \"models\"\ncontext = 2048\nparallel = 2\nqueue = 3\ncache_type = \"q8_0\"\n\
         cache_bytes = \"64MiB\"\nmemory_bytes = \"1GiB\"\nkeep_alive = \"never\"\nguess = false\n\
         draft = \"node.toml\"\nprefixes = \"kept\"\n",
    ));
    let serve = config.unwrap().serve.unwrap();
    let engine = &serve.settings.engine;
    assert_eq!(
        (engine.context, engine.parallel, engine.queue, engine.cache_bytes),
        (Some(2048), 2, 3, Some(64 << 20))
    );
    let ends_with = |path: &Option<PathBuf>, end| path.as_ref().is_some_and(|path| path.ends_with(end));
    assert!(!engine.guess && ends_with(&engine.draft, "node.toml") && ends_with(&engine.prefixes, "kept"));
    assert_eq!((serve.settings.memory_bytes, serve.settings.keep_alive), (Some(1 << 30), None));
    assert_eq!(serve.settings.listen.to_string(), "127.0.0.1:8422");
    assert!(matches!(serve.offers, Offers::Shelf(shelf) if shelf.root().ends_with("models")));
    let check = |serve: &str, expected: &str| {
        let found = read(&folder(&format!("[serve]\n{serve}"))).unwrap_err();
        assert!(found.contains(expected), "{found}");
    };
    check("", "`serve` has no `models` and no `shelf`");
    check("models = []\nshelf = \"x\"", "both `models` and a `shelf`");
    check("shelf = \"x\"\nlisten = \"0.0.0.0:1\"", "can be reached from other machines");
    check("shelf = \"x\"\nlisten = \"0.0.0.0:1\"\nallow_remote = true", "and a `token_file`");
    check("shelf = \"x\"\ncache_type = \"q4\"", "none of");
    check("shelf = \"x\"\nparallel = 0", "parallel");
    check("shelf = \"x\"\nprefixes = \"node.toml\"", "node.toml is a file; name a folder");
    check("models = [\"a.gguf\"]\ndraft = \"none.gguf\"", "`draft` of `serve`: there is no file ");
    check("shelf = \"x\"\ndraft = \"none\"", "and on the shelf: there is no model \"none\"");
    check("shelf = \"x\"\nkeepalive = \"1m\"", "did you mean `keep_alive`?");
}
