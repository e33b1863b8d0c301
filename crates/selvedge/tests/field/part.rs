//! What this test does inside a namespace: itself as another process there, told by its environment what to be.
//!
//! The forwarder takes connections of nodes and carries them to the hub: late, by jitter, in pieces of another size; and on a word it
//! cuts them, or ends one direction only. The asker says one thing to the hub's door for people.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use wire::world::{Clock as _, System};

use crate::net::{NODES, Net};

const ROLE: &str = "SELVEDGE_FIELD_ROLE";

/// What happens on the way.
#[derive(Default)]
struct Weather {
    delay_ms: AtomicU64,
    jitter_ms: AtomicU64,
    chance: AtomicU64,
    open: Mutex<Vec<(TcpStream, TcpStream)>>,
}

impl Weather {
    /// A number below `most`, from a line of them that anybody can draw again.
    fn draw(&self, most: u64) -> u64 {
        let next = |x: u64| x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = self.chance.fetch_update(Relaxed, Relaxed, |x| Some(next(x))).unwrap_or_default();
        (drawn >> 33) % most.max(1)
    }
}

/// The forwarder, as the test sees it.
pub(crate) struct Forwarder {
    child: Child,
    words: ChildStdin,
}

impl Forwarder {
    /// Starts it in its namespace.
    pub(crate) fn start(net: &Net) -> Forwarder {
        let mut child = part(net, "relay", "forwarder").stdin(Stdio::piped()).spawn().unwrap();
        let words = child.stdin.take().unwrap();
        Forwarder { child, words }
    }

    /// `weather DELAY JITTER` in milliseconds; `break`: every connection ends; `half`: towards the nodes they end, and stay open.
    pub(crate) fn say(&mut self, word: &str) {
        writeln!(self.words, "{word}").unwrap();
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the hub's door for people, as its first admin: the body of the answer.
pub(crate) fn ask(net: &Net, folder: &std::path::Path, method: &str, path: &str, body: &str) -> String {
    let token = std::fs::read_to_string(folder.join("hub/first-admin.token")).unwrap();
    let output = folder.join("answer");
    let mut command = part(net, "hub", "asker");
    command.env("FIELD_OUTPUT", &output).env(
        "FIELD_REQUEST",
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            token.trim(),
            body.len()
        ),
    );
    assert!(command.status().unwrap().success());
    let answer = std::fs::read_to_string(output).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn part(net: &Net, room: &str, role: &str) -> Command {
    let own = std::env::current_exe().unwrap();
    let mut command = net.command(room, own.to_str().unwrap());
    command.args(["part::a_part_that_is_played_in_a_namespace", "--exact", "--ignored"]).env(ROLE, role);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

#[test]
#[ignore = "the other test starts it where it belongs"]
fn a_part_that_is_played_in_a_namespace() {
    match std::env::var(ROLE).as_deref() {
        Ok("forwarder") => forward(),
        Ok("asker") => {
            let mut hub = TcpStream::connect("127.0.0.1:8420").unwrap();
            hub.write_all(std::env::var("FIELD_REQUEST").unwrap().as_bytes()).unwrap();
            let mut answer = String::new();
            hub.read_to_string(&mut answer).unwrap();
            std::fs::write(std::env::var("FIELD_OUTPUT").unwrap(), answer).unwrap();
        }
        _ => {}
    }
}

fn forward() {
    let weather = Arc::new(Weather::default());
    for node in 1..=NODES {
        let listener = TcpListener::bind((format!("10.77.{node}.1").as_str(), 8421)).unwrap();
        let weather = weather.clone();
        std::thread::spawn(move || {
            for node in listener.incoming().map_while(Result::ok) {
                let weather = weather.clone();
                // A hub that is away lets the node wait no longer than it would at the hub itself.
                std::thread::spawn(move || carry(&weather, node));
            }
        });
    }
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["weather", delay, jitter] => {
                weather.delay_ms.store(delay.parse().unwrap(), Relaxed);
                weather.jitter_ms.store(jitter.parse().unwrap(), Relaxed);
            }
            // Both fail only where a side is gone.
            ["break"] => weather.open.lock().unwrap().drain(..).for_each(|(node, hub)| {
                let _ = (node.shutdown(Shutdown::Both), hub.shutdown(Shutdown::Both));
            }),
            ["half"] => weather.open.lock().unwrap().iter().for_each(|(node, _)| {
                let _ = node.shutdown(Shutdown::Write);
            }),
            _ => panic!("{line}"),
        }
    }
}

fn carry(weather: &Arc<Weather>, node: TcpStream) {
    let Ok(hub) = TcpStream::connect_timeout(&"10.77.0.2:8421".parse().unwrap(), Duration::from_secs(5))
    else {
        return;
    };
    for stream in [&node, &hub] {
        stream.set_nodelay(true).unwrap();
    }
    let pair = (node.try_clone().unwrap(), hub.try_clone().unwrap());
    weather.open.lock().unwrap().push(pair);
    let (from, to) = (node.try_clone().unwrap(), hub.try_clone().unwrap());
    let up = weather.clone();
    std::thread::spawn(move || pump(&up, from, to));
    pump(weather, hub, node);
}

/// Carries one direction: each piece waits its time, and none overtakes another.
fn pump(weather: &Arc<Weather>, mut from: TcpStream, mut to: TcpStream) {
    let (clock, (queue, due)) = (System::new(), mpsc::channel::<(u64, Vec<u8>)>());
    let writer = std::thread::spawn(move || {
        for (at_ns, piece) in due {
            std::thread::sleep(Duration::from_nanos(at_ns.saturating_sub(clock.mono_ns())));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        // Fails only where it is gone.
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut bytes = [0; 1400];
    loop {
        // Pieces of every size, so that no reader is spared half a message.
        let most = 1 + usize::try_from(weather.draw(1399)).unwrap_or(0);
        let read = match from.read(&mut bytes[..most]) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let ms = weather.delay_ms.load(Relaxed) + weather.draw(weather.jitter_ms.load(Relaxed));
        if queue.send((clock.mono_ns() + ms * 1_000_000, bytes[..read].to_vec())).is_err() {
            break;
        }
    }
    drop(queue);
    // It ends by itself once everything is written.
    let _ = writer.join();
}
