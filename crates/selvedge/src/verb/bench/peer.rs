//! Another engine, measured by its own program: llama.cpp's `llama-bench`, and that of engines that descend from it.
//!
//! It loads, warms up, and times in a process of its own, so that neither loading nor starting counts. What comes back
//! is checked: figures of other threads or lengths than were asked for would be no comparison. It is a stranger: what it
//! prints is bounded, and it is ended when its time is over.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, bail};
use lm::memory::machine::peak_bytes_of;
use serde::Deserialize;
use wire::world::{Clock as _, System};

/// The most that is read of what a program prints; figures are some kB.
const OUTPUT_MAX: u64 = 1 << 20;
/// Lines of a failure that are shown, and how much of each.
const LAST_LINES: usize = 8;
const LINE_MAX: usize = 200;
/// How often a program is looked at: rarely enough to cost it nothing.
const LOOK: Duration = Duration::from_millis(20);

/// An engine, as `NAME=PATH ARGUMENT…` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
}

/// What is asked of every engine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) model: &'a Path,
    pub(super) threads: usize,
    /// Tokens of the prompt.
    pub(super) prompt: usize,
    /// Tokens of the answer.
    pub(super) answer: usize,
    /// How long a program may take.
    pub(super) limit: Duration,
}

/// Measured once.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    /// Tokens a second of the prompt.
    pub(super) prompt: f64,
    /// Tokens a second of the answer.
    pub(super) answer: f64,
    /// The most memory that the program had, loading included; absent where that cannot be told.
    pub(super) peak_bytes: Option<u64>,
    /// The engine's own word for its version.
    pub(super) version: Option<String>,
}

/// What a program left.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) text: String,
    /// The most memory that it had; absent where that cannot be told.
    pub(super) peak_bytes: Option<u64>,
}

/// A row of `llama-bench -o json`; it has more fields.
#[derive(Deserialize)]
struct Row {
    n_threads: usize,
    n_prompt: usize,
    n_gen: usize,
    avg_ts: f64,
    build_commit: Option<String>,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(word: &str) -> Result<Peer, String> {
        let split = word.split_once('=').and_then(|(name, command)| {
            let mut words = command.split_whitespace().map(str::to_owned);
            Some((name.trim(), words.next()?, words.collect()))
        });
        match split {
            Some((name, program, arguments)) if !name.is_empty() => {
                Ok(Peer { name: name.to_owned(), program: program.into(), arguments })
            }
            _ => Err("it is NAME=PATH, such as llama.cpp=build/bin/llama-bench".to_owned()),
        }
    }
}

impl Peer {
    /// The engine, whatever it was told.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What it was told: `--repack 0`. Empty: nothing.
    pub(super) fn switches(&self) -> String {
        self.arguments.join(" ")
    }

    /// Its name and what it was told: `llama.cpp --repack 0`.
    pub(super) fn label(&self) -> String {
        format!("{} {}", self.name, self.switches()).trim_end().to_owned()
    }

    /// Measures it once.
    pub(super) fn run(&self, task: &Task<'_>) -> anyhow::Result<Run> {
        let Task { threads, prompt, answer, .. } = task;
        let mut command = Command::new(&self.program);
        command.arg("-m").arg(task.model).args(["-o", "json", "-r", "1"]);
        command.args(["-t", &threads.to_string(), "-p", &prompt.to_string(), "-n", &answer.to_string()]);
        command.args(&self.arguments);
        let Output { text, peak_bytes } = output(command, task.limit).with_context(|| {
            format!("{} cannot be measured: try its command alone, or leave it out", self.label())
        })?;
        let wrong = || {
            let label = self.label();
            format!("{label} must be a llama-bench, and printed something else:\n{}", last_lines(&text))
        };
        // Some versions print other lines first.
        let begin = if text.starts_with('[') { Some(0) } else { text.find("\n[").map(|at| at + 1) };
        let rows: Vec<Row> = serde_json::from_str(&text[begin.with_context(wrong)?..]).with_context(wrong)?;
        let figure = |n_prompt, n_gen| {
            let asked = |row: &&Row| (row.n_threads, row.n_prompt, row.n_gen) == (*threads, n_prompt, n_gen);
            let found = rows.iter().find(asked).map(|row| row.avg_ts).filter(|rate| *rate > 0.0);
            found.with_context(|| {
                format!(
                    "{} has no figure for -t {threads} -p {n_prompt} -n {n_gen}, as it was asked: leave these words \
                     to this program; it printed:\n{}",
                    self.label(),
                    last_lines(&text)
                )
            })
        };
        let (prompt, answer) = (figure(*prompt, 0)?, figure(0, *answer)?);
        let version = rows.into_iter().find_map(|row| row.build_commit).filter(|commit| commit != "unknown");
        Ok(Run { prompt, answer, peak_bytes, version })
    }
}

