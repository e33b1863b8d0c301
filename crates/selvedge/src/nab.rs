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

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use signal::detector::{Config, ConfigError, Detector};
use wire::world::{Clock as _, System};

/// What one run over a corpus gave.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// Files scored.
    pub(crate) files: usize,
    /// Rows read over all files.
    pub(crate) rows: usize,
    /// Wall time of the detector over all rows, without reading and scoring.
    pub(crate) seconds: f64,
    /// One entry per cost profile of the corpus, by name.
    pub(crate) profiles: Vec<ProfileReport>,
}

/// The result under one cost profile.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProfileReport {
    /// The profile's name in `profiles.json`.
    pub(crate) profile: String,
    /// 0–100: 0 never alarms, 100 is perfect. May be negative.
    pub(crate) score: f64,
    /// Rows that score at least this are alarms; `None` when never alarming scores best.
    pub(crate) threshold: Option<f64>,
    /// One entry per file, in the corpus' order.
    pub(crate) files: Vec<FileReport>,
}

/// One file at the profile's threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct FileReport {
    /// `folder/file.csv`.
    pub(crate) file: String,
    /// Windows with at least one alarm.
    pub(crate) detected: usize,
    /// Windows without.
    pub(crate) missed: usize,
    /// Alarms (rows) outside every window.
    pub(crate) false_positives: usize,
}

/// The files of a corpus with their labels, read and checked.
#[derive(Debug, Clone)]
pub(crate) struct Corpus {
    /// Sorted by name.
    pub(crate) series: Vec<Series>,
    profiles: BTreeMap<String, Costs>,
}

