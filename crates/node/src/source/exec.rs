//! A source that is a program: each line that it prints is a payload. For what no other source speaks.
//!
//! A program that ends is started again, after 1 s, 2 s … 5 min; the node stops it when it stops itself.

use std::path::PathBuf;
use std::time::Duration;

use super::bring::{Source, SourceError, wait_for};
use super::child::Program;
use super::funnel::{Funnel, FunnelSettings};
use super::lines::{Lines, attend};
use super::queue::Inlet;

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
        let ExecSettings { command, folder, once, silence, funnel } = &self.settings;
        let mut program = Program::start(command, folder)?;
        let name = program.name().to_owned();
        self.funnel.begin(format!("`{name}` runs"), inlet)?;
        let mut lines = Lines::new(program.stdout(), funnel.max_payload_bytes);
        if let Err(error) = attend(&mut lines, &name, &mut self.funnel, *silence, inlet).await {
            program.end().await;
            return Err(error);
        }
        let status = program.status().await?;
        if *once && status.success() {
            return Ok(format!("`{name}` came to its end"));
        }
        Err(program.why(status).await)
    }
}

impl Source for Exec {
    fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        wait_for(self.listen(inlet))
    }
}
