//! A device behind a program: one run sets it, another prints what it is set to.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::body::act::Setting;
use wire::world::{Clock as _, System};

use super::face::{ANSWER_MAX_BYTES, Device, DeviceError, shortened};
use crate::act::limits::Allowed;

/// How often a program is looked at: it begins with the first, and waits twice as long each time up to the second.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_MOST: Duration = Duration::from_millis(20);

/// What a program has said is here so long after its end at the latest.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A program, its words, and how long it may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// Sets the device: the program and its arguments, in which `{value}` stands for the setting.
    pub command: Vec<String>,
    /// Prints the setting; absent: it cannot be asked.
    pub read: Option<Vec<String>>,
    /// Each run ends within this.
    pub timeout_ms: u64,
}

/// The program.
pub(super) struct Program {
    exec: Exec,
    allowed: Allowed,
}

impl Program {
    pub(super) fn new(exec: &Exec, allowed: &Allowed) -> Program {
        Program { exec: exec.clone(), allowed: allowed.clone() }
    }

    /// Runs it to its end, or ends it; gives what it printed.
    fn run(&self, words: &[String], value: &str) -> Result<String, DeviceError> {
        let program = words.first().cloned().unwrap_or_default();
        let failed = |source| DeviceError::Run { program: program.clone(), source };
        let mut child = Command::new(&program)
            .args(words.iter().skip(1).map(|word| word.replace("{value}", value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let printed = child.stdout.take().map(listen);
        let complained = child.stderr.take().map(listen);
        let (clock, limit_ms) = (System::new(), self.exec.timeout_ms);
        // Nobody sends: it is a clock that can be waited for.
        let (_still, alarm) = mpsc::channel::<()>();
        let mut pause = LOOK_FIRST;
        let begun_ns = clock.mono_ns();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                break status;
            }
            if (clock.mono_ns() - begun_ns) / 1_000_000 >= limit_ms {
                // It may have ended just now.
                drop(child.kill());
                child.wait().map_err(failed)?;
                return Err(DeviceError::Slow { what: program, limit_ms });
            }
            let _ = alarm.recv_timeout(pause);
            pause = (pause * 2).min(LOOK_MOST);
        };
        // A child of it that lives on may hold the other end: what was printed until then is what counts.
        let told = |heard: Option<Receiver<String>>| {
            heard.and_then(|heard| heard.recv_timeout(LAST_WORDS).ok()).unwrap_or_default()
        };
        match status.success() {
            true => Ok(told(printed)),
            false => {
                let (status, told) = (status.to_string(), shortened(&told(complained)));
                Err(DeviceError::Status { program, status, told })
            }
        }
    }
}

/// Reads what a program says, as far as anybody wants to know it.
fn listen(from: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What cannot be read was not said.
        drop(from.take(ANSWER_MAX_BYTES as u64).read_to_end(&mut bytes));
        // Nobody waits any more for a program that was ended.
        drop(tell.send(String::from_utf8_lossy(&bytes).into_owned()));
    });
    told
}

impl Device for Program {
    fn set(&mut self, to: &Setting) -> Result<(), DeviceError> {
        self.run(&self.exec.command, &to.to_string()).map(drop)
    }

    fn read(&mut self) -> Result<Option<Setting>, DeviceError> {
        let Some(words) = &self.exec.read else { return Ok(None) };
        let told = self.run(words, "")?;
        self.allowed.read(&told).map(Some).map_err(|why| DeviceError::Answer { why })
    }
}