/// What a program printed, if it ended well and in time. One that does not is ended.
pub(super) fn output(mut command: Command, limit: Duration) -> anyhow::Result<Output> {
    let program = command.get_program().display().to_string();
    let clock = System::new();
    let over = clock.mono_ns().saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{program} cannot be started"))?;
    // `done` stays here: with nobody to send, waiting would not take its time.
    let (done, finished) = mpsc::channel();
    let readers = [
        read(child.stdout.take().context("it has no output")?, done.clone()),
        read(child.stderr.take().context("it has no errors")?, done.clone()),
    ];
    let (mut reading, mut peak) = (readers.len(), None);
    let status = loop {
        peak = peak.max(peak_bytes_of(child.id()));
        // What the program has started may hold its output open.
        if let Some(status) = child.try_wait()?.filter(|_| reading == 0) {
            break status;
        }
        if clock.mono_ns() >= over {
            child.kill()?;
            child.wait()?;
            bail!("{program} had not ended after {} s (--limit), and was ended", limit.as_secs_f64());
        }
        reading -= usize::from(finished.recv_timeout(LOOK).is_ok());
    };
    let [out, err] = readers.map(|reader| reader.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())));
    let (Ok(text), Ok(err)) = (out, err) else {
        bail!("{program} printed more than {} kB, of which figures are a few", OUTPUT_MAX >> 10);
    };
    match status.success() {
        true => Ok(Output { text, peak_bytes: peak }),
        false => bail!("{program} failed ({status}):\n{}", last_lines(&(text + &err))),
    }
}

/// Reads to the end in a thread, and says when that is `done`; an error: there was more than anyone wants to read.
fn read(from: impl Read + Send + 'static, done: Sender<()>) -> JoinHandle<io::Result<String>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = from.take(OUTPUT_MAX + 1).read_to_end(&mut bytes);
        // Nobody listens any more if the program was ended.
        let _ = done.send(());
        read?;
        match bytes.len() as u64 > OUTPUT_MAX {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        }
    })
}

/// What stands at the end of a text, without what would move a terminal's cursor.
fn last_lines(text: &str) -> String {
    let shown = |line: &str| line.chars().filter(|c| !c.is_control()).take(LINE_MAX).collect::<String>();
    let lines: Vec<String> = text.lines().map(shown).filter(|line| !line.trim().is_empty()).collect();
    match lines.len() {
        0 => "(nothing)".to_owned(),
        count => lines[count.saturating_sub(LAST_LINES)..].join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_and_a_command() {
        let peer: Peer = "llama.cpp=bin/llama-bench  --repack 0".parse().unwrap();
        assert_eq!(peer.program, Path::new("bin/llama-bench"));
        assert_eq!((peer.name(), &*peer.switches()), ("llama.cpp", "--repack 0"));
        assert_eq!(peer.label(), "llama.cpp --repack 0");
        assert_eq!("x=y".parse::<Peer>().unwrap().label(), "x");
        for wrong in ["", "x", "=path", "name=", "name= "] {
            assert!(wrong.parse::<Peer>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_lines_are_kept() {
        assert_eq!(last_lines("a\n\n\u{1b}[2Jb\r\n"), "a\n[2Jb");
        assert_eq!(last_lines("\n"), "(nothing)");
        assert_eq!(last_lines(&"x".repeat(999)).len(), LINE_MAX);
        assert_eq!(last_lines(&"x\n".repeat(99)).lines().count(), LAST_LINES);
    }
}
