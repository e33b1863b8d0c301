//! A program that prints bytes for a source: started, read, and ended with it. What it last complained of is kept, for reasons.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::bring::SourceError;
use super::lines::{Line, Lines};
use super::queue::{Inlet, Stopped};

/// A program that was told to end has so long.
const LEAVE: Duration = Duration::from_secs(2);
/// The last line of what it complained of is kept up to this.
const COMPLAINT_BYTES: usize = 1_000;

/// A program that runs. It is killed when this is dropped.
pub(super) struct Program {
    name: String,
    child: Child,
    stdout: ChildStdout,
    complaints: JoinHandle<String>,
}

impl Program {
    /// Starts it. `command`: the program and its arguments; no shell is between.
    pub(super) fn start(command: &[String], folder: &Path) -> Result<Program, SourceError> {
        let (name, arguments) = command
            .split_first()
            .ok_or_else(|| SourceError::Outside("there is no program to run".to_owned()))?;
        let mut child = Command::new(name)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| SourceError::Outside(format!("`{name}` cannot be run: {error}")))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(SourceError::Outside(format!("`{name}` has no output")));
        };
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
        Ok(Program { name: name.clone(), child, stdout, complaints })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What it prints.
    pub(super) fn stdout(&mut self) -> &mut ChildStdout {
        &mut self.stdout
    }

    /// What it printed next, at most as much as `room` takes; an error if it ended, is silent for longer than `silence`, or the
    /// node stops.
    pub(super) async fn read(
        &mut self,
        room: &mut [u8],
        silence: Duration,
        inlet: &Inlet,
    ) -> Result<usize, SourceError> {
        let read = tokio::select! {
            biased;
            () = stopped(inlet) => return Err(Stopped.into()),
            read = timeout(silence, self.stdout.read(room)) => read,
        };
        match read {
            Ok(Ok(0)) => Err(match self.status().await {
                Ok(status) => self.why(status).await,
                Err(error) => error,
            }),
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(SourceError::Outside(format!("`{}` cannot be read: {error}", self.name))),
            Err(_) => Err(SourceError::Outside(format!(
                "`{}` printed nothing for {:.1} s",
                self.name,
                silence.as_secs_f64()
            ))),
        }
    }

    /// How it ended, once it prints no more.
    pub(super) async fn status(&mut self) -> Result<ExitStatus, SourceError> {
        let name = &self.name;
        match timeout(LEAVE, self.child.wait()).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(error)) => Err(SourceError::Outside(format!("`{name}` was lost: {error}"))),
            Err(_) => Err(SourceError::Outside(format!("`{name}` prints no more, and does not end"))),
        }
    }

    /// Why it ended, in its own last words.
    pub(super) async fn why(&mut self, status: ExitStatus) -> SourceError {
        let name = &self.name;
        let last = timeout(LEAVE, &mut self.complaints).await.ok().and_then(Result::ok).unwrap_or_default();
        let last = if last.is_empty() { last } else { format!("; it said: {last}") };
        SourceError::Outside(format!("`{name}` ended ({status}){last}"))
    }

    /// Ends it, and waits until it is gone.
    pub(super) async fn end(mut self) {
        // A failure to end it is one of a program that has ended.
        let _ = self.child.start_kill();
        let _ = timeout(LEAVE, self.child.wait()).await;
    }
}

/// Until the source shall stop.
pub(super) async fn stopped(inlet: &Inlet) {
    while !inlet.stopping() {
        inlet.stirred().await;
    }
}
