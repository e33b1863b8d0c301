//! Recordings as Parquet: what pyarrow wrote is read to the last cell, and what nobody wrote ends with an error that says what it is.

#![cfg(feature = "parquet")]
#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]
#![expect(clippy::print_stderr, reason = "says what is skipped")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use node::flow::Flow;
use node::pipeline::Product;
use node::play::play;
use node::source::csv::{CsvOptions, Row};
use node::source::recording::{RecordingError, RecordingReader};
use parquet::data_type::{DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tempfile::TempDir;

/// Row groups of two columns: a time in milliseconds, and a number that may be missing.
fn write(file: &Path, groups: &[Vec<(i64, Option<f64>)>]) {
    let schema = "message readings { required int64 t (TIMESTAMP(MILLIS,true)); optional double a; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = std::fs::File::create(file).unwrap();
    let mut writer =
        SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::builder().build())).unwrap();
    for rows in groups {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let times: Vec<i64> = rows.iter().map(|(t_ms, _)| *t_ms).collect();
        column.typed::<Int64Type>().write_batch(&times, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let levels: Vec<i16> = rows.iter().map(|(_, value)| value.is_some().into()).collect();
        let values: Vec<f64> = rows.iter().filter_map(|(_, value)| *value).collect();
        column.typed::<DoubleType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn rows(file: &Path, options: &CsvOptions) -> Result<Vec<Row>, RecordingError> {
    let mut reader = RecordingReader::open(file, options)?;
    let (mut rows, mut row) = (Vec::new(), Row::default());
    while reader.read_row(&mut row)? {
        rows.push(row.clone());
    }
    Ok(rows)
}

#[test]
fn rows_over_groups_and_batches() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("f.parquet");
    let value = |n: i64| (n % 5 != 0).then_some(n as f64 / 4.0);
    let group = |from: i64, to: i64| (from..to).map(|n| (n * 1_000, value(n))).collect::<Vec<_>>();
    let mut groups = vec![group(0, 3_000), Vec::new(), group(3_000, 3_001), group(3_001, 4_100)];
    // A row that goes back and one that comes twice cost only themselves.
    groups.push(vec![(7, Some(1.0)), (4_099_000, Some(1.0)), (4_100_000, None)]);
    write(&file, &groups);
    let read = rows(&file, &CsvOptions::default()).unwrap();
    assert_eq!(read.len(), 4_101);
    for (n, row) in (0..4_100).zip(&read) {
        assert_eq!((row.t_ms, row.truth), (n * 1_000, None));
        let found = Some(row.values[0]).filter(|value| !value.is_nan());
        assert_eq!(found, value(n));
    }
    let mut reader = RecordingReader::open(&file, &CsvOptions::default()).unwrap();
    while reader.read_row(&mut Row::default()).unwrap() {}
    assert_eq!((reader.tally().out_of_order.count, reader.tally().duplicate.count), (1, 1));
    assert_eq!(reader.tally().missing, 821);
}

#[test]
fn a_flow_plays_it_as_it_plays_csv() {
    let dir = TempDir::new().unwrap();
    let rows: Vec<(i64, Option<f64>)> = (0..500)
        .map(|n| (n * 1_000, (n % 40 != 39).then_some(if n % 50 < 10 { 9.0 } else { 1.0 })))
        .collect();
    write(&dir.path().join("f.parquet"), std::slice::from_ref(&rows));
    let line = |(t_ms, value): &(i64, Option<f64>)| {
        format!("{},{}\n", t_ms / 1_000, value.map_or(String::new(), |value| value.to_string()))
    };
    let text: String = rows.iter().map(line).collect();
    std::fs::write(dir.path().join("f.csv"), format!("t,a\n{text}")).unwrap();
    let decisions = |file: &str| {
        let flow = format!(
            "[source.pump]\ntype = \"replay\"\nfile = \"{file}\"\n[rule.high]\ninputs = [\"source.pump\"]\nwhen = \"pump.a > 8\"\nfor = \"3s\"\n"
        );
        let flow = Flow::parse(&dir.path().join("flow.toml"), flow.into()).unwrap();
        flow.check_files().unwrap();
        let mut decisions = Vec::new();
        play(&flow, 0, |_, _, products| {
            decisions.extend(products.iter().filter_map(|product| match product {
                Product::Decision(decision) => Some(decision.clone()),
                _ => None,
            }));
        })
        .unwrap();
        decisions
    };
    let of_parquet = decisions("f.parquet");
    assert_eq!(of_parquet.len(), 20);
    let short = |decisions: &[wire::body::Decision]| {
        decisions.iter().map(|it| (it.state, it.at_ms, it.input)).collect::<Vec<_>>()
    };
    assert_eq!(short(&of_parquet), short(&decisions("f.csv")));
}

#[test]
fn what_cannot_be_read_says_so() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("f.parquet");
    let why = |options: &CsvOptions| {
        let error = rows(&file, options).unwrap_err();
        format!("{error} {}", std::error::Error::source(&error).map_or(String::new(), ToString::to_string))
    };
    write(&file, &[vec![(1_000, Some(1.0)), (2_000, None)]]);
    let wanted = |name: &str| CsvOptions { channels: Some(vec![name.into()]), ..CsvOptions::default() };
    assert!(why(&wanted("b")).contains("no column `b`, wanted as a channel"), "{}", why(&wanted("b")));
    assert!(why(&wanted("t")).contains("does not hold numbers"));
    let time = CsvOptions { time: Some("when".into()), ..CsvOptions::default() };
    assert!(why(&time).contains("wanted as the time"));
    let exclude = CsvOptions { exclude: vec!["a".into()], ..CsvOptions::default() };
    assert!(why(&exclude).contains("no column holds numbers"));
    let whole = std::fs::read(&file).unwrap();
    write(&file, &[Vec::new()]);
    assert!(why(&CsvOptions::default()).contains("no usable row"));
    std::fs::write(&file, "PAR1").unwrap();
    assert!(why(&CsvOptions::default()).contains("cannot be read as Parquet"));
    // A description that says that it has 4 GiB.
    let mut lies = whole.clone();
    let end = lies.len();
    lies[end - 8..end - 4].copy_from_slice(&u32::MAX.to_le_bytes());
    std::fs::write(&file, &lies).unwrap();
    assert!(why(&CsvOptions::default()).contains("its description has 4294967295 bytes"));
    for at in 0..whole.len() {
        for bits in [0x01, 0x80] {
            let mut damaged = whole.clone();
            damaged[at] ^= bits;
            std::fs::write(&file, &damaged).unwrap();
            // It may be refused, or read as something else; it never ends the program.
            drop(rows(&file, &CsvOptions::default()));
        }
    }
}

