//! Requests that no honest client sends, to a node's local API and to a hub.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::process::Server;

const LARGE: u64 = 100 << 20;
/// What a large body may cost: bodies within the limits, several at a time, and what the allocator keeps of them.
const GROWTH_MAX_KIB: u64 = 32 << 10;

/// What was answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Value,
    /// Bytes of the body that the other side took, or that waited in the sockets.
    sent: u64,
}

impl Answer {
    #[track_caller]
    fn text(&self, pointer: &str) -> &str {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer}: {self:?}"))
    }
}

/// Sends a request and reads its answer, while the body is still on its way.
fn ask(address: &str, head: &str, body: impl Iterator<Item = Vec<u8>> + Send) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut out = stream.try_clone().unwrap();
    let head = format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    out.write_all(head.as_bytes()).unwrap();
    let (text, sent) = std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut sent = 0;
            for block in body {
                if out.write_all(&block).is_err() {
                    break;
                }
                sent += block.len() as u64;
            }
            sent
        });
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}: {bytes:?}"),
            _ => {}
        }
        // Whoever still sends gives up.
        let _ = stream.shutdown(Shutdown::Both);
        (String::from_utf8(bytes).unwrap(), sending.join().unwrap())
    });
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, body: serde_json::from_str(body).unwrap_or(Value::Null), sent }
}

fn get(address: &str, path: &str) -> Answer {
    ask(address, &format!("GET {path} HTTP/1.1"), std::iter::empty())
}

fn post(address: &str, path: &str, content_type: &str, body: &[u8]) -> Answer {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nContent-Type: {content_type}\r\nContent-Length: {length}");
    ask(address, &head, std::iter::once(body.to_vec()))
}

/// Posts 100 MB, once announced and once in chunks of unknown number.
#[track_caller]
fn post_large(server: &Server, path: &str, content_type: &str) {
    let head = format!("POST {path} HTTP/1.1\r\nContent-Type: {content_type}");
    let block = vec![b' '; 1 << 16];
    let blocks = LARGE / block.len() as u64;
    let chunk = [format!("{:x}\r\n", block.len()).as_bytes(), &block, b"\r\n"].concat();
    let announced = format!("{head}\r\nContent-Length: {LARGE}");
    let chunked = format!("{head}\r\nTransfer-Encoding: chunked");
    let before_kib = server.peak_kib();
    for (head, block) in [(announced, block), (chunked, chunk)] {
        let answer = ask(&server.address, &head, (0..blocks).map(|_| block.clone()));
        println!("{path}: {} after {} bytes, peak {} KiB", answer.status, answer.sent, server.peak_kib());
        assert_eq!(answer.status, 413, "{answer:?}");
        assert!(answer.text("/error/message").contains("bytes"), "{answer:?}");
        assert!(answer.sent < LARGE / 2, "it read on: {} bytes", answer.sent);
    }
    let growth_kib = server.peak_kib().saturating_sub(before_kib);
    assert!(growth_kib < GROWTH_MAX_KIB, "{growth_kib} KiB more");
}

#[test]
fn a_node_refuses_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("node.toml", "[node]\nname = \"n\"\ndata = \"data\"\n[api]\nlisten = \"127.0.0.1:0\"\n");
    write("flow.toml", "[source.pump]\ntype = \"http\"\nchannels = [\"pressure\", \"flow\"]\n");
    let node = Server::start(folder.path(), &["node", "--config", "node.toml"]);
    let path = "/v1/readings/pump";
    post_large(&node, path, "application/json");

    let (json, lines) = ("application/json", "text/plain");
    let deep = [b"{\"values\":".as_slice(), &b"[".repeat(500_000)].concat();
    let bad: [(&str, &[u8], u16, &str); 14] = [
        (json, b"", 422, "EOF"),
        (json, b"{\n\"values\": {\"pressure\": }}", 422, "at line 2 column"),
        (json, b"\xff\xfe", 422, "not UTF-8"),
        (json, b"[]", 422, "it has no reading"),
        (json, br#"{"values":{"pressure":NaN}}"#, 422, "at line 1 column"),
        (json, br#"{"values":{"pressure":1e999}}"#, 422, "number out of range"),
        (json, br#"{"values":{"presure":1}}"#, 422, "did you mean `pressure`"),
        (json, br#"[{"values":{"flow":1}},{"values":{"x":1}}]"#, 422, "reading 2: there is no channel `x`"),
        (json, &deep, 422, "at line 1 column"),
        (lines, b"m pressure=1\nm pressure=high\n", 422, "line 2: field `pressure` is \"high\""),
        (lines, b"m pressure=nan", 422, "line 1: field `pressure` is \"nan\""),
        (lines, b"pressure", 422, "line 1: it has no fields"),
        (lines, b"m valve=1", 422, "line 1: there is no channel `valve`"),
        ("image/png", b"\x89PNG", 415, "send application/json"),
    ];
    for (content_type, body, status, expected) in bad {
        let answer = post(&node.address, path, content_type, body);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.text("/error/message").contains(expected), "{answer:?}");
    }

    let good = post(&node.address, path, json, br#"{"values":{"pressure":1.5,"flow":2}}"#);
    assert_eq!((good.status, &good.body["taken"]), (202, &Value::from(1)));
    assert_eq!(get(&node.address, "/health").status, 200);
}

#[test]
fn a_hub_refuses_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Server::start(folder.path(), &["hub", "--listen", "127.0.0.1:0", "--data", "data"]);
    let (batch, json) = (wire::batch::CONTENT_TYPE, "application/json");
    let (records, checkin) = ("/api/v1/records", "/api/v1/checkin");
    post_large(&hub, records, batch);
    post_large(&hub, checkin, json);

    let deep = b"[".repeat(200_000);
    let bad: [(&str, &str, &[u8], u16, &str); 10] = [
        (records, batch, b"", 400, "not-zstd"),
        (records, batch, b"hello", 400, "not-zstd"),
        // A frame that says nothing follows it, and one that is cut.
        (records, batch, b"\x28\xb5\x2f\xfd\x20\0\x01\0\0", 400, "bad-batch"),
        (records, batch, b"\x28\xb5\x2f\xfd", 400, "not-zstd"),
        (records, json, b"{}", 415, "content-type"),
        (checkin, json, b"", 400, "bad-checkin"),
        (checkin, json, b"\xff\0\xfe", 400, "bad-checkin"),
        (checkin, json, &deep, 400, "bad-checkin"),
        (checkin, json, br#"{"v":1,"node":"../../etc"}"#, 400, "bad-checkin"),
        (checkin, "text/plain", b"{}", 415, "content-type"),
    ];
    for (path, content_type, body, status, code) in bad {
        let answer = post(&hub.address, path, content_type, body);
        assert_eq!((answer.status, answer.text("/error/code")), (status, code), "{answer:?}");
        assert!(!answer.text("/error/message").is_empty() && !answer.text("/error/mend").is_empty());
    }
    assert_eq!(get(&hub.address, "/health").status, 200);
    let nodes = get(&hub.address, "/api/v1/nodes");
    assert_eq!((nodes.status, nodes.body.to_string().contains("etc")), (200, false));
}