/// One file.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// `folder/file.csv`.
    pub(crate) name: String,
    /// One value a row; NaN where the cell is empty.
    pub(crate) values: Vec<f64>,
    /// Labelled windows as first and last row, both inside, in time order.
    pub(crate) windows: Vec<(usize, usize)>,
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
pub(crate) enum NabError {
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
pub(crate) fn run(dir: &Path) -> Result<Report, NabError> {
    let corpus = Corpus::load(dir)?;
    let clock = System::new();
    let start_ns = clock.mono_ns();
    let scores = corpus
        .series
        .iter()
        .map(|series| score_rows(&series.values))
        .collect::<Result<Vec<_>, ConfigError>>()?;
    let seconds = (clock.mono_ns() - start_ns) as f64 / 1e9;
    Ok(Report {
        files: corpus.series.len(),
        rows: scores.iter().map(Vec::len).sum(),
        seconds,
        profiles: corpus.score(&scores)?,
    })
}

/// The detector's score of each row of one file, in order, from nothing but the rows up to it.
///
/// NAB has a threshold of its own and calls every row over it an alarm, where the detector would stay quiet for its
/// refractory period. So a row keeps its score only if no row of the refractory period before it scored as high.
pub(crate) fn score_rows(values: &[f64]) -> Result<Vec<f64>, ConfigError> {
    let config = Config::new(1);
    let refractory = config.refractory as usize;
    let mut detector = Detector::new(config)?;
    let raw: Vec<f64> = values.iter().map(|&value| detector.step(&[value]).raw).collect();
    let is_onset =
        |row: usize| raw[row.saturating_sub(refractory)..row].iter().all(|&before| before < raw[row]);
    Ok((0..raw.len()).map(|row| if is_onset(row) { raw[row] } else { 0.0 }).collect())
}

impl Corpus {
    /// Reads the files present under `dir/data`, their windows and the profiles.
    pub(crate) fn load(dir: &Path) -> Result<Corpus, NabError> {
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
    pub(crate) fn score(&self, scores: &[Vec<f64>]) -> Result<Vec<ProfileReport>, NabError> {
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
                .map(|(series, scores)| {
                    series.report(threshold.unwrap_or(f64::INFINITY), threshold.is_some(), scores)
                })
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
            let cell = |what, text: &str| NabError::Cell {
                path: path.into(),
                row: row + 1,
                what,
                text: text.into(),
            };
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
    pub(crate) fn probation(&self) -> usize {
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
        writeln!(
            f,
            "{:<24} {:>7} {:>10} {:>9} {:>7} {:>6}",
            "profile", "score", "threshold", "detected", "missed", "false"
        )?;
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Twenty rows, the first three not scored, with one window from row 10 to row 14.
    fn series() -> Series {
        Series { name: "made/up.csv".into(), values: vec![0.0; 20], windows: vec![(10, 14)] }
    }

    fn corpus(series: Vec<Series>) -> Corpus {
        let costs = Costs { hit: 1.0, false_alarm: 0.11, miss: 1.0 };
        Corpus { series, profiles: [("standard".to_owned(), costs)].into() }
    }

    /// No opinion but on the given rows.
    fn scores(given: &[(usize, f64)]) -> Vec<f64> {
        let mut scores = vec![f64::NAN; 20];
        for &(row, score) in given {
            scores[row] = score;
        }
        scores
    }

    #[test]
    fn scores_as_by_hand() {
        // A hit on row 12 is 3 of 5 rows before the window's end: (2 / (1 + e^-3) - 1) / (2 / (1 + e^-5) - 1).
        let hit = 0.905_148_25 / 0.986_614_30;
        // An alarm on row 16 is 2 rows past a window of width 4: 0.11 (2 / (1 + e^2.5) - 1).
        let soon_after = 0.11 * 0.848_283_64;
        let percent = |total: f64| 100.0 * (total + 1.0) / 2.0;
        for (what, given, expected, alarms) in [
            ("nothing", &[][..], 0.0, (0, 1, 0)),
            ("in the probation", &[(2, 1.0)], 0.0, (0, 1, 0)),
            ("on the first row", &[(10, 1.0)], 100.0, (1, 0, 0)),
            ("later", &[(12, 1.0)], percent(hit), (1, 0, 0)),
            ("twice, the earlier counts", &[(12, 1.0), (13, 2.0)], percent(hit), (1, 0, 0)),
            ("a lower false alarm", &[(12, 1.0), (5, 0.5)], percent(hit), (1, 0, 0)),
            ("a higher false alarm", &[(12, 1.0), (5, 2.0)], percent(hit - 0.11), (1, 0, 1)),
            ("a false alarm soon after", &[(12, 1.0), (16, 2.0)], percent(hit - soon_after), (1, 0, 1)),
        ] {
            let reports = corpus(vec![series()]).score(&[scores(given)]).unwrap();
            let report = &reports[0];
            assert!((report.score - expected).abs() < 1e-5, "{what}: {} not {expected}", report.score);
            let file = &report.files[0];
            assert_eq!((file.detected, file.missed, file.false_positives), alarms, "{what}");
        }
    }

    #[test]
    fn one_threshold_serves_all_files() {
        let quiet = Series { name: "quiet/one.csv".into(), windows: Vec::new(), ..series() };
        let reports = corpus(vec![series(), quiet])
            .score(&[scores(&[(10, 1.0)]), scores(&[(5, 2.0), (7, 3.0), (9, 0.5)])])
            .unwrap();
        assert_eq!(reports[0].threshold, Some(1.0));
        assert!((reports[0].score - 100.0 * (1.0 - 0.22 + 1.0) / 2.0).abs() < 1e-9);
        assert_eq!(reports[0].files[1].false_positives, 2);
    }

    #[test]
    fn scores_that_do_not_fit_are_refused() {
        let corpus = corpus(vec![series()]);
        assert!(matches!(corpus.score(&[]), Err(NabError::Files { given: 0, files: 1 })));
        assert!(matches!(corpus.score(&[vec![0.0; 3]]), Err(NabError::Length { given: 3, rows: 20, .. })));
    }

    /// Writes a corpus of one file and loads it.
    fn load(csv: &str, windows: &str) -> Result<Corpus, NabError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("data/made")).unwrap();
        std::fs::create_dir_all(dir.path().join("labels")).unwrap();
        std::fs::write(dir.path().join("data/made/up.csv"), csv).unwrap();
        std::fs::write(dir.path().join("labels/combined_windows.json"), windows).unwrap();
        let costs = r#"{"standard": {"CostMatrix": {"tpWeight": 1, "fpWeight": 0.11, "fnWeight": 1, "tnWeight": 1}}}"#;
        std::fs::write(dir.path().join("profiles.json"), costs).unwrap();
        Corpus::load(dir.path())
    }

    #[test]
    fn reads_a_corpus_and_says_what_is_wrong_with_it() {
        let csv = "timestamp,value\n2014-04-01 00:00:00,1.5\n2014-04-01 00:05:00,\n2014-04-01 00:10:00,-2\n";
        let window = |first: &str, last: &str| {
            format!(r#"{{"made/up.csv": [["2014-04-01 {first}.000000", "2014-04-01 {last}.000000"]]}}"#)
        };
        let corpus = load(csv, &window("00:05:00", "00:10:00")).unwrap();
        assert_eq!(corpus.series[0].windows, [(1, 2)]);
        assert_eq!(corpus.series[0].values[2], -2.0);
        assert!(corpus.series[0].values[1].is_nan());
        for (what, csv, windows, expected) in [
            ("an edge between rows", csv, &*window("00:05:01", "00:10:00"), "window edge"),
            ("a window backwards", csv, &window("00:10:00", "00:05:00"), "window edge"),
            ("no labels", csv, "{}", "no entry"),
            ("not JSON", csv, "[", "not the JSON"),
            (
                "no number",
                "timestamp,value\n2014-04-01 00:00:00,x\n",
                &window("00:00:00", "00:00:00"),
                "not a number",
            ),
            ("no time", "timestamp,value\nyesterday,1\n", &window("00:00:00", "00:00:00"), "not a timestamp"),
            ("a ragged row", "timestamp,value\n1,2,3\n", "{\"made/up.csv\": []}", "not a CSV"),
        ] {
            let error = load(csv, windows).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected), "{what}: {error}");
        }
    }

