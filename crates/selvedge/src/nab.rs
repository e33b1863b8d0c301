//! Measures the anomaly detector on the Numenta Anomaly Benchmark, with NAB's own scoring.
//!
//! Reads a corpus (`data/*/*.csv`, labelled windows, cost profiles), runs one causal [`Detector`] in its default
//! configuration over each file, and scores the rows as NAB v1.1 does: nothing in the first 15 % of a file counts
//! (at most 750 rows), the earliest alarm inside a window earns a scaled sigmoid, every alarm outside costs, and
//! one threshold per profile over the whole corpus is the one that scores best. 0 is the detector that never
//! alarms, 100 the one that meets every window on its first row.
//!
//! The detector sees one value after the other and never the file's range or length: many figures on NAB's public
//! board come from detectors that were given the minimum and maximum of the whole file.
//!
//! Source: Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms", ICMLA 2015, and the benchmark's
//! scoring rules as they stand in its repository.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use signal::detector::{Config, ConfigError, Detector};

/// What one run over a corpus gave.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Files scored.
    pub files: usize,
    /// Rows read over all files.
    pub rows: usize,
    /// Wall time of the detector over all rows, without reading and scoring.
    pub seconds: f64,
    /// One entry per cost profile of the corpus, by name.
    pub profiles: Vec<ProfileReport>,
}

/// The result under one cost profile.
#[derive(Debug, Clone, Serialize)]
pub struct ProfileReport {
    /// The profile's name in `profiles.json`.
    pub profile: String,
    /// 0–100: 0 never alarms, 100 is perfect. May be negative.
    pub score: f64,
    /// Rows that score at least this are alarms; `None` when never alarming scores best.
    pub threshold: Option<f64>,
    /// One entry per file, in the corpus' order.
    pub files: Vec<FileReport>,
}

/// One file at the profile's threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileReport {
    /// `folder/file.csv`.
    pub file: String,
    /// Windows with at least one alarm.
    pub detected: usize,
    /// Windows without.
    pub missed: usize,
    /// Alarms (rows) outside every window.
    pub false_positives: usize,
}

/// The files of a corpus with their labels, read and checked.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// Sorted by name.
    pub series: Vec<Series>,
    profiles: BTreeMap<String, Costs>,
}

/// One file.
#[derive(Debug, Clone)]
pub struct Series {
    /// `folder/file.csv`.
    pub name: String,
    /// One value a row; NaN where the cell is empty.
    pub values: Vec<f64>,
    /// Labelled windows as first and last row, both inside, in time order.
    pub windows: Vec<(usize, usize)>,
}

/// What a hit, a false alarm and a missed window weigh.
#[derive(Debug, Clone, Copy)]
struct Costs {
    hit: f64,
    false_alarm: f64,
    miss: f64,
}

/// Why a corpus could not be scored.
#[derive(Debug, thiserror::Error)]
pub enum NabError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not the JSON that NAB defines")]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{path} is not a CSV of timestamp and value")]
    Csv { path: PathBuf, source: csv::Error },
    #[error("{path} row {row}: {what} `{text}`")]
    Cell { path: PathBuf, row: usize, what: &'static str, text: String },
    #[error("{dir} holds no data/*/*.csv")]
    Empty { dir: PathBuf },
    #[error("{dir} holds neither profiles.json nor config/profiles.json")]
    NoProfiles { dir: PathBuf },
    #[error("{file} has no entry in combined_windows.json")]
    Unlabelled { file: String },
    #[error("{file}: window edge `{edge}` is not a row of the file, or windows overlap")]
    Window { file: String, edge: String },
    #[error("{file}: {given} scores for {rows} rows")]
    Length { file: String, given: usize, rows: usize },
    #[error("{given} score lists for {files} files")]
    Files { given: usize, files: usize },
    #[error("the detector refused its configuration")]
    Detector(#[from] ConfigError),
}

/// Runs the default detector over the corpus in `dir` and scores it.
pub fn run(dir: &Path) -> Result<Report, NabError> {
    let corpus = Corpus::load(dir)?;
    let start = Instant::now();
    let scores =
        corpus.series.iter().map(|series| score_rows(&series.values)).collect::<Result<Vec<_>, ConfigError>>()?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Report {
        files: corpus.series.len(),
        rows: scores.iter().map(Vec::len).sum(),
        seconds,
        profiles: corpus.score(&scores)?,
    })
}

/// The detector's score of each row of one file, in order, from nothing but the rows before it.
pub fn score_rows(values: &[f64]) -> Result<Vec<f64>, ConfigError> {
    let mut detector = Detector::new(Config::new(1))?;
    Ok(values.iter().map(|&value| detector.step(&[value]).onset()).collect())
}

