//! A client of few words: one request a connection, answers whole or event by event.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// An answer in one piece.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status, `error.code` and `error.param`.
    pub(crate) fn problem(&self) -> (u16, String, Option<String>) {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        assert!(error["type"].is_string(), "{self:?}");
        (
            self.status,
            error["code"].as_str().unwrap_or("").to_owned(),
            error["param"].as_str().map(str::to_owned),
        )
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line =
            self.headers.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim())
    }
}

fn send(address: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A server that has refused already may not read it all.
    let _ = stream.write_all(body);
    BufReader::new(stream)
}

fn head(reader: &mut BufReader<TcpStream>) -> (u16, String) {
    let mut headers = String::new();
    while !headers.ends_with("\r\n\r\n") {
        if reader.read_line(&mut headers).unwrap() == 0 {
            panic!("it ended in its header: {headers:?}");
        }
    }
    let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    (status, headers)
}

/// One request with more headers, each ended by `\r\n`.
pub(crate) fn ask_with(address: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut reader = send(address, method, path, headers, body);
    let (status, headers) = head(&mut reader);
    let mut bytes = Vec::new();
    let chunked = headers.to_ascii_lowercase().contains("transfer-encoding: chunked");
    if chunked {
        while let Some(chunk) = chunk(&mut reader) {
            bytes.extend(chunk);
        }
    } else {
        reader.read_to_end(&mut bytes).unwrap();
    }
    Answer { status, headers, text: String::from_utf8(bytes).unwrap() }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    ask_with(address, "GET", path, "", b"")
}

pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    ask_with(address, "POST", path, "", body.to_string().as_bytes())
}

fn chunk(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let length = usize::from_str_radix(line.trim(), 16).ok()?;
    let mut bytes = vec![0; length + 2];
    reader.read_exact(&mut bytes).ok()?;
    bytes.truncate(length);
    (length > 0).then_some(bytes)
}

/// An answer as it comes. Dropping it goes away.
pub(crate) struct Events {
    reader: BufReader<TcpStream>,
    pending: String,
}

impl Events {
    /// Asks and reads the header.
    pub(crate) fn ask(address: SocketAddr, path: &str, body: &Value) -> Events {
        let mut reader = send(address, "POST", path, "", body.to_string().as_bytes());
        let (status, headers) = head(&mut reader);
        assert!(status == 200 && headers.contains("text/event-stream"), "{headers}");
        Events { reader, pending: String::new() }
    }
}

impl Iterator for Events {
    /// The event's name, if it has one, and its data.
    type Item = (Option<String>, String);

    fn next(&mut self) -> Option<(Option<String>, String)> {
        loop {
            while let Some(end) = self.pending.find("\n\n") {
                let event: String = self.pending.drain(..end + 2).collect();
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                // A comment is no event.
                if let Some(data) = field("data: ") {
                    return Some((field("event: "), data));
                }
            }
            let bytes = chunk(&mut self.reader)?;
            self.pending.push_str(&String::from_utf8(bytes).unwrap());
        }
    }
}

/// The chunks of a stream that ends as it should.
pub(crate) fn chunks(address: SocketAddr, path: &str, body: &Value) -> Vec<Value> {
    let mut data: Vec<String> = Events::ask(address, path, body).map(|(_, data)| data).collect();
    assert_eq!(data.pop().as_deref(), Some("[DONE]"));
    data.iter().map(|data| serde_json::from_str(data).unwrap()).collect()
}
