//! How an error is shown, and the exit code that goes with it.
//!
//! A problem in a config file is shown at its place in the text, with a mend, and ends with exit code 78 (`EX_CONFIG`);
//! any other error is shown with its causes and ends with 1. A wrong command line is clap's and ends with 2; so does a
//! [`Usage`], which is wrong in a way that clap cannot know.

use std::io::Write as _;
use std::process::ExitCode;

#[cfg(feature = "language")]
use kernels::cpu::IsaError;
use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use node::config::problem::{ConfigError, ConfigErrors};

/// A command line that asks for what cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// What clap exits with.
const EX_USAGE: u8 = 2;

/// `EX_CONFIG` of sysexits.h: something was found in an unconfigured or misconfigured state.
const EX_CONFIG: u8 = 78;

/// Writes `error` to stderr and says how to exit.
pub(crate) fn show(error: &anyhow::Error) -> ExitCode {
    // A closed pipe (`selvedge detect … | head`) is the reader's choice, not an error.
    if error.chain().any(is_closed_pipe) {
        return ExitCode::SUCCESS;
    }
    // If stderr itself is gone there is nobody left to tell.
    let mut out = std::io::stderr().lock();
    if let Some(ConfigErrors(problems)) = error.downcast_ref::<ConfigErrors>() {
        for problem in problems {
            let _ = writeln!(out, "{:?}", miette::Report::new(Shown::new(problem)));
        }
        return ExitCode::from(EX_CONFIG);
    }
    let _ = writeln!(out, "error: {error}");
    for cause in error.chain().skip(1) {
        let _ = writeln!(out, "  because {cause}");
    }
    if error.downcast_ref::<Usage>().is_some() {
        return ExitCode::from(EX_USAGE);
    }
    // A variable of the environment is a setting like one in a file.
    #[cfg(feature = "language")]
    if error.downcast_ref::<IsaError>().is_some() {
        return ExitCode::from(EX_CONFIG);
    }
    ExitCode::FAILURE
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    // What is printed as JSON goes through serde_json, whose error keeps the cause to itself.
    let json = || error.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
    io.or_else(json) == Some(std::io::ErrorKind::BrokenPipe)
}

/// A config problem in the form that miette draws.
#[derive(Debug)]
struct Shown {
    message: String,
    help: Option<String>,
    source: NamedSource<String>,
    label: Option<LabeledSpan>,
}

impl Shown {
    fn new(problem: &ConfigError) -> Shown {
        let file = problem.file.display().to_string();
        // Without the text there is no place to point at, so the message names the file.
        let (message, label) = if problem.text.is_empty() {
            (format!("{file} {}", problem.message), None)
        } else {
            (problem.message.clone(), Some(LabeledSpan::underline(problem.span.clone())))
        };
        let source = NamedSource::new(file, problem.text.to_string()).with_language("TOML");
        Shown { message, help: problem.help.clone(), source, label }
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn std::fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.label.as_ref().map(|_| &self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.label
            .clone()
            .map(|label| Box::new(std::iter::once(label)) as Box<dyn Iterator<Item = LabeledSpan>>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_problem_is_shown_at_its_place() {
        let text = "[rule.hot]\nwhen = \"pump.temprature > 80\"\n";
        let start = text.find("pump.temp").unwrap();
        let problem = ConfigError {
            file: "flow.toml".into(),
            text: text.into(),
            span: start..start + 15,
            message: "source `pump` has no channel `temprature`".into(),
            help: Some("did you mean `temperature`?".into()),
        };
        let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
        let mut shown = String::new();
        handler.render_report(&mut shown, &Shown::new(&problem)).unwrap();
        insta::assert_snapshot!("complaint", shown);
    }
}
