//! The console in a real browser, over `selvedge up` as a user starts it.
//!
//! Drives Debian's Chromium from the command line; where there is none, says so and is skipped.

#![expect(clippy::disallowed_methods, reason = "it waits for real processes")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `selvedge up` on a free port and gives the console's address.
fn up(data: &Path) -> (Running, String) {
    let child = Command::new(env!("CARGO_BIN_EXE_selvedge"))
        .args(["up", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .env("NO_COLOR", "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut running = Running(child);
    let mut lines = BufReader::new(running.0.stdout.take().expect("stdout is piped")).lines();
    let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let at = line.find("http://127.0.0.1:")?;
        Some(line[at..].trim().to_owned())
    });
    // It goes on talking, and would end if nobody listened.
    std::thread::spawn(move || lines.for_each(drop));
    (running, address.expect("`selvedge up` prints an address"))
}

fn chromium(profile: &Path, arguments: &[&str], url: &str) -> Output {
    Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--window-size=1280,1000"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .arg(url)
        .output()
        .expect("chromium runs")
}

/// What the page is after its scripts ran for a while, and what they complained of.
fn page(profile: &Path, url: &str) -> (String, Vec<String>) {
    let output = chromium(profile, &["--virtual-time-budget=5000", "--dump-dom"], url);
    let complaints = String::from_utf8_lossy(&output.stderr)
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .map(str::to_owned)
        .collect();
    (String::from_utf8_lossy(&output.stdout).into_owned(), complaints)
}

#[test]
fn chromium_shows_a_live_anomaly() {
    if Command::new("chromium").arg("--version").output().is_err() {
        eprintln!("skipped: chromium is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_running, console) = up(&folder.path().join("data"));
    let profile = folder.path().join("profile");

    // The simulated station brings its own past: within seconds it has been wrong at least once.
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let (alerts, complaints) = page(&profile, &format!("{console}/alerts"));
        assert_eq!(complaints, Vec::<String>::new());
        if alerts.contains("unusual") {
            break;
        }
        assert!(Instant::now() < deadline, "no alert within 40 s: {alerts}");
    }

    for path in ["/", "/nodes", "/records", "/nodes/pump-station"] {
        let (html, complaints) = page(&profile, &format!("{console}{path}"));
        assert_eq!(complaints, Vec::<String>::new(), "{path}");
        assert!(html.contains("pump-station"), "{path}: {html}");
    }
    let (node, _) = page(&profile, &format!("{console}/nodes/pump-station"));
    for channel in ["vibration_mm_s", "pressure_bar", "temperature_c", "flow_m3h", "current_a"] {
        assert!(node.contains(channel), "{channel} has a chart");
    }
    assert!(node.matches("<path").count() >= 5, "the charts are drawn: {node}");

    let picture = folder.path().join("node.png");
    let screenshot = format!("--screenshot={}", picture.display());
    chromium(&profile, &["--virtual-time-budget=5000", &screenshot], &format!("{console}/nodes/pump-station"));
    assert!(std::fs::metadata(&picture).is_ok_and(|file| file.len() > 10_000), "a screenshot is drawn");
}
