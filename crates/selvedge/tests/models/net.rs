//! `pull`, `ps`, `stop`: what comes from a server, and what is asked of one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use crate::stage::Stage;

/// A server that answers each path with one body, one request to a connection; gives its address and what it was asked.
fn server(answer: impl Fn(&str) -> (u16, Vec<u8>) + Send + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            let request: String = first.trim_end_matches(" HTTP/1.1").to_owned();
            let _ = lines.find(String::is_empty);
            let (status, body) = answer(&request);
            seen.lock().unwrap().push(request);
            let head =
                format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    (address, asked)
}

#[test]
fn a_model_is_pulled_from_an_address() {
    let stage = Stage::new();
    let bytes = std::fs::read(stage.path("tiny.gguf")).unwrap();
    let (address, _) = server(move |request| match request.ends_with("/Tiny-F16.gguf") {
        true => (200, bytes.clone()),
        false => (404, b"nothing here".to_vec()),
    });
    let pulled = stage.run(&["pull", &format!("{address}/Tiny-F16.gguf")]);
    assert!(pulled.err.contains("tiny:f16: Tiny-F16.gguf"), "{}", pulled.err);
    assert!(pulled.ok().starts_with("pulled tiny:f16 ("));
    assert!(!stage.run(&["run", "tiny", "-n", "3", "the"]).ok().is_empty());
    let (code, error) = stage.run(&["pull", &format!("{address}/other.gguf")]).failed();
    assert!(code == Some(1) && error.contains("there is nothing at"), "{error}");
    let (code, error) = stage.run(&["pull", "not a model"]).failed();
    assert!(code == Some(1) && error.contains("owner/name:q4_k_m"), "{error}");
}

#[test]
fn a_server_says_what_is_loaded_and_unloads_it() {
    let stage = Stage::new();
    let loaded = r#"{"object":"list","data":[{"id":"tiny:f16","family":"llama","parameters":1300000,"quantisation":"F16",
        "context":256,"memory_bytes":5000000,"running":2,"waiting":1,"tokens_per_s":41.5,"unloading":false,"idle_s":null},
        {"id":"plain","parameters":1300000,"quantisation":"F16","context":256,"memory_bytes":5000000,"running":0,"waiting":0,
        "tokens_per_s":null,"unloading":false,"idle_s":180.0}]}"#;
    let (address, asked) = server(move |request| match request.split(' ').next() {
        Some("GET") => (200, loaded.as_bytes().to_vec()),
        _ if request.ends_with("own/busy") => (202, br#"{"id":"own/busy","waits_for":2}"#.to_vec()),
        _ => (404, br#"{"error":{"message":"the model \"x\" is not loaded"}}"#.to_vec()),
    });
    insta::assert_snapshot!("ps", stage.run(&["ps", "--url", &address]).ok());
    assert_eq!(stage.run(&["ps", "--url", &address, "--json"]).json()[0]["running"], 2);
    let stopped = stage.run(&["stop", "own/busy", "--url", &address]).ok();
    assert_eq!(stopped, "own/busy is unloaded as soon as 2 answers are written\n");
    let (code, error) = stage.run(&["stop", "x", "--url", &address]).failed();
    assert!(code == Some(1) && error.contains("the model \"x\" is not loaded"), "{error}");
    assert_eq!(asked.lock().unwrap()[2], "DELETE /selvedge/models/own/busy");
    // A port that was free a moment ago.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, error) = stage.run(&["ps", "--url", &format!("http://{nobody}")]).failed();
    assert!(code == Some(1) && error.contains("start one with `selvedge serve`"), "{error}");
}
