//! A source that is a program: each line that it prints is a payload. For what no other source speaks.
//!
//! A program that ends is started again, after 1 s, 2 s … 5 min; the node stops it when it stops itself.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::bring::{Source, SourceError};
use super::funnel::{Funnel, FunnelSettings};
use super::lines::{Line, Lines, attend};
use super::queue::Inlet;

/// A program that was told to end has so long.
const LEAVE: Duration = Duration::from_secs(2);
/// The last line of what it complained of is kept up to this.
const COMPLAINT_BYTES: usize = 1_000;

/// Which program, and how it writes.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecSettings {
    /// The program and its arguments; no shell is between.
    pub command: Vec<String>,
    /// The folder it runs in.
    pub folder: PathBuf,
    /// Whether it may come to its end: then it is not started again.
    pub once: bool,
    /// Silent for longer, it is started again.
    pub silence: Option<Duration>,
    /// How lines become readings.
    pub funnel: FunnelSettings,
}

/// Runs the program.
pub struct Exec {
    settings: ExecSettings,
    funnel: Funnel,
}

impl Exec {
    /// A source; `declared`: channels that the flow names by themselves.
    pub fn new(settings: ExecSettings, declared: Option<&[String]>) -> Exec {
        let funnel = Funnel::new(settings.funnel.clone(), declared);
        Exec { settings, funnel }
    }

    async fn listen(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        let (program, arguments) = self
            .settings
            .command
            .split_first()
            .ok_or_else(|| SourceError::Outside("there is no program to run".to_owned()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(&self.settings.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| SourceError::Outside(format!("`{program}` cannot be run: {error}")))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(SourceError::Outside(format!("`{program}` has no output")));
        };
        self.funnel.begin(format!("`{program}` runs"), inlet)?;
        let complaints = tokio::spawn(async move {
            let (mut lines, mut last) = (Lines::new(stderr, COMPLAINT_BYTES), String::new());
            loop {
                match lines.next().await {
                    Ok(Line::Whole(line)) if !line.trim_ascii().is_empty() => {
                        last = String::from_utf8_lossy(line.trim_ascii()).into_owned();
                    }
                    Ok(Line::Whole(_) | Line::TooLong) => {}
                    Ok(Line::End) | Err(_) => return last,
                }
            }
        });
        let mut lines = Lines::new(stdout, self.settings.funnel.max_payload_bytes);
        let ended = attend(&mut lines, program, &mut self.funnel, self.settings.silence, inlet).await;
        if let Err(error) = ended {
            // A failure to end it is one of a program that has ended.
            let _ = child.start_kill();
            let _ = timeout(LEAVE, child.wait()).await;
            return Err(error);
        }
        let status = match timeout(LEAVE, child.wait()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(SourceError::Outside(format!("`{program}` was lost: {error}"))),
            Err(_) => {
                return Err(SourceError::Outside(format!("`{program}` prints no more, and does not end")));
            }
        };
        if self.settings.once && status.success() {
            return Ok(format!("`{program}` came to its end"));
        }
        let last = timeout(LEAVE, complaints).await.ok().and_then(Result::ok).unwrap_or_default();
        let last = if last.is_empty() { last } else { format!("; it said: {last}") };
        Err(SourceError::Outside(format!("`{program}` ended ({status}){last}")))
    }
}

impl Source for Exec {
    fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SourceError::Runtime)?;
        runtime.block_on(self.listen(inlet))
    }
}
