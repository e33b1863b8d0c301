//! A relay's door, met by friends and by others: a node that is a relay, a hub that only repeats what it hears, and whoever comes.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use node::agent::{Running, start};
use node::config::Config;
use node::status::RelayStatus;
use tempfile::TempDir;
use wire::identity::Code;
use wire::world::{Clock as _, System};

const TOKEN: &str = "a-token-of-the-relay";

/// A hub that says back what it hears; a relay sees no difference.
fn echo() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, met) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&met);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            count.fetch_add(1, SeqCst);
            std::thread::spawn(move || {
                let mut back = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut stream, &mut back);
                let _ = back.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    (address, met)
}

/// A node that is a relay to `hub`; `more`: further lines of `[relay]`, `of_hub` of `[hub]`.
fn relay(hub: SocketAddr, more: &str, of_hub: &str) -> (Running, SocketAddr, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("token", TOKEN);
    // It does not come in anywhere: tunnels need no right of the relay's own.
    write("code", &Code::draw(&mut System::new(), false, b"an authority").to_string());
    write("flow.toml", "[source.s]\ntype = \"http\"\n");
    write(
        "node.toml",
        &format!(
            "[node]\nname = \"relay-1\"\n[hub]\nurl = \"https://{hub}\"\ncode_file = \"code\"\n{of_hub}\n\
             [relay]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"token\"\n{more}\n\
             [api]\nlisten = \"127.0.0.1:0\"\n[journal]\nmin_free_bytes = \"0\"\n"
        ),
    );
    let running = start(config(dir.path()), System::new()).unwrap();
    let address = running.relay_addr().unwrap();
    (running, address, dir)
}

fn config(dir: &Path) -> Config {
    Config::load(&dir.join("node.toml")).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Says this, and hears the head of the answer; nothing, if it is turned away.
fn say(relay: SocketAddr, words: &str) -> (String, Option<TcpStream>) {
    let Ok(mut stream) = TcpStream::connect(relay) else { return (String::new(), None) };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    if stream.write_all(words.as_bytes()).is_err() {
        return (String::new(), None);
    }
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{words:?}: {error}"),
        }
    }
    (String::from_utf8(head).unwrap(), Some(stream))
}

fn connect(target: &str, token: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Bearer {token}\r\n\r\n")
}

fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {token}\r\n\r\n")
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// The numbers of its `/metrics`, by name and labels.
fn metrics(running: &Running) -> BTreeMap<String, f64> {
    let mut stream = TcpStream::connect(running.api_addr().unwrap()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), "200", "{answer}");
    let text = answer.split_once("\r\n\r\n").unwrap().1;
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("selvedge_")) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(found.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{name} twice");
    }
    found
}

