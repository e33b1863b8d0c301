//! A recording as a user names it on the command line, and a flow around it: what `detect`, `flow replay` and
//! `up --replay` share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use node::config::problem::ConfigErrors;
use node::flow::Flow;
use node::source::csv::{CsvOptions, is_read_once};
use node::source::recording::RecordingReader;

/// A file of CSV or Parquet with a time column and one column a channel.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Recording {
    /// The recording: a file of CSV or Parquet with a time column and any number of channels.
    pub(crate) file: PathBuf,

    /// The time column; without it the one that is named or looks like one.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) time: Option<String>,

    /// The channels to look at; without it every column of numbers.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    pub(crate) channels: Option<Vec<String>>,

    /// A column that says which rows are known to be faulty (1, true): the detector does not see it, and is judged by it.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) truth: Option<String>,
}

/// How the detector is set; absent is its default.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct DetectorSettings {
    /// Readings at the beginning that count as normal.
    #[arg(long, value_name = "READINGS")]
    pub(crate) learn: Option<u64>,

    /// Readings of the past that belong to the present.
    #[arg(long, value_name = "READINGS")]
    pub(crate) lag: Option<usize>,
}

/// What columns of labels are called in public data sets.
pub(crate) const LABELS: [&str; 5] = ["anomaly", "label", "fault", "truth", "changepoint"];

impl Recording {
    /// How to read the file. Where the truth is judged by, columns that are usually labels are no channels.
    pub(crate) fn options(&self) -> CsvOptions {
        let mut options = CsvOptions {
            time: self.time.clone(),
            channels: self.channels.clone(),
            truth: self.truth.clone(),
            exclude: Vec::new(),
        };
        if self.truth.is_some()
            && self.channels.is_none()
            && !is_read_once(&self.file)
            && let Ok(reader) = RecordingReader::open(&self.file, &options)
        {
            // A file that cannot be read is complained of when it is read in earnest.
            let is_label = |channel: &&String| LABELS.contains(&channel.as_str());
            options.exclude = reader.channels().iter().filter(is_label).cloned().collect();
        }
        options
    }

    /// The text of a flow that replays the recording into a detector and a rule.
    pub(crate) fn flow_text(&self, settings: &DetectorSettings, replay: &str) -> String {
        // A JSON string is a TOML basic string: the same quotes and escapes.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let list = |names: &[String]| serde_json::Value::from(names).to_string();
        let mut text = format!(
            "[source.recording]\ntype = \"replay\"\nfile = {}\n{replay}",
            quoted(&self.file.to_string_lossy())
        );
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!("{key} = {value}\n"));
            }
        };
        line("time", self.time.as_deref().map(quoted));
        line("truth", self.truth.as_deref().map(quoted));
        line("channels", self.channels.as_deref().map(list));
        line("exclude", Some(list(&self.options().exclude)));
        text.push_str("\n[model.detector]\ntype = \"subspace\"\ninputs = [\"source.recording\"]\n");
        if let Some(lag) = settings.lag {
            text.push_str(&format!("lag = {lag}\n"));
        }
        if let Some(learn) = settings.learn {
            text.push_str(&format!("learn = {learn}\n"));
        }
        text.push_str("\n[rule.unusual]\ninputs = [\"model.detector\"]\nwhen = \"detector.score >= 1.0\"\n");
        text
    }

    /// That flow, played as fast as possible.
    pub(crate) fn flow(&self, settings: &DetectorSettings) -> Result<Flow, ConfigErrors> {
        let text = self.flow_text(settings, "speed = \"max\"\n");
        Flow::parse(Path::new("built-in flow"), Arc::from(text))
    }
}

/// `2026-01-01 00:07:02.000`, UTC.
pub(crate) fn show_time(t_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(t_ms) {
        Ok(at) => at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => format!("{t_ms} ms"),
    }
}

/// `1 234 567`.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(' ');
        }
        shown.push(digit);
    }
    shown
}

/// A probability: `74.9 %`, and `> 99.9 %` rather than a 100 that nobody can know.
pub(crate) fn show_share(share: f64) -> String {
    if share > 0.999 { "> 99.9 %".to_owned() } else { format!("{:.1} %", share * 100.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_and_columns_are_quoted() {
        let recording = Recording {
            file: "odd \"name\"\\x.csv".into(),
            time: Some("t [s]".into()),
            channels: Some(vec!["a".into(), "Flow \"l\"".into()]),
            truth: None,
        };
        let flow = recording.flow(&DetectorSettings { learn: Some(500), lag: Some(5) }).unwrap();
        let node::flow::SourceKind::Replay(replay) = &flow.sources[0].kind else { panic!("a replay") };
        assert_eq!(replay.file, recording.file);
        assert_eq!(replay.csv.time.as_deref(), Some("t [s]"));
        assert_eq!((flow.models[0].lag, flow.models[0].learn), (5, 500));
    }

    #[test]
    fn numbers_and_times() {
        assert_eq!(show_count(0), "0");
        assert_eq!(show_count(1_234_567), "1 234 567");
        assert_eq!(show_time(1_767_225_600_123), "2026-01-01 00:00:00.123");
    }
}
