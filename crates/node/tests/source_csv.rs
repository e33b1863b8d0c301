//! The CSV reader against what strangers send.

use std::io::{Cursor, Read};
use std::path::Path;

use node::source::csv::{CsvOptions, CsvReader, Row};
use node::why::why;

fn open(text: &[u8], options: &CsvOptions) -> Result<CsvReader, String> {
    let bytes: Box<dyn Read + Send> = Box::new(Cursor::new(text.to_vec()));
    CsvReader::new(Path::new("f.csv"), bytes, options).map_err(|error| why(&error))
}

/// Channels, rows as `time: values`, and the tally.
fn read(text: &[u8], options: &CsvOptions) -> Result<(Vec<String>, Vec<String>, String), String> {
    let mut reader = open(text, options)?;
    let (mut row, mut rows) = (Row::default(), Vec::new());
    while reader.read_row(&mut row).map_err(|error| why(&error))? {
        let truth = row.truth.map_or(String::new(), |truth| format!(" {truth}"));
        rows.push(format!("{}: {:?}{truth}", row.t_ms, row.values));
    }
    Ok((reader.channels().to_vec(), rows, reader.tally().to_string()))
}

#[test]
fn tables() {
    fn check(text: &str, channels: &[&str], rows: &[&str], tally: &str) {
        let found = read(text.as_bytes(), &CsvOptions::default()).unwrap();
        let expected = (
            channels.iter().map(ToString::to_string).collect(),
            rows.iter().map(ToString::to_string).collect(),
            tally.to_owned(),
        );
        assert_eq!(found, expected, "{text:?}");
    }
    check("timestamp,value\n1,2.5\n2,3\n", &["value"], &["1000: [2.5]", "2000: [3.0]"], "2 rows read");
    // A European spreadsheet: semicolons, decimal commas, CRLF, a byte-order mark.
    check(
        "\u{feff}Datum;T (°C);Zeit\r\n5;1,5;2026-01-31 10:00:00\r\n6;-0,25;2026-01-31 10:00:01\r\n",
        &["Datum", "T (°C)"],
        &["1769853600000: [5.0, 1.5]", "1769853601000: [6.0, -0.25]"],
        "2 rows read",
    );
    // What lacks and what is no number.
    check(
        "t,a,b\n1,,2\n2,NaN,null\n3,inf,x\n4,5\n",
        &["a", "b"],
        &["1000: [NaN, 2.0]", "2000: [NaN, NaN]", "3000: [NaN, NaN]", "4000: [5.0, NaN]"],
        "4 rows read; 1 cell that holds text (at line 4), 1 row with too few cells (at line 5); \
         5 cells empty or not finite",
    );
    // Rows that are refused.
    check(
        "t,a\n5,1\n4,2\n5,3\nx,4\n6,5,6\n7,8\n3,1\n",
        &["a"],
        &["5000: [1.0]", "7000: [8.0]"],
        "2 rows read, 5 rows refused: 2 out of order (first at line 3), 1 with the time of the row before (at line 4), \
         1 without a readable time (at line 5), 1 with more cells than the header (at line 6)",
    );
    // Text columns and the nameless index of a data frame are no channels; a column empty at first may be one.
    check(
        "t,,site,a,late\n1,0,oslo,5,\n2,1,oslo,6,\n",
        &["a", "late"],
        &["1000: [5.0, NaN]", "2000: [6.0, NaN]"],
        "2 rows read; 2 cells empty or not finite",
    );
    check(
        "\"t\",\"a, b\"\n1,\"2\"\n\n2,\" 3 \"\n",
        &["a, b"],
        &["1000: [2.0]", "2000: [3.0]"],
        "2 rows read",
    );
    // No name of a time: the first column that holds nothing else.
    check(
        "id,when,a\n7,1769853600,1\n8,1769853601,2\n",
        &["id", "a"],
        &["1769853600000: [7.0, 1.0]", "1769853601000: [8.0, 2.0]"],
        "2 rows read",
    );
}

#[test]
fn rows_that_are_not_utf8_are_refused() {
    let (_, rows, tally) = read(b"t,a\n1,2\n2,\xff\n3,4\n", &CsvOptions::default()).unwrap();
    assert_eq!(rows, ["1000: [2.0]", "3000: [4.0]"]);
    assert_eq!(tally, "2 rows read, 1 row refused: 1 not UTF-8 (at line 3)");
}