/// How the relay says it is, once `holds`.
fn until(running: &Running, what: &str, holds: impl Fn(&RelayStatus) -> bool) -> RelayStatus {
    let clock = System::new();
    loop {
        let status = running.status().relay;
        if let Some(status) = status.as_ref().filter(|status| holds(status)) {
            return status.clone();
        }
        assert!(clock.mono_ns() < 30_000_000_000, "{what}: {status:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_tunnel_leads_to_the_hub_and_nowhere_else() {
    let (hub, _) = echo();
    let (other, met_other) = echo();
    let (running, relay, _dir) = relay(hub, "", "");
    let (answer, tunnel) = say(relay, &connect(&hub.to_string(), TOKEN));
    assert_eq!(status(&answer), "200", "{answer}");
    let mut tunnel = tunnel.unwrap();
    // Far more than any buffer on the way, both ways at once.
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut writer = tunnel.try_clone().unwrap();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut heard = Vec::new();
    tunnel.read_to_end(&mut heard).unwrap();
    writing.join().unwrap();
    assert!(heard == sent, "{} of {} bytes came back", heard.len(), sent.len());

    let local = format!("localhost:{}", hub.port());
    for (words, expected) in [
        (connect(&hub.to_string(), "another token"), "407"),
        (format!("CONNECT {hub} HTTP/1.1\r\nHost: {hub}\r\n\r\n"), "407"),
        (connect(&other.to_string(), TOKEN), "403"),
        // The same place by another name may be another tomorrow.
        (connect(&local, TOKEN), "403"),
        (connect(&format!("{}:22", hub.ip()), TOKEN), "403"),
        (connect("[::1]:8421", TOKEN), "403"),
        (
            format!(
                "CONNECT {hub} HTTP/1.1\r\nHost: {hub}\r\nProxy-Authorization: Bearer {TOKEN}\r\nSelvedge-Hops: 4\r\n\r\n"
            ),
            "508",
        ),
        (
            format!("GET http://{other}/ HTTP/1.1\r\nHost: {other}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"),
            "404",
        ),
        (get("/v2/", "another token"), "401"),
        (get("/v2/", TOKEN), "200"),
        (get("/v2/a/blobs/sha256:zz", TOKEN), "404"),
        (get("/api/v1/records", TOKEN), "404"),
        (get("/../../etc/passwd", TOKEN), "404"),
        (get("/v2/", TOKEN).replace("GET", "DELETE"), "405"),
        ("POST /api/v1/checkin HTTP/1.1\r\nHost: relay\r\nContent-Length: 2\r\n\r\n{}".to_owned(), "405"),
        ("not http at all\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = say(relay, &words).0;
        assert_eq!(status(&answer), expected, "{words}: {answer}");
    }
    assert_eq!(met_other.load(SeqCst), 0, "nobody was led astray");
    let seen =
        until(&running, "what it counted", |status| status.connections == 0 && status.refused.target >= 9);
    let behind = &seen.behind[0];
    assert_eq!((behind.up_bytes, behind.down_bytes), (3_000_000, 3_000_000), "{seen:?}");
    assert_eq!((seen.refused.token, seen.hub), (3, hub.to_string()));
    let told = metrics(&running);
    for (name, expected) in [
        ("selvedge_relay_connections", 0.0),
        ("selvedge_relay_connections_max", 256.0),
        ("selvedge_relay_connections_total", 17.0),
        ("selvedge_relay_tunnels_total", 1.0),
        ("selvedge_relay_refused_total{why=\"token\"}", 3.0),
        ("selvedge_relay_refused_total{why=\"full\"}", 0.0),
        ("selvedge_relay_bytes_total{way=\"up\"}", 3e6),
        ("selvedge_relay_bytes_total{way=\"down\"}", 3e6),
        ("selvedge_relay_bytes_total{way=\"cache\"}", 0.0),
        ("selvedge_relay_hub_up", 1.0),
        ("selvedge_relay_cache_hits_total", 0.0),
        ("selvedge_relay_cache_misses_total", 0.0),
        ("selvedge_relay_cache_bytes", 0.0),
        ("selvedge_relay_cache_quota_bytes", 4.0 * f64::from(1 << 30)),
        ("selvedge_source_readings_total{source=\"s\"}", 0.0),
    ] {
        assert_eq!(told.get(name), Some(&expected), "{name}: {told:?}");
    }
    running.stop().unwrap();
}

#[test]
fn relays_stand_behind_relays() {
    let (hub, _) = echo();
    let (first, first_at, _first_dir) = relay(hub, "", "");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("token"), TOKEN).unwrap();
    let token_file = dir.path().join("token");
    // The first of its relays is not there: it goes by the other.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let via = format!(
        "via = [\"http://{nobody}\", \"http://{first_at}\"]\nrelay_token_file = {:?}",
        token_file.display().to_string()
    );
    let (second, second_at, _second_dir) = relay(hub, "", &via);
    let answers: Vec<String> = (0..3).map(|_| say(second_at, &connect(&hub.to_string(), TOKEN)).0).collect();
    assert!(answers.iter().any(|answer| status(answer) == "200"), "{answers:?}");
    let (_, tunnel) = say(second_at, &connect(&hub.to_string(), TOKEN));
    let mut tunnel = tunnel.unwrap();
    tunnel.write_all(b"through both").unwrap();
    let mut heard = [0; 12];
    tunnel.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"through both");
    until(&first, "the first counts it", |status| status.behind.iter().any(|peer| peer.down_bytes >= 12));
    drop(tunnel);
    second.stop().unwrap();
    first.stop().unwrap();
}

