//! A recording from a stranger: any bytes give rows or an error, times strictly ascend, cells match channels.
#![no_main]

use std::io::Cursor;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use node::source::csv::{CsvOptions, CsvReader, Row};

fuzz_target!(|bytes: Vec<u8>| {
    let Ok(mut reader) =
        CsvReader::new(Path::new("fuzz.csv"), Box::new(Cursor::new(bytes)), &CsvOptions::default())
    else {
        return;
    };
    let channels = reader.channels().len();
    let (mut row, mut before) = (Row::default(), None);
    while let Ok(true) = reader.read_row(&mut row) {
        assert_eq!(row.values.len(), channels);
        assert!(before.is_none_or(|before| row.t_ms > before));
        before = Some(row.t_ms);
    }
    let _ = reader.tally().to_string();
});