#[test]
fn what_was_asked_for() {
    let text = b"when,a,b,anomaly,changepoint\n1,2,3,0,0\n2,4,5,1.0,0\n";
    let options = CsvOptions {
        time: Some("when".into()),
        truth: Some("anomaly".into()),
        exclude: vec!["changepoint".into()],
        ..CsvOptions::default()
    };
    let (channels, rows, _) = read(text, &options).unwrap();
    assert_eq!(channels, ["a", "b"]);
    assert_eq!(rows, ["1000: [2.0, 3.0] false", "2000: [4.0, 5.0] true"]);
    let options =
        CsvOptions { channels: Some(vec!["b".into(), "a".into()]), time: Some("when".into()), ..options };
    assert_eq!(read(text, &options).unwrap().1[0], "1000: [3.0, 2.0] false");
}

#[test]
fn files_that_give_nothing() {
    fn check(text: &str, options: CsvOptions, expected: &str) {
        let found = read(text.as_bytes(), &options).unwrap_err();
        assert!(found.contains(expected), "{found}");
    }
    let default = CsvOptions::default;
    check("", default(), "f.csv: the file is empty");
    check("t,a\n", default(), "ends after its header");
    check(
        "t,a\nx,1\ny,2\n",
        default(),
        "no usable row: 0 rows read, 2 rows refused: 2 without a readable time (first at line 2)",
    );
    check("1,2\n3,4\n", default(), "f.csv:1: the first line is no header");
    check("a,b\n1,2\n", default(), "no column holds the time (name it with `time = ");
    check("t,a\n1,x\n", default(), "no column holds numbers");
    check("t,a,a\n1,2,3\n", default(), "`a` more than once");
    let asked = |channels: &[&str]| CsvOptions {
        channels: Some(channels.iter().map(ToString::to_string).collect()),
        ..CsvOptions::default()
    };
    check(
        "t,temperature\n1,2\n",
        asked(&["temprature"]),
        "no column `temprature`, wanted as a channel (did you mean `temperature`?)",
    );
    check(
        "t,a,site\n1,2,oslo\n",
        asked(&["a", "site"]),
        "f.csv:2: column 3 (`site`) holds text, such as \"oslo\"",
    );
    check("when,a\n1,2\n", CsvOptions { time: Some("whn".into()), ..default() }, "did you mean `when`?");
    check(&format!("t,{}\n1,2\n", "x".repeat(300)), default(), "has 300 bytes");
    check("t,\"a\nb\"\n1,2\n", default(), "has control characters");
    let wide: Vec<String> = (0..1_100).map(|n| format!("c{n}")).collect();
    check(&wide.join(","), default(), "line 1 has more than 1024 columns");
}

#[test]
fn a_line_of_a_gigabyte_is_not_read() {
    struct Long(usize);
    impl Read for Long {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += buffer.len();
            assert!(self.0 < 4 << 20, "read on after the limit");
            buffer.fill(b'1');
            Ok(buffer.len())
        }
    }
    let head = "t,a\n".to_owned() + &(0..300).map(|n| format!("{n},1\n")).collect::<String>();
    let bytes = Cursor::new(head.into_bytes()).chain(Long(0));
    let mut reader = CsvReader::new(Path::new("f.csv"), Box::new(bytes), &CsvOptions::default()).unwrap();
    let mut row = Row::default();
    let error = loop {
        match reader.read_row(&mut row) {
            Ok(more) => assert!(more),
            Err(error) => break why(&error),
        }
    };
    assert!(error.starts_with("f.csv: line 302 is longer than 1048576 bytes"), "{error}");
    assert_eq!(reader.tally().rows, 300);
}

proptest::proptest! {
    /// Whatever the bytes: an error or rows of the promised shape, in ascending order, and every row is accounted for.
    #[test]
    fn nothing_panics(text in "[t,a;\"\\n\\r\\t0-9.x:\\- é]{0,200}") {
        if let Ok(mut reader) = open(format!("t,a\n{text}").as_bytes(), &CsvOptions::default()) {
            let (mut row, mut last_ms, mut rows) = (Row::default(), i64::MIN, 0);
            while let Ok(true) = reader.read_row(&mut row) {
                proptest::prop_assert_eq!(row.values.len(), reader.channels().len());
                proptest::prop_assert!(row.t_ms > last_ms);
                last_ms = row.t_ms;
                rows += 1;
            }
            proptest::prop_assert_eq!(reader.tally().rows, rows);
        }
    }

    #[test]
    fn random_bytes_do_not_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = read(&bytes, &CsvOptions::default());
    }
}
