//! Whoever a node tells something beside its hub: a broker, servers that take what is posted, a client of agents. What they were told is kept.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use node::mqtt::broker::{Broker, Version};
use node::mqtt::{Event, Link, Session};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::stand::{PATIENCE, wait};

/// A mosquitto of our own.
pub(crate) struct Mosquitto {
    child: Child,
    pub(crate) port: u16,
    _folder: tempfile::TempDir,
}

/// Starts one; `None`, and a word, where there is no mosquitto.
pub(crate) fn mosquitto() -> Option<Mosquitto> {
    let places = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"];
    let Some(program) = places.iter().map(Path::new).find(|path| path.exists()) else {
        eprintln!("skipped: there is no mosquitto on this machine");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // Whoever is not root stays who he is, whatever stands there.
    let conf = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest none\n");
    std::fs::write(folder.path().join("mosquitto.conf"), conf).unwrap();
    let child = Command::new(program)
        .arg("-c")
        .arg(folder.path().join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let broker = Mosquitto { child, port, _folder: folder };
    wait("the broker listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    Some(broker)
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Mosquitto {
    fn broker(&self) -> Broker {
        Broker {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            version: Version::V5,
            tls: None,
            user: None,
            password_file: None,
        }
    }

    /// Publishes at QoS 1, each some time after the one before: readings have the time of their arrival.
    pub(crate) fn publish(&self, messages: &[(&str, Vec<u8>)]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let all = async {
            let mut link = Link::open(&self.broker(), "devices", Session::Clean, None).unwrap();
            while !matches!(link.next().await.unwrap(), Event::Connected { .. }) {}
            for (topic, payload) in messages {
                sleep(Duration::from_millis(15)).await;
                let sent = link.publish((*topic).to_owned(), payload.clone(), false).await.unwrap();
                let mut taken = std::pin::pin!(sent.taken());
                loop {
                    tokio::select! {
                        taken = &mut taken => {
                            taken.unwrap();
                            break;
                        }
                        event = link.next() => drop(event.unwrap()),
                    }
                }
            }
            link.leave().unwrap();
            drop(timeout(Duration::from_secs(1), async { while link.next().await.is_ok() {} }).await);
        };
        runtime.block_on(async { timeout(PATIENCE, all).await.expect("the broker takes what it is given") });
    }
}

/// Hears what is published under some topics.
pub(crate) struct Listener {
    heard: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Listener {
    /// One that listens already.
    pub(crate) fn new(at: &Mosquitto, filters: &[&str]) -> Listener {
        let heard = Arc::new(Mutex::new(String::new()));
        let (stop, ready) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (tell, stopped, listens) = (Arc::clone(&heard), Arc::clone(&stop), Arc::clone(&ready));
        let broker = at.broker();
        let filters: Vec<String> = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let thread = spawn(move || hear(&broker, &filters, &tell, &stopped, &listens));
        wait("somebody listens at the broker", || ready.load(Relaxed));
        Listener { heard, stop, thread }
    }

    /// Waits for a word, and gives everything up to it: topics and payloads.
    pub(crate) fn until(self, word: &str) -> String {
        wait(word, || self.heard.lock().unwrap().contains(word));
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap();
        self.heard.lock().unwrap().clone()
    }
}

fn hear(broker: &Broker, filters: &[String], heard: &Mutex<String>, stop: &AtomicBool, ready: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut link = Link::open(broker, "listener", Session::Clean, None).unwrap();
        while !stop.load(Relaxed) {
            // Nothing is lost when nobody waits.
            let Ok(event) = timeout(Duration::from_millis(100), link.next()).await else { continue };
            match event.unwrap() {
                Event::Connected { .. } => link.subscribe(filters, 0).unwrap(),
                Event::Subscribed { refused } => {
                    assert!(refused.is_empty(), "{refused:?}");
                    ready.store(true, Relaxed);
                }
                Event::Message(message) => {
                    let payload = String::from_utf8_lossy(&message.payload);
                    heard.lock().unwrap().push_str(&format!("{} {payload}\n", message.topic));
                }
                Event::Other => {}
            }
        }
    });
}

/// Says, of each request by its number from 0, how it is answered, and whether what was sent is sent back.
pub(crate) type Answer = fn(usize) -> (&'static str, bool);

/// Takes what is posted.
pub(crate) struct Taker {
    pub(crate) at: SocketAddr,
    taken: Arc<Mutex<String>>,
}

impl Taker {
    /// One that listens.
    pub(crate) fn new(answer: Answer) -> Taker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, taken) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(String::new())));
        let (kept, count) = (Arc::clone(&taken), Arc::new(AtomicUsize::new(0)));
        spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (kept, count) = (Arc::clone(&kept), Arc::clone(&count));
                spawn(move || take(stream, &kept, &count, answer));
            }
        });
        Taker { at, taken }
    }

    /// Heads and bodies so far.
    pub(crate) fn taken(&self) -> String {
        self.taken.lock().unwrap().clone()
    }
}

/// Serves one connection until it ends.
fn take(mut stream: TcpStream, kept: &Mutex<String>, count: &AtomicUsize, answer: Answer) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut head, mut line, mut length) = (String::new(), String::new(), 0_usize);
        while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
            line.clear();
        }
        let mut body = vec![0; length];
        if head.is_empty() || reader.read_exact(&mut body).is_err() {
            return;
        }
        kept.lock().unwrap().push_str(&format!("{head}{}\n", String::from_utf8_lossy(&body)));
        let (status, is_sent_back) = answer(count.fetch_add(1, Relaxed));
        let said = if is_sent_back { body } else { b"{}".to_vec() };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            said.len()
        );
        if stream.write_all(head.as_bytes()).is_err() || stream.write_all(&said).is_err() {
            return;
        }
    }
}

/// An agent's client: starts `selvedge mcp` beside the node, asks whatever there is to ask, and gives all that it was told, the log too.
pub(crate) fn ask_as_an_agent(folder: &Path, log: &str) -> String {
    let mut server = Command::new(env!("CARGO_BIN_EXE_selvedge"))
        .args(["--log", log, "mcp"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(folder.join("agent.log")).unwrap())
        .spawn()
        .unwrap();
    let (mut to, from) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
    let (tell, told) = channel();
    spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    let hello = json!({
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"},
    });
    let call = |tool: &str, arguments: Value| json!({"name": tool, "arguments": arguments});
    let questions = [
        ("initialize", hello),
        ("notifications/initialized", json!({})),
        ("tools/list", json!({})),
        ("tools/call", call("state", json!({}))),
        ("tools/call", call("decisions", json!({"count": 100}))),
        ("tools/call", call("why", json!({"seq": 1}))),
        ("tools/call", call("why", json!({"seq": 1, "stream": "acts"}))),
        ("tools/call", call("actuators", json!({}))),
    ];
    let mut said = String::new();
    for (id, (method, params)) in questions.into_iter().enumerate() {
        let mut question = json!({"jsonrpc": "2.0", "method": method, "params": params});
        if method.starts_with("notifications/") {
            writeln!(to, "{question}").unwrap();
            continue;
        }
        question["id"] = json!(id);
        writeln!(to, "{question}").unwrap();
        loop {
            let line = told.recv_timeout(PATIENCE).expect("the server answers");
            said.push_str(&line);
            said.push('\n');
            let answer: Value = serde_json::from_str(&line).unwrap();
            if answer["id"] == json!(id) {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                break;
            }
        }
    }
    drop(to);
    wait("the server ends with its client", || server.try_wait().unwrap().is_some());
    said + &std::fs::read_to_string(folder.join("agent.log")).unwrap()
}
