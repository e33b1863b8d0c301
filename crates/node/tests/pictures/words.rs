//! What a flow says wrongly of pictures, of sound and of the networks that look, and what is said of it.

use std::path::Path;

use node::flow::Flow;
use node::flow::source::SourceKind;

const FLOW: &str = r#"
[source.door]
type = "images"
folder = "uploads"

[source.gate]
type = "rtsp"
url = "rtsp://10.0.0.8/stream"
user = "viewer"
password_file = "secret"

[source.bench]
type = "camera"
device = "/dev/video0"
size = [640, 480]

[source.ear]
type = "sound"
device = "default"

[source.plain]
type = "http"
channels = ["x"]

[model.things]
type = "network"
inputs = ["source.door"]
file = "net.onnx"
lines = { line = [0.0, 0.5, 1.0, 0.5] }

[model.things.recipe.inputs.picture]
from = "picture"

[[model.things.recipe.answers]]
as = "boxes"
boxes = "boxes"
threshold = 0.5
overlap = 0.5

[rule.many]
inputs = ["model.things", "source.door", "source.ear"]
when = 'things.line_forth > 3.0 && door.change < 1.0 && ear.sound > 0.1 && things.label == "x"'

[[test]]
given = [{ things = { line_forth = 4, label = "x" }, door = { change = 0.0 }, ear = { sound = 0.5 } }]
expect = { rule = "many", state = "firing" }
"#;

#[test]
fn all_kinds_are_known_with_what_they_give() {
    let flow = Flow::parse(Path::new("f/flow.toml"), FLOW.into()).unwrap_or_else(|errors| panic!("{errors}"));
    let kinds: Vec<&str> = flow.sources.iter().map(|source| source.kind.as_str()).collect();
    assert_eq!(kinds, ["images", "rtsp", "camera", "sound", "http"]);
    let raw: Vec<bool> = flow.sources.iter().map(|source| source.raw).collect();
    assert_eq!(raw, [true, true, true, false, true]);
    assert_eq!(
        flow.sources[0].channels.as_deref().unwrap().join(" "),
        "brightness contrast sharpness change dropped"
    );
    let SourceKind::Camera(camera) = &flow.sources[2].kind else { panic!("a camera") };
    let line = "v4l2-ctl --device=/dev/video0 --set-fmt-video=width=640,height=480,pixelformat=MJPG --stream-mmap --stream-to=-";
    assert_eq!(camera.command.join(" "), line);
    let SourceKind::Rtsp(rtsp) = &flow.sources[1].kind else { panic!("a stream") };
    assert!(!format!("{rtsp:?}").contains("secret"));
    let tests = node::play::rehearse::rehearse(&flow).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(tests, 1);
}

/// What is said of the flow with `to` in the place of `from`.
fn check(from: &str, to: &str, why: &str) {
    let text = FLOW.replacen(from, to, 1);
    assert_ne!(text, FLOW, "{from}");
    let error = Flow::parse(Path::new("flow.toml"), text.into()).unwrap_err().to_string();
    assert!(error.contains(why), "{from} → {to}: {error}");
}

/// The same with a line more behind `line`.
fn check_more(line: &str, more: &str, why: &str) {
    check(line, &format!("{line}\n{more}"), why);
}

#[test]
fn what_is_wrong_of_a_source_is_said() {
    let folder = "folder = \"uploads\"";
    check(folder, "", "has no `folder`");
    check_more(folder, "after = \"burn\"", "there is no \"burn\"");
    check_more(folder, "after = \"move\"", "does not say where to");
    check_more(folder, "to = \"x\"", "`to` is for pictures that are moved");
    check_more(folder, "after = \"move\"\nto = \"uploads\"", "to where they are");
    check_more(folder, "channels = [\"a\"]", "channels of its own");
    check_more(folder, "max_pixels = 0", "`max_pixels` is from 1");
    check("rtsp://10.0.0.8", "http://10.0.0.8", "must begin with rtsp://");
    check("rtsp://10.0.0.8", "rtsp://me:secret@10.0.0.8", "settings of their own");
    check("user = \"viewer\"\n", "", "a password and no user");
    check("password_file = \"secret\"\n", "", "a user and no password");
    check("device = \"/dev/video0\"", "", "a device or a command");
    check("size = [640, 480]", "size = [641, 480]", "an even width");
    check("size = [640, 480]", "form = \"yuyv\"", "plain pixels need a size");
    check("device = \"default\"", "", "a file, a device or a command");
    check_more("device = \"default\"", "rate_hz = 9", "`rate_hz` is from 100");
    check("type = \"sound\"", "type = \"sounds\"", "no source of type");
}

#[test]
fn what_is_wrong_of_a_network_and_its_test_is_said() {
    let source = "inputs = [\"source.door\"]\nfile";
    check(source, "inputs = [\"source.plain\"]\nfile", "its source gives numbers");
    let file = "file = \"net.onnx\"";
    check_more(file, "window = 2", "one picture at a time");
    check_more(file, "record = \"some\"", "write \"changes\" or \"each\"");
    let line = "[0.0, 0.5, 1.0, 0.5]";
    check(line, "[0.0, 0.5, 1.5, 0.5]", "lies outside of the picture");
    check(line, "[0.5, 0.5, 0.5, 0.5]", "is a point");
    check("{ line = [", "{ Line = [", "a name that is no word");
    let answer = "as = \"boxes\"\nboxes = \"boxes\"\nthreshold = 0.5\noverlap = 0.5";
    check(answer, "as = \"numbers\"\noutput = \"y\"\nnames = [\"label\"]", "the recipe has no answer");
    check("things.line_forth >", "things.line_fort >", "gives no `line_fort`");
    let given = "line_forth = 4, label = \"x\"";
    check(given, "line_forth = \"x\"", "expected a number");
    check(given, "label = 4", "expected a word");
    check(given, "lebel = \"x\"", "there is no `lebel` to give");
}
