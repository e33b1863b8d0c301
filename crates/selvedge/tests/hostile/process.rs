//! The binary as a process: run to its end with bytes on its stdin, or as a server for as long as a test lasts.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use wire::world::{Clock as _, System};

/// Far more than anything here needs, on the slowest machine: whoever takes longer hangs.
const PATIENCE_NS: u64 = 120_000_000_000;

/// What a process left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The most memory it had at a time.
    pub(crate) peak_kib: u64,
    /// Bytes that it took from its stdin, or that waited there when it ended.
    pub(crate) fed: u64,
}

/// The binary, in `folder`, without colours and with the same line drawing everywhere.
pub(crate) fn selvedge(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    command.current_dir(folder).args(arguments).env("NO_COLOR", "1").env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Ended {
    watch(selvedge(folder, arguments).spawn().unwrap(), None)
}

/// The same, while a thread writes `blocks` to its stdin until it has them all or wants no more.
pub(crate) fn run_fed(
    folder: &Path,
    arguments: &[&str],
    blocks: impl Iterator<Item = Vec<u8>> + Send + 'static,
) -> Ended {
    let mut child = selvedge(folder, arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || feed(&mut stdin, blocks));
    watch(child, Some(feeding))
}

/// A write fails when nobody reads any more.
fn feed(stdin: &mut ChildStdin, blocks: impl Iterator<Item = Vec<u8>>) -> u64 {
    let mut fed = 0;
    for block in blocks {
        if stdin.write_all(&block).is_err() {
            break;
        }
        fed += block.len() as u64;
    }
    fed
}

fn watch(child: Child, feeding: Option<JoinHandle<u64>>) -> Ended {
    let (clock, mut child) = (System::new(), Running(child));
    let (stdout, stderr) = (collect(child.0.stdout.take()), collect(child.0.stderr.take()));
    let mut peak = 0;
    let status: ExitStatus = loop {
        peak = peak.max(peak_kib(child.0.id()));
        if let Some(status) = child.0.try_wait().unwrap() {
            break status;
        }
        assert!(clock.mono_ns() < PATIENCE_NS, "it does not end");
        std::thread::sleep(Duration::from_millis(2));
    };
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let fed = feeding.map_or(0, |feeding| feeding.join().unwrap());
    Ended { code: status.code(), stdout, stderr, peak_kib: peak, fed }
}

fn collect(from: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    let mut from = from.unwrap();
    std::thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    })
}

/// The high-water mark of a process's memory; 0 once it has ended.
fn peak_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let mark = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    mark.map_or(0, |mark| mark.trim().trim_end_matches(" kB").parse().unwrap())
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A hub or a node that answers.
pub(crate) struct Server {
    running: Running,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl Server {
    /// Starts it, and reads where it listens from what it prints.
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Server {
        let mut running = Running(selvedge(folder, arguments).stderr(Stdio::inherit()).spawn().unwrap());
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            let (_, from) = line.split_once("http://")?;
            let is_address = |c: char| c.is_ascii_digit() || matches!(c, '.' | ':');
            Some(from.chars().take_while(|c| is_address(*c)).collect())
        });
        // It goes on talking, and would end if nobody listened.
        std::thread::spawn(move || lines.for_each(drop));
        Server { running, address: address.expect("it prints where it listens") }
    }

    /// The most memory it has had at a time.
    pub(crate) fn peak_kib(&self) -> u64 {
        peak_kib(self.running.0.id())
    }
}
