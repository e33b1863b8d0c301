//! Cameras behind a program: pictures of GStreamer, as JPEG and as plain pixels; programs that end, and that print something else.

use std::fs;
use std::path::Path;

use crate::light::{BRIGHT, folder, gstreamer};
use crate::stand::{records, run, source, until};

/// Prints pictures of one brightness, so many a second, until it is ended or has printed `count`.
const PROGRAM: &str = r#"
import os, sys, time
import gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
form, count = sys.argv[1], int(sys.argv[2])
tail = "jpegenc" if form == "mjpeg" else "videoconvert ! video/x-raw,format=YUY2"
line = Gst.parse_launch(
    "videotestsrc is-live=true pattern=white num-buffers=%d ! video/x-raw,width=64,height=48,framerate=25/1 ! %s ! fdsink fd=1 sync=false"
    % (count, tail))
line.set_state(Gst.State.PLAYING)
line.get_bus().timed_pop_filtered(60 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
line.set_state(Gst.State.NULL)
sys.stderr.write("the camera was unplugged\n")
sys.exit(3)
"#;

fn flow(python: &Path, form: &str, count: usize, more: &str) -> String {
    let python = python.display();
    format!(
        "[source.eye]\ntype = \"camera\"\ncommand = [\"{python}\", \"camera.py\", \"{form}\", \"{count}\"]\nform = \"{form}\"\n{more}\n{BRIGHT}"
    )
}

#[test]
fn a_program_prints_pictures_ends_and_is_started_again() {
    let Some(python) = gstreamer("cameras behind a program") else { return };
    for (form, more) in [("mjpeg", "every = \"40ms\""), ("yuyv", "every = \"40ms\"\nsize = [64, 48]")] {
        let dir = folder(&flow(&python, form, 20, more));
        fs::write(dir.path().join("camera.py"), PROGRAM).unwrap();
        let node = run(dir.path());
        until("pictures", || source(&node).readings >= 3);
        let values = source(&node).values;
        assert!(
            values["brightness"].as_f64().unwrap() > 225.0 && values["contrast"].as_f64().unwrap() < 5.0,
            "{values:?}"
        );
        let failed = || {
            let events = records(dir.path(), "events");
            events.iter().any(|event| {
                event["reason"].as_str().is_some_and(|why| why.contains("it said: the camera was unplugged"))
            })
        };
        until("the reason of its end", failed);
        // Two lives of twenty pictures at most.
        until("pictures of the next life", || source(&node).readings > 22);
        node.stop().unwrap();
        let answers = records(dir.path(), "inferences");
        assert_eq!(answers[0]["fields"]["label"], "bright", "{form}: {answers:?}");
        println!("{form}: {answers:?}");
    }
}

#[test]
fn a_program_that_prints_something_else_or_is_not_there_is_told() {
    for (command, why) in [
        ("[\"yes\"]", "no picture is whole"),
        ("[\"sleep\", \"60\"]", "printed nothing for 0.3 s"),
        ("[\"no-such-program\"]", "cannot be run"),
        ("[\"sh\", \"-c\", \"echo 'no such device' >&2; exit 1\"]", "it said: no such device"),
    ] {
        let text =
            format!("[source.eye]\ntype = \"camera\"\ncommand = {command}\nsilence = \"300ms\"\n{BRIGHT}");
        let dir = folder(&text);
        let node = run(dir.path());
        until(why, || source(&node).reason.contains(why));
        assert_eq!(source(&node).readings, 0);
        node.stop().unwrap();
    }
}
