//! The console in a real browser, over `selvedge up` as a user starts it.
//!
//! Where Chromium is not installed, says so and is skipped. `SELVEDGE_SCREENSHOTS=DIR` keeps the pictures.

#![expect(clippy::disallowed_methods, reason = "it waits for real processes")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod browser;
mod picture;
mod process;
#[allow(dead_code, reason = "a stage that other tests use, too")]
#[path = "../packages/stage.rs"]
mod stage;
mod way;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use browser::Browser;
use picture::keep;
use process::Running;
use serde_json::json;

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

#[test]
fn chromium_shows_a_live_anomaly() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut browser) = Browser::start(&folder.path().join("profile")) else {
        eprintln!("skipped: chromium is not installed");
        return;
    };
    let (_running, console) = up(&folder.path().join("data"));
    let soon = Duration::from_secs(30);

    // The simulated station brings its own past: within seconds it has been wrong at least once.
    browser.open(&format!("{console}/alerts"));
    browser.wait_for("document.body.innerText.includes('unusual')", soon);

    browser.open(&format!("{console}/"));
    browser.wait_for("document.body.innerText.includes('pump-station')", soon);
    keep(&mut browser, "overview.png");

    // Charts are drawn, every channel has one, an anomaly is marked, and they move.
    browser.resize(1280, 1400, false);
    browser.open(&format!("{console}/nodes/pump-station"));
    let drawn = "document.querySelectorAll('main svg path').length >= 5 && ['vibration', 'pressure', 'temperature', \
                 'flow', 'current'].every(channel => document.querySelector('main').innerText.includes(channel))";
    browser.wait_for(drawn, soon);
    browser.wait_for("document.body.innerText.includes('Live')", soon);
    keep(&mut browser, "node.png");
    let charts = "[...document.querySelectorAll('main svg path')].map(path => path.getAttribute('d')).join()";
    let before = browser.evaluate(charts);
    let moved = format!("({charts}) !== {before}");
    browser.wait_for(&moved, soon);

    // On a phone, in the dark, nothing is wider than the screen.
    browser.prefer("dark");
    for (page, picture) in [
        ("/", "phone-overview.png"),
        ("/nodes/pump-station", "phone-node.png"),
        ("/records", "phone-records.png"),
    ] {
        browser.resize(360, 780, true);
        browser.open(&format!("{console}{page}"));
        browser.wait_for("document.readyState === 'complete' && document.querySelector('main')", soon);
        let too_wide = browser.evaluate("document.documentElement.scrollWidth > window.innerWidth");
        assert_eq!(too_wide, json!(false), "{page} scrolls sideways on a phone");
        keep(&mut browser, picture);
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}