impl Corpus {
    /// Reads the files present under `dir/data`, their windows and the profiles.
    pub fn load(dir: &Path) -> Result<Corpus, NabError> {
        let labels_path = dir.join("labels").join("combined_windows.json");
        let labels: BTreeMap<String, Vec<[String; 2]>> = read_json(&labels_path)?;
        let profiles_path = ["profiles.json", "config/profiles.json"]
            .map(|name| dir.join(name))
            .into_iter()
            .find(|path| path.is_file())
            .ok_or_else(|| NabError::NoProfiles { dir: dir.into() })?;
        let profiles: BTreeMap<String, ProfileFile> = read_json(&profiles_path)?;

        let mut series = Vec::new();
        for folder in sorted_entries(&dir.join("data"))? {
            if !folder.is_dir() {
                continue;
            }
            for path in sorted_entries(&folder)? {
                if path.extension().is_some_and(|extension| extension == "csv") {
                    let name = format!("{}/{}", file_name(&folder), file_name(&path));
                    let windows =
                        labels.get(&name).ok_or_else(|| NabError::Unlabelled { file: name.clone() })?;
                    series.push(Series::load(&path, name, windows)?);
                }
            }
        }
        if series.is_empty() {
            return Err(NabError::Empty { dir: dir.into() });
        }
        let profiles = profiles.into_iter().map(|(name, file)| (name, file.costs.into())).collect();
        Ok(Corpus { series, profiles })
    }

    /// Scores given rows under every profile. `scores`: one list per series, one number a row, in the corpus' order.
    pub fn score(&self, scores: &[Vec<f64>]) -> Result<Vec<ProfileReport>, NabError> {
        if scores.len() != self.series.len() {
            return Err(NabError::Files { given: scores.len(), files: self.series.len() });
        }
        for (series, scores) in self.series.iter().zip(scores) {
            if scores.len() != series.values.len() {
                return Err(NabError::Length {
                    file: series.name.clone(),
                    given: scores.len(),
                    rows: series.values.len(),
                });
            }
        }
        Ok(self.profiles.iter().map(|(name, costs)| self.score_profile(name, *costs, scores)).collect())
    }

    fn score_profile(&self, profile: &str, costs: Costs, scores: &[Vec<f64>]) -> ProfileReport {
        let mut rows = Vec::new();
        for (index, (series, scores)) in self.series.iter().zip(scores).enumerate() {
            series.weigh(index, costs, scores, &mut rows);
        }
        // NaN is a detector without an opinion: it sorts last and never alarms.
        rows.retain(|row| !row.score.is_nan());
        rows.sort_by(|a, b| b.score.total_cmp(&a.score));

        let windows: usize = self.series.iter().map(Series::scored_windows).sum();
        let never = -costs.miss * windows as f64;
        let (best, threshold) = sweep(&rows, costs.miss, never);
        // NAB counts a window that ends inside the probation in the perfect score as well.
        let perfect = costs.hit * self.series.iter().map(|series| series.windows.len()).sum::<usize>() as f64;
        let span = perfect - never;
        ProfileReport {
            profile: profile.to_owned(),
            score: if span > 0.0 { 100.0 * (best - never) / span } else { 0.0 },
            threshold,
            files: self
                .series
                .iter()
                .zip(scores)
                .map(|(series, scores)| series.report(threshold.unwrap_or(f64::INFINITY), threshold.is_some(), scores))
                .collect(),
        }
    }
}

impl Series {
    fn load(path: &Path, name: String, labels: &[[String; 2]]) -> Result<Series, NabError> {
        let csv_error = |source| NabError::Csv { path: path.into(), source };
        let mut reader = csv::Reader::from_path(path).map_err(csv_error)?;
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for (row, record) in reader.records().enumerate() {
            let record = record.map_err(csv_error)?;
            let cell = |what, text: &str| NabError::Cell { path: path.into(), row: row + 1, what, text: text.into() };
            let (time, value) = (record.get(0).unwrap_or(""), record.get(1).unwrap_or(""));
            times.push(parse_time(time).ok_or_else(|| cell("not a timestamp", time))?);
            values.push(match value.trim() {
                "" => f64::NAN,
                number => number.parse().map_err(|_| cell("not a number", value))?,
            });
        }

        let mut windows = Vec::with_capacity(labels.len());
        let mut after = 0;
        for [first, last] in labels {
            // NAB enters a window on the first row that bears its time, and leaves it likewise.
            let find = |edge: &String, from: usize| {
                let time = parse_time(edge);
                (from..times.len())
                    .find(|&row| Some(times[row]) == time)
                    .ok_or_else(|| NabError::Window { file: name.clone(), edge: edge.clone() })
            };
            let start = find(first, after)?;
            let end = find(last, start)?;
            after = end + 1;
            windows.push((start, end));
        }
        Ok(Series { name, values, windows })
    }

    /// Rows at the start of the file that are not scored.
    pub fn probation(&self) -> usize {
        (self.values.len() * 15 / 100).min(750)
    }

    /// Windows that do not end inside the probation.
    fn scored_windows(&self) -> usize {
        self.windows.iter().filter(|&&(_, end)| end >= self.probation()).count()
    }

