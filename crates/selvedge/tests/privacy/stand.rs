//! What the tests of ways out stand on: a proxy before the hub that keeps what passes, looks into files, waiting, and posts.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use wire::world::{Clock as _, System};

/// The longest that anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Passes bytes on to the hub, and keeps them.
pub(crate) fn proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let kept = Arc::clone(&seen);
    let pass = |mut from: TcpStream, mut to: TcpStream, kept: Arc<Mutex<Vec<u8>>>| {
        std::thread::spawn(move || {
            let mut one = Vec::new();
            let mut bytes = [0; 16 << 10];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                one.extend_from_slice(&bytes[..count]);
                if to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            drop(to.shutdown(std::net::Shutdown::Both));
            kept.lock().unwrap().extend_from_slice(&one);
        });
    };
    std::thread::spawn(move || {
        for from in listener.incoming() {
            let (from, to) = (from.unwrap(), TcpStream::connect(to).unwrap());
            pass(from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&kept));
            pass(to, from, Arc::clone(&kept));
        }
    });
    (address, seen)
}

/// What was said, with batches unpacked: a batch is compressed, and a word in it would be found by nobody.
pub(crate) fn unpacked(bytes: &[u8]) -> String {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    for at in bytes.windows(4).enumerate().filter(|(_, it)| *it == MAGIC).map(|(at, _)| at) {
        let mut batch = Vec::new();
        let mut frame = zstd::stream::read::Decoder::new(&bytes[at..]).unwrap().single_frame();
        drop(frame.read_to_end(&mut batch));
        text.push_str(&String::from_utf8_lossy(&batch));
    }
    text
}

/// Everything in the files of a folder.
pub(crate) fn contents(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => text.push_str(&contents(&path)),
            false => text.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default())),
        }
    }
    text
}

pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let clock = System::new();
    let begun_ns = clock.mono_ns();
    while !is_so() {
        assert!(clock.mono_ns() - begun_ns < PATIENCE.as_nanos() as u64, "not yet: {what}");
        sleep(Duration::from_millis(20));
    }
}

pub(crate) fn post(at: SocketAddr, source: &str, content_type: &str, body: &str) {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST /v1/readings/{source} HTTP/1.1\r\nhost: {at}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
}

/// What the local API answers, without its head.
pub(crate) fn get(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}