#[test]
fn a_hub_that_is_away_is_said_to_be_away() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (running, relay, _dir) = relay(nobody, "", "");
    let answer = say(relay, &connect(&nobody.to_string(), TOKEN)).0;
    assert_eq!(status(&answer), "502", "{answer}");
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (path, expected) in [
        (format!("/v2/tiny/blobs/{digest}"), "503"),
        // As far as is known here there is no newer one, and a client may go on with what it has.
        ("/tuf/metadata/2.root.json".to_owned(), "404"),
        ("/api/v1/assignments".to_owned(), "503"),
    ] {
        let answer = say(relay, &get(&path, TOKEN)).0;
        assert_eq!(status(&answer), expected, "{path}: {answer}");
    }
    let seen =
        until(&running, "it says why", |status| status.trouble.is_some() && status.refused.no_hub >= 3);
    assert_eq!(seen.cache.map(|cache| cache.blobs), Some(0));
    let told = metrics(&running);
    let number = |name: &str| told.get(name).copied().unwrap_or(f64::NAN);
    assert_eq!(number("selvedge_relay_hub_up"), 0.0);
    assert_eq!(number("selvedge_uplink_up"), 0.0);
    assert!(number("selvedge_relay_refused_total{why=\"no_hub\"}") >= 3.0, "{told:?}");
    assert!(number("selvedge_relay_fetches_total{outcome=\"failed\"}") >= 1.0, "{told:?}");
    assert_eq!(number("selvedge_relay_fetches_total{outcome=\"answered\"}"), 0.0);
    assert_eq!(number("selvedge_relay_cache_misses_total"), 1.0, "{told:?}");
    running.stop().unwrap();
}

#[test]
fn a_line_that_takes_connections_and_carries_nothing_is_no_way_to_the_hub() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hub = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(drop));
    let (running, relay, _dir) = relay(hub, "cache = \"0\"", "");
    let (answer, tunnel) = say(relay, &connect(&hub.to_string(), TOKEN));
    assert_eq!(status(&answer), "200", "it opens: {answer}");
    // The first words of whoever comes in; the tunnel may be gone by now.
    let _ = tunnel.unwrap().write_all(b"hello");
    let seen = until(&running, "it says so", |status| status.hub_up == Some(false));
    assert_eq!(seen.moved.tunnels, 1, "{seen:?}");
    assert_eq!(metrics(&running).get("selvedge_relay_hub_up"), Some(&0.0));
    running.stop().unwrap();
}

#[test]
fn hostile_peers_are_bounded() {
    let (hub, _) = echo();
    let (running, relay, _dir) = relay(hub, "connections = 8\nper_address = 6", "");
    // A header that is too large, or has too many fields, or no end.
    let large = format!("GET /v2/ HTTP/1.1\r\nHost: relay\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    let many = format!("GET /v2/ HTTP/1.1\r\nHost: relay\r\n{}\r\n", "X: 1\r\n".repeat(1000));
    for words in [large, many] {
        let answer = say(relay, &words).0;
        assert!(matches!(status(&answer), "431" | ""), "{answer}");
    }
    // One address opens as many as it can, and says nothing, or half of something.
    until(&running, "all are gone", |status| status.connections == 0);
    let mut idle: Vec<TcpStream> = Vec::new();
    for at in 0..40 {
        let mut stream = TcpStream::connect(relay).unwrap();
        if at % 2 == 0 {
            let _ = stream.write_all(b"GET /v2/ HTT");
        }
        idle.push(stream);
    }
    let seen = until(&running, "its share", |status| status.refused.share >= 34);
    assert_eq!((seen.connections, seen.connections_max), (6, 8), "{seen:?}");
    // They leave by themselves after ten seconds, and the door opens again.
    until(&running, "strangers leave", |status| status.connections == 0);
    let (answer, tunnel) = say(relay, &connect(&hub.to_string(), TOKEN));
    assert_eq!(status(&answer), "200", "{answer}");
    // Somebody who does not read is not written to: the relay takes no more from the hub, and no memory.
    let mut tunnel = tunnel.unwrap();
    tunnel.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let piece = vec![7; 1 << 20];
    let mut sent = 0_u64;
    while sent < 1 << 30 {
        match tunnel.write(&piece) {
            Ok(written) => sent += written as u64,
            Err(_) => break,
        }
    }
    assert!(sent < 1 << 28, "{sent} bytes were taken from who reads nothing");
    drop((idle, tunnel));
    running.stop().unwrap();
}

#[test]
fn the_line_s_rate_is_kept() {
    let (hub, _) = echo();
    let (running, relay, _dir) = relay(hub, "rate = \"256KiB/s\"", "");
    let (_, tunnel) = say(relay, &connect(&hub.to_string(), TOKEN));
    let mut tunnel = tunnel.unwrap();
    let sent = vec![1; 256 << 10];
    let mut writer = tunnel.try_clone().unwrap();
    let clock = System::new();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut heard = Vec::new();
    tunnel.read_to_end(&mut heard).unwrap();
    writing.join().unwrap();
    // Half a megabyte over the line, there and back; a quarter of a second's worth is free.
    assert_eq!(heard.len(), 256 << 10);
    assert!(clock.mono_ns() > 1_500_000_000, "it took {} ns", clock.mono_ns());
    running.stop().unwrap();
}