    /// Appends what each scored row would earn or cost as an alarm.
    fn weigh(&self, file: usize, costs: Costs, scores: &[f64], rows: &mut Vec<Row>) {
        let best_hit = scaled_sigmoid(-1.0);
        let mut window = 0;
        for (row, &score) in scores.iter().enumerate() {
            while self.windows.get(window).is_some_and(|&(_, end)| end < row) {
                window += 1;
            }
            if row < self.probation() {
                continue;
            }
            let inside = self.windows.get(window).filter(|&&(start, _)| start <= row);
            rows.push(if let Some(&(start, end)) = inside {
                let position = -((end - row + 1) as f64) / (end - start + 1) as f64;
                Row {
                    score,
                    worth: scaled_sigmoid(position) * costs.hit / best_hit,
                    window: Some((file, window)),
                }
            } else {
                let position = match window.checked_sub(1).map(|previous| self.windows[previous]) {
                    Some((start, end)) => scaled_sigmoid((row - end) as f64 / (end - start) as f64),
                    None => -1.0,
                };
                Row { score, worth: position * costs.false_alarm, window: None }
            });
        }
    }

    fn report(&self, threshold: f64, alarms: bool, scores: &[f64]) -> FileReport {
        let alarm = |row: usize| alarms && row >= self.probation() && scores[row] >= threshold;
        let detected = self.windows.iter().filter(|&&(start, end)| (start..=end).any(alarm)).count();
        let inside = |row: usize| self.windows.iter().any(|&(start, end)| (start..=end).contains(&row));
        FileReport {
            file: self.name.clone(),
            detected,
            missed: self.scored_windows() - detected,
            false_positives: (0..scores.len()).filter(|&row| alarm(row) && !inside(row)).count(),
        }
    }
}

/// A scored row.
struct Row {
    score: f64,
    /// What an alarm here earns (inside a window) or costs.
    worth: f64,
    /// File and number of the window it lies in.
    window: Option<(usize, usize)>,
}

/// The best total over all thresholds and the threshold that gives it. `rows`: highest score first.
fn sweep(rows: &[Row], miss: f64, never: f64) -> (f64, Option<f64>) {
    let (mut best, mut threshold) = (never, None);
    let mut earned: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    let mut total = never;
    for (index, row) in rows.iter().enumerate() {
        match row.window {
            None => total += row.worth,
            Some(window) => {
                let earned = earned.entry(window).or_insert(-miss);
                if row.worth > *earned {
                    total += row.worth - *earned;
                    *earned = row.worth;
                }
            }
        }
        let last_of_its_score = rows.get(index + 1).is_none_or(|next| next.score != row.score);
        if last_of_its_score && total > best {
            (best, threshold) = (total, Some(row.score));
        }
    }
    (best, threshold)
}

/// NAB's worth of a position: −1 the window's first row, 0 its last, above 0 past it.
fn scaled_sigmoid(position: f64) -> f64 {
    if position > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

fn parse_time(text: &str) -> Option<DateTime> {
    text.trim().parse().ok()
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, NabError> {
    let text = std::fs::read(path).map_err(|source| NabError::Read { path: path.into(), source })?;
    serde_json::from_slice(&text).map_err(|source| NabError::Json { path: path.into(), source })
}

fn sorted_entries(dir: &Path) -> Result<Vec<PathBuf>, NabError> {
    let read = |source| NabError::Read { path: dir.into(), source };
    let mut paths = std::fs::read_dir(dir)
        .map_err(read)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(read)?;
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[derive(Deserialize)]
struct ProfileFile {
    #[serde(rename = "CostMatrix")]
    costs: CostMatrix,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CostMatrix {
    tp_weight: f64,
    fp_weight: f64,
    fn_weight: f64,
}

impl From<CostMatrix> for Costs {
    fn from(matrix: CostMatrix) -> Costs {
        Costs { hit: matrix.tp_weight, false_alarm: matrix.fp_weight, miss: matrix.fn_weight }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.seconds * 1e6 / self.rows.max(1) as f64;
        writeln!(f, "{} files, {} rows, {:.2} s, {micros:.2} µs a row", self.files, self.rows, self.seconds)?;
        writeln!(f, "{:<24} {:>7} {:>10} {:>9} {:>7} {:>6}", "profile", "score", "threshold", "detected", "missed", "false")?;
        for profile in &self.profiles {
            let sum = |count: fn(&FileReport) -> usize| profile.files.iter().map(count).sum::<usize>();
            writeln!(
                f,
                "{:<24} {:>7.2} {:>10} {:>9} {:>7} {:>6}",
                profile.profile,
                profile.score,
                profile.threshold.map_or_else(|| "never".into(), |threshold| format!("{threshold:.4}")),
                sum(|file| file.detected),
                sum(|file| file.missed),
                sum(|file| file.false_positives),
            )?;
        }
        if let Some(profile) = self.profiles.iter().find(|profile| profile.profile == "standard") {
            writeln!(f, "\n{:<58} {:>9} {:>7} {:>6}", "file (standard)", "detected", "missed", "false")?;
            for file in &profile.files {
                writeln!(
                    f,
                    "{:<58} {:>9} {:>7} {:>6}",
                    file.file, file.detected, file.missed, file.false_positives
                )?;
            }
        }
        Ok(())
    }
}
