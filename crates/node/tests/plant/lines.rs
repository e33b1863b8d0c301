//! Sources of lines: a program, and a serial line that is a pseudo terminal.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use wire::world::{Clock as _, System};

use crate::stand::{folder, reasons, run, until, values};

#[test]
fn a_program_that_ends_is_started_again() {
    let flow = "[source.p]\ntype = \"exec\"\npayload = \"columns\"\nchannels = [\"a\", \"b\"]\n\
        command = [\"sh\", \"-c\", \"echo 1,2; echo 3,x; echo; echo '4, 5'; echo a sensor is away >&2; exit 3\"]\n\
        [source.once]\ntype = \"exec\"\nonce = true\ncommand = [\"printf\", '{\"n\":1}\\n{\"n\":2}\\n']\n";
    let dir = folder(flow);
    let node = run(dir.path());
    until("three runs", || node.status().sources[0].readings >= 6);
    until("the other's end", || node.status().sources[1].state == "ended");
    assert_eq!(node.status().sources[1].readings, 2);
    node.stop().unwrap();
    assert!(values(dir.path(), "p", "a").starts_with(&[1.0, 4.0, 1.0, 4.0]));
    assert_eq!(values(dir.path(), "once", "n"), [1.0, 2.0]);
    let reasons = reasons(dir.path());
    assert!(reasons.contains("\"x\" is no number"), "{reasons}");
    assert!(reasons.contains("exit status: 3") && reasons.contains("a sensor is away"), "{reasons}");
}

#[test]
fn a_program_that_hangs_does_not_hold_the_node_up() {
    let flow = "[source.p]\ntype = \"exec\"\ncommand = [\"sleep\", \"1000\"]\n";
    let dir = folder(flow);
    let node = run(dir.path());
    until("the start", || node.status().sources[0].reason.contains("runs"));
    let clock = System::new();
    let began_ns = clock.mono_ns();
    node.stop().unwrap();
    let took_s = (clock.mono_ns() - began_ns) / 1_000_000_000;
    assert!(took_s < 8, "{took_s} s");
    let left = Command::new("pgrep").args(["-P", &std::process::id().to_string(), "sleep"]).output();
    assert!(left.is_ok_and(|left| left.stdout.is_empty()), "the program was left behind");
}

#[test]
fn lines_of_a_serial_line() {
    let script = "import os, time, tty\nm, s = os.openpty()\ntty.setraw(s)\nprint(os.ttyname(s), flush=True)\n\
        time.sleep(1)\n\
        for n in range(100000):\n    os.write(m, b'%d;%d\\r\\n' % (n, 2 * n))\n    time.sleep(0.01)\n";
    let child = Command::new("python3").args(["-c", script]).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: there is no python3 on this machine");
        return;
    };
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let flow = format!(
        "[source.scale]\ntype = \"serial\"\ndevice = \"{}\"\nbaud = 115200\npayload = \"columns\"\n\
         channels = [\"n\", \"twice\"]\n",
        line.trim()
    );
    let dir = folder(&flow);
    let node = run(dir.path());
    until("readings", || node.status().sources[0].readings >= 50);
    // Whoever pulls the plug.
    child.kill().unwrap();
    child.wait().unwrap();
    until("the failure", || node.status().sources[0].state == "failed");
    node.stop().unwrap();
    let (n, twice) = (values(dir.path(), "scale", "n"), values(dir.path(), "scale", "twice"));
    assert!(n.windows(2).all(|pair| pair[1] == pair[0] + 1.0), "{n:?}");
    assert!(n.iter().zip(&twice).all(|(n, twice)| *twice == 2.0 * n));
}
