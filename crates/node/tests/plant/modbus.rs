//! A source that asks a device of pymodbus.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::stand::{folder, free_port, reasons, run, until, values};

/// A device of pymodbus, until it is dropped.
pub(crate) struct Device(pub(crate) Child);

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The Python that has the peers, if it has this one.
fn python() -> Option<PathBuf> {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/peers/bin/python");
    let python = std::env::var_os("SELVEDGE_PYTHON").map_or_else(|| PathBuf::from(own), PathBuf::from);
    let has = Command::new(&python)
        .args(["-c", "import pymodbus.simulator, serial"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has {
        eprintln!("skipped: {} has no pymodbus", python.display());
    }
    has.then_some(python)
}

/// Starts one; `None`, and a word, where there is no pymodbus.
pub(crate) fn device(arguments: &[&str]) -> Option<Device> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plant/device.py");
    let child = Command::new(python()?).arg(script).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    Some(Device(child))
}

const REGISTERS: &str = "every = \"50ms\"\ntimeout = \"2s\"\nregisters = { pressure = \"f32@100\", flow = \"f32@102\", \
    level = \"i16@110*0.1+5\", gone = \"u16@120\", input = \"input u16@30\", on = \"coil@3\", off = \"coil@0\", \
    door = \"discrete@0\" }\n";

fn check(dir: &std::path::Path) {
    let expected = [
        ("pressure", 1.5),
        ("flow", 20.25),
        ("level", -15.0),
        ("input", 300.0),
        ("on", 1.0),
        ("off", 0.0),
        ("door", 1.0),
    ];
    for (channel, expected) in expected {
        let found = values(dir, "plc", channel);
        assert!(
            found.len() >= 5 && found.iter().all(|value| (value - expected).abs() < 1e-9),
            "{channel}: {found:?}"
        );
    }
    assert!(values(dir, "plc", "gone").iter().all(|value| value.is_nan()));
    assert!(
        reasons(dir).contains("`gone` is missing: the device refuses holding register 120"),
        "{}",
        reasons(dir)
    );
}

#[test]
fn registers_over_tcp_and_one_that_is_not_there() {
    let port = free_port();
    let Some(device_of_before) = device(&["tcp", &port.to_string()]) else { return };
    let flow = format!("[source.plc]\ntype = \"modbus-tcp\"\naddress = \"127.0.0.1:{port}\"\n{REGISTERS}");
    let dir = folder(&flow);
    let node = run(dir.path());
    until("readings", || node.status().sources[0].readings >= 10);
    // The device goes away, and comes back.
    drop(device_of_before);
    until("the failure", || node.status().sources[0].state == "failed");
    let _device = device(&["tcp", &port.to_string()]).unwrap();
    until("the device", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let before = node.status().sources[0].readings;
    until("more readings", || node.status().sources[0].readings >= before + 10);
    node.stop().unwrap();
    check(dir.path());
}

#[test]
fn registers_over_a_serial_line() {
    let Some(mut device) = device(&["rtu"]) else { return };
    let mut line = String::new();
    BufReader::new(device.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // A line that is none in truth knows no parity.
    let flow = format!(
        "[source.plc]\ntype = \"modbus-rtu\"\ndevice = \"{}\"\nbaud = 19200\nparity = \"none\"\n{REGISTERS}",
        line.trim()
    );
    let dir = folder(&flow);
    let node = run(dir.path());
    until("readings", || node.status().sources[0].readings >= 10);
    node.stop().unwrap();
    check(dir.path());
}
