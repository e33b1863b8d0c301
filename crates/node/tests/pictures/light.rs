//! What all tests of pictures look with: a small network that tells bright from dark; and the Python that makes pictures.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use net::specimen::{Size, constant, model, node, value};
use tempfile::TempDir;

use crate::stand;

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

/// A folder with a node's files, and the network.
pub(crate) fn folder(flow: &str) -> TempDir {
    let dir = stand::folder(flow);
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
    let (pictures, sizes) = (Size::Called("pictures"), [3, 2, 2].map(Size::Is));
    let picture = value("picture", 1, &[vec![pictures], sizes.to_vec()].concat());
    model(&parts, &[picture], &[value("scores", 1, &[pictures, Size::Is(2)])])
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
