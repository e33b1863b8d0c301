//! A camera that streams over RTSP: GStreamer's server, which is killed, comes back, and wants a password.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use node::agent::Running;
use wire::world::{Clock as _, System};

use crate::light::{BRIGHT, folder, gstreamer};
use crate::stand::{records, run, source, until};

/// A server, ended when it is dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// On any port, if it is 0.
    fn start(python: &Path, port: u16, login: &[&str]) -> Server {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pictures/rtsp.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(port.to_string())
            .args(login)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("the server said {line:?}"));
        Server { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn flow(port: u16, more: &str) -> String {
    format!("[source.eye]\ntype = \"rtsp\"\nurl = \"rtsp://127.0.0.1:{port}{more}\n{BRIGHT}")
}

fn value(node: &Running, channel: &str) -> f64 {
    source(node).values[channel].as_f64().unwrap_or(f64::NAN)
}

#[test]
fn a_stream_is_seen_and_comes_back_by_itself_after_its_server_died() {
    let Some(python) = gstreamer("an RTSP camera") else { return };
    let server = Server::start(&python, 0, &[]);
    let port = server.port;
    let dir = folder(&flow(port, "/white\"\nevery = \"100ms\"\nsilence = \"3s\""));
    let node = run(dir.path());
    until("pictures", || source(&node).readings >= 10);
    // White, as H.264 has it, is as bright as a picture can be.
    assert!(
        value(&node, "brightness") > 225.0 && value(&node, "contrast") < 5.0,
        "{:?}",
        source(&node).values
    );
    let (now_ms, last_ms) = (System::new().wall_ms(), source(&node).last_ms.unwrap());
    assert!((now_ms - last_ms).abs() < 5_000, "{} ms off", now_ms - last_ms);
    drop(server);
    until("the trouble", || source(&node).state == "failed");
    println!("after its server died: {}", source(&node).reason);
    let before = source(&node).readings;
    let server = Server::start(&python, port, &[]);
    until("pictures again", || source(&node).readings >= before + 10);
    assert_eq!(source(&node).state, "running");
    node.stop().unwrap();
    drop(server);
    let answers = records(dir.path(), "inferences");
    assert_eq!(answers[0]["fields"]["label"], "bright", "{answers:?}");
    let raw = records(dir.path(), "readings.eye");
    let times: Vec<i64> =
        raw.iter().flat_map(|it| it["t_ms"].as_array().unwrap()).map(|t| t.as_i64().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
    let apart = times.windows(2).map(|pair| pair[1] - pair[0]).filter(|ms| *ms < 1_000).collect::<Vec<_>>();
    let mean_ms = apart.iter().sum::<i64>() as f64 / apart.len() as f64;
    println!("{} pictures, {mean_ms} ms apart", times.len());
    assert!((80.0..200.0).contains(&mean_ms), "{mean_ms} ms apart, wanted 100: {apart:?}");
}

#[test]
fn key_frames_alone_are_less_work_and_come_as_often_as_the_camera_sends_them() {
    let Some(python) = gstreamer("key frames of an RTSP camera") else { return };
    let server = Server::start(&python, 0, &[]);
    let dir = folder(&flow(server.port, "/ball\"\nevery = \"40ms\"\nframes = \"key\""));
    let node = run(dir.path());
    until("pictures", || source(&node).readings >= 4);
    // One a second is a key frame; the ball has moved since.
    assert!(value(&node, "change") > 0.5 && value(&node, "dropped") == 0.0, "{:?}", source(&node).values);
    node.stop().unwrap();
    let raw = records(dir.path(), "readings.eye");
    let times: Vec<i64> =
        raw.iter().flat_map(|it| it["t_ms"].as_array().unwrap()).map(|t| t.as_i64().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] > 500), "{times:?}");
}

#[test]
fn a_wrong_password_is_told_and_the_right_one_works() {
    let Some(python) = gstreamer("an RTSP camera with a password") else { return };
    let server = Server::start(&python, 0, &["viewer", "right"]);
    let said = |more: &str, why: &str| {
        let dir = folder(&flow(server.port, more));
        std::fs::write(dir.path().join("secret"), "wrong\n").unwrap();
        let node = run(dir.path());
        until(why, || source(&node).reason.contains(why));
        assert_eq!((source(&node).state, source(&node).readings), ("failed", 0));
        assert!(!source(&node).reason.contains("wrong"), "{}", source(&node).reason);
        node.stop().unwrap();
    };
    let login = "/white\"\nuser = \"viewer\"\npassword_file = \"secret\"";
    said(login, "refuses `viewer` with this password");
    said("/white\"", "add `user` and `password_file`");
    let dir = folder(&flow(server.port, login));
    std::fs::write(dir.path().join("secret"), "right\n").unwrap();
    let node = run(dir.path());
    until("pictures", || source(&node).readings >= 3);
    node.stop().unwrap();
}

#[test]
fn a_camera_that_is_away_or_too_large_is_told() {
    let dir = folder(&flow(1, "/white\""));
    let node = run(dir.path());
    until("the trouble", || source(&node).state == "failed");
    assert!(source(&node).reason.contains("Unable to connect"), "{}", source(&node).reason);
    node.stop().unwrap();
    let Some(python) = gstreamer("an RTSP camera that is too large") else { return };
    let server = Server::start(&python, 0, &[]);
    for (more, why) in [
        ("/white\"\nmax_pixels = 76799", "320×240 pixels, more than the 76799"),
        ("/nothing\"", "the camera has nothing at"),
    ] {
        let dir = folder(&flow(server.port, more));
        let node = run(dir.path());
        until(why, || source(&node).reason.contains(why));
        node.stop().unwrap();
    }
}