    /// The shared data's NAB folder, if this machine has it.
    fn shared() -> Option<PathBuf> {
        let data = std::env::var_os("SELVEDGE_SHARED_DATA").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
            PathBuf::from,
        );
        let dir = data.join("sensor").join("NAB");
        if !dir.is_dir() {
            eprintln!("skipped: no shared data");
            return None;
        }
        Some(dir)
    }

    /// The per-row scores that a detector of the public board has published.
    fn published(dir: &Path, detector: &str, corpus: &Corpus) -> Vec<Vec<f64>> {
        let read = |series: &Series| {
            let path = dir.join("scores").join(detector).join(&series.name).with_extension("txt.gz");
            let mut text = String::new();
            flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
                .read_to_string(&mut text)
                .unwrap();
            text.lines().map(|line| line.parse().unwrap()).collect()
        };
        corpus.series.iter().map(read).collect()
    }

    #[test]
    fn on_shared_data_published_detectors_score_as_published() {
        let Some(dir) = shared() else { return };
        let corpus = Corpus::load(&dir).unwrap();
        let never = corpus.series.iter().map(|series| vec![0.0; series.values.len()]).collect();
        // Standard, few false positives, few false negatives. windowedGaussian stands in expected_scores.json with
        // 30.81, 25.17 and 34.21: those come from its scores in full precision, which this scorer reproduces too. The
        // shared files round to ten digits, so that 267 rows tie at 1.0, and ties cost.
        for (detector, scores, expected) in [
            ("null", never, [0.0, 0.0, 0.0]),
            ("contextOSE", published(&dir, "contextOSE", &corpus), [64.45, 60.01, 68.61]),
            ("relativeEntropy", published(&dir, "relativeEntropy", &corpus), [60.27, 50.48, 65.82]),
            ("windowedGaussian", published(&dir, "windowedGaussian", &corpus), [25.83, 12.08, 32.50]),
        ] {
            let reports = corpus.score(&scores).unwrap();
            for (profile, expected) in
                ["standard", "reward_low_FP_rate", "reward_low_FN_rate"].into_iter().zip(expected)
            {
                let score = reports.iter().find(|report| report.profile == profile).unwrap().score;
                assert!((score - expected).abs() <= 0.01, "{detector} {profile}: {score} not {expected}");
            }
        }
    }

    #[test]
    fn on_shared_data_our_detector_reaches_its_goal() {
        let Some(dir) = shared() else { return };
        let report = run(&dir).unwrap();
        let standard = report.profiles.iter().find(|profile| profile.profile == "standard").unwrap();
        assert!(standard.score >= 60.0, "{report}");
    }
}