/// The Python that has the peers, if it has this one.
fn python() -> Option<PathBuf> {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/peers/bin/python");
    let python = std::env::var_os("SELVEDGE_PYTHON").map_or_else(|| PathBuf::from(own), PathBuf::from);
    let has = Command::new(&python).args(["-c", "import pyarrow.parquet"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: {} has no pyarrow", python.display());
        return None;
    }
    Some(python)
}

#[test]
fn what_pyarrow_writes() {
    let Some(python) = python() else { return };
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("f.parquet");
    for form in ["ms", "us", "ns", "int96", "int", "double", "text"] {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/write.py");
        let output = Command::new(&python).arg(script).arg(form).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let expected: Vec<Vec<serde_json::Value>> = serde_json::from_slice(&output.stdout).unwrap();
        let is_time = matches!(form, "ms" | "us" | "ns" | "int96");
        let options = CsvOptions {
            // A column of times is found by itself.
            time: (!is_time).then(|| "when".to_owned()),
            truth: Some("fault".into()),
            ..CsvOptions::default()
        };
        let mut names = vec!["pressure", "count", "big", "small", "half", "on"];
        if form == "int" {
            names.push("price");
        }
        let reader = RecordingReader::open(&file, &options).unwrap();
        assert_eq!(reader.channels(), names, "{form}");
        let read = rows(&file, &options).unwrap();
        assert_eq!(read.len(), expected.len(), "{form}");
        for (row, expected) in read.iter().zip(&expected) {
            assert_eq!(Some(row.t_ms), expected[0].as_i64(), "{form}");
            assert_eq!(row.truth, expected[1].as_bool(), "{form}");
            for ((value, expected), name) in row.values.iter().zip(&expected[2..]).zip(&names) {
                match expected.as_f64() {
                    Some(expected) => {
                        assert!((value - expected).abs() < 1e-9, "{form} {name}: {value} {expected}");
                    }
                    None => assert!(value.is_nan(), "{form} {name}: {value}"),
                }
            }
        }
    }
}
