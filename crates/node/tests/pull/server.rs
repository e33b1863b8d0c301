//! A server on loopback that plays repository and storage, with every fault that a test asks for.
//!
//! It writes its answers byte by byte: a kept HTTP library would not let it lie.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A question, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Path and query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A header; names are lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The first byte that is asked for.
    pub(crate) fn from(&self) -> usize {
        self.range().map_or(0, |(from, _)| from)
    }

    /// The first byte that is asked for, and the last one, if a range is.
    pub(crate) fn range(&self) -> Option<(usize, Option<usize>)> {
        let (from, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse().unwrap(), last.parse().ok()))
    }
}

/// An answer, and what goes wrong with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Says this length instead of the true one.
    pub(crate) length: Option<usize>,
    /// Says no length: the body ends with the connection.
    pub(crate) no_length: bool,
    /// Breaks off after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Breaks off with a reset instead of an end.
    pub(crate) reset: bool,
    /// Sends the body again and again.
    pub(crate) endless: bool,
    /// Waits between pieces of `piece` bytes.
    pub(crate) pause: Option<Duration>,
    pub(crate) piece: usize,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, body: body.into(), piece: 16 << 10, ..Reply::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl std::fmt::Display) -> Reply {
        self.headers.push((name.into(), value.to_string()));
        self
    }

    /// A file, as an honest server sends it.
    pub(crate) fn file(request: &Request, bytes: &[u8], etag: &str) -> Reply {
        let etag = format!("\"{etag}\"");
        if request.header("if-none-match") == Some(&etag) {
            return Reply::new(304, "").with("ETag", etag);
        }
        let (from, until) = match request.range() {
            Some((from, Some(last))) => (from, bytes.len().min(last + 1)),
            range => (range.map_or(0, |(from, _)| from), bytes.len()),
        };
        let is_part = from > 0 || until < bytes.len();
        let same = request.header("if-range").is_none_or(|range| range == etag);
        let total = bytes.len();
        match from {
            from if is_part && same && from >= total => {
                Reply::new(416, "").with("Content-Range", format!("bytes */{total}")).with("ETag", etag)
            }
            from if is_part && same => {
                let range = format!("bytes {from}-{}/{total}", until - 1);
                Reply::new(206, &bytes[from..until]).with("Content-Range", range).with("ETag", etag)
            }
            _ => Reply::new(200, bytes).with("ETag", etag),
        }
    }
}

type Play = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// The server; ends with the test's runtime.
pub(crate) struct Server {
    /// `http://127.0.0.1:port`.
    pub(crate) url: String,
    log: Arc<Mutex<Vec<Request>>>,
    sent: Arc<Mutex<usize>>,
}

impl Server {
    /// `play` gets the request and how many there were before it.
    pub(crate) async fn start(play: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (log, sent) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let play: Arc<Play> = Arc::new(play);
        let (seen, count) = (log.clone(), sent.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, play.clone(), seen.clone(), count.clone()));
            }
        });
        Server { url, log, sent }
    }

    /// All questions so far.
    pub(crate) fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// The bytes of all bodies so far.
    pub(crate) fn sent(&self) -> usize {
        *self.sent.lock().unwrap()
    }
}

async fn answer(
    mut stream: TcpStream,
    play: Arc<Play>,
    log: Arc<Mutex<Vec<Request>>>,
    sent: Arc<Mutex<usize>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 64 << 10 {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8(head).unwrap();
    let mut lines = text.lines();
    let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let request = Request { path, headers };
    let before = {
        let mut log = log.lock().unwrap();
        log.push(request.clone());
        log.len() - 1
    };
    let reply = play(&request, before);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !reply.no_length && !reply.endless && reply.status != 304 {
        head.push_str(&format!("Content-Length: {}\r\n", reply.length.unwrap_or(reply.body.len())));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    let body = &reply.body[..reply.cut.unwrap_or(usize::MAX).min(reply.body.len())];
    loop {
        for piece in body.chunks(reply.piece.max(1)) {
            stream.write_all(piece).await?;
            *sent.lock().unwrap() += piece.len();
            if let Some(pause) = reply.pause {
                tokio::time::sleep(pause).await;
            }
        }
        if !reply.endless {
            break;
        }
    }
    if reply.reset {
        // A reset takes with it what was sent and not yet read.
        tokio::time::sleep(Duration::from_millis(200)).await;
        stream.set_zero_linger()?;
        return Ok(());
    }
    stream.shutdown().await
}
