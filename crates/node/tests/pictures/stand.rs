//! What all parts of this test stand on: a node in a folder, what it wrote, and a small network that tells bright from dark.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use net::specimen::{Size, constant, model, node, value};
use node::agent::{Running, start_with};
use node::config::Config;
use node::journal::reader::Reader;
use node::source::BackOff;
use node::status::SourceStatus;
use serde_json::Value;
use tempfile::TempDir;
use wire::id::StreamName;
use wire::world::System;

/// What is tried again is tried again at once.
const QUICK: BackOff = BackOff { first: Duration::from_millis(50), longest: Duration::from_millis(200) };

/// A model of a flow that says whether a picture is bright, and a rule about it.
pub(crate) const BRIGHT: &str = r#"
[model.light]
type = "network"
inputs = ["source.eye"]
file = "light.onnx"

[model.light.recipe.inputs.picture]
from = "picture"

[[model.light.recipe.answers]]
as = "classes"
output = "scores"
labels = ["dark", "bright"]

[rule.bright]
inputs = ["model.light"]
when = 'light.label == "bright"'
"#;

/// A folder with a node's files.
pub(crate) fn folder(flow: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let node = "[node]\nname = \"n\"\n[journal]\nmin_free_bytes = \"0\"\n";
    fs::write(dir.path().join("node.toml"), node).unwrap();
    fs::write(dir.path().join("flow.toml"), flow).unwrap();
    fs::write(dir.path().join("light.onnx"), light()).unwrap();
    dir
}

/// Scores of dark and bright: how far the mean of a picture of two by two pixels is below and above 127.
fn light() -> Vec<u8> {
    let parts = [
        node("Flatten", &["picture"], &["flat"], &[]),
        node("MatMul", &["flat", "w"], &["means"], &[]),
        node("Add", &["means", "b"], &["scores"], &[]),
        constant("w", &[12, 2], &[-1.0 / 12.0, 1.0 / 12.0].repeat(12)),
        constant("b", &[2], &[127.0, -127.0]),
    ];
    let sizes = [1, 3, 2, 2].map(Size::Is);
    model(&parts, &[value("picture", 1, &sizes)], &[value("scores", 1, &[Size::Is(1), Size::Is(2)])])
}

/// Starts the node of a folder.
pub(crate) fn run(dir: &Path) -> Running {
    let config = Config::load(&dir.join("node.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    let node = start_with(config, System::new(), QUICK).unwrap();
    until("the first status", || !node.status().sources.is_empty());
    node
}

/// Waits for something that must come, for half a minute.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_500 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what} did not come");
}

/// How the only source is.
pub(crate) fn source(node: &Running) -> SourceStatus {
    let status = node.status();
    status.sources.into_iter().next().unwrap()
}

/// The bodies of a stream's records.
pub(crate) fn records(dir: &Path, stream: &str) -> Vec<Value> {
    let reader = Reader::open(&dir.join("data")).unwrap();
    let records = reader.records(&StreamName::new(stream).unwrap(), 0, 100_000).unwrap();
    records.iter().map(|(record, _)| serde_json::from_str(record.body.get()).unwrap()).collect()
}

/// Debian's own Python, which knows GStreamer; `None` where it does not, with a line that says so.
pub(crate) fn gstreamer(what: &str) -> Option<PathBuf> {
    let python = PathBuf::from("/usr/bin/python3");
    let words = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; Gst.init(None); assert Gst.ElementFactory.find('x264enc') and Gst.ElementFactory.find('jpegenc')";
    let asked = Command::new(&python).args(["-c", words]).stderr(Stdio::null()).status();
    if asked.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    println!(
        "skipped: {what}: Debian's GStreamer and its RTSP server are not here (.ci/install has their packages)"
    );
    None
}
