//! `selvedge detect` on files that are not what they should be.

use std::path::Path;

use crate::process::{Ended, run, run_fed};

/// The program itself, its libraries and their pages are 20 MiB to 30 MiB of it.
const PEAK_MAX_KIB: u64 = 64 << 10;

#[test]
fn what_can_be_read_is_read_and_the_rest_is_counted_with_its_line() {
    #[track_caller]
    fn check(folder: &Path, text: &[u8], expected: &str) {
        std::fs::write(folder.join("a.csv"), text).unwrap();
        let Ended { code, stdout, stderr, .. } = run(folder, &["detect", "a.csv"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert_eq!(stdout.lines().nth(1).unwrap(), expected);
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    check(folder, b"t,a,b\n1,1,2\n2,,2\n3,1,2\n", "3 rows read; 1 cell empty or not finite");
    check(folder, b"t,a\n1,1\n2,NaN\n3,inf\n4,-inf\n", "4 rows read; 3 cells empty or not finite");
    check(folder, b"t,a\n1,1\n2,warm\n3,2\n4,hot\n", "4 rows read; 2 cells that hold text (first at line 3)");
    check(
        folder,
        b"t,a\n5,1\n6,1\n4,1\n6,2\n7,1\n3,1\n",
        "3 rows read, 3 rows refused: 2 out of order (first at line 4), \
         1 with the time of the row before (at line 5)",
    );
    check(
        folder,
        b"t,a,b\n1,1,1\n2,1\n3,1,1,1\n4,1,1\n",
        "3 rows read, 1 row refused: 1 with more cells than the header (at line 4); \
         1 row with too few cells (at line 3); 1 cell empty or not finite",
    );
    check(
        folder,
        b"t,a\n1,1\n2,\xff\nyesterday,1\n3,1\n",
        "2 rows read, 2 rows refused: 1 without a readable time (at line 4), 1 not UTF-8 (at line 3)",
    );
}

#[test]
fn what_cannot_be_read_is_refused_with_file_line_reason_and_mend() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let files: [(&str, &[u8]); 10] = [
        ("empty", b""),
        ("header-only", b"t,a\n"),
        ("no-header", b"1,2\n2,3\n"),
        ("no-time", b"x,a\nfoo,1\nbar,2\n"),
        ("no-number", b"t,a\n1,x\n2,y\n"),
        ("bad-times", b"t,a\nx,1\ny,2\n"),
        ("twice", b"t,a,a\n1,2,3\n"),
        ("not-utf-8", b"t,\xff\n1,2\n"),
        ("utf-16", b"\xff\xfet\0,\0a\0\n\0"),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0"),
    ];
    let mut screens = String::new();
    for (name, bytes) in files {
        let file = format!("{name}.csv");
        std::fs::write(folder.join(&file), bytes).unwrap();
        let Ended { code, stdout, stderr, .. } = run(folder, &["detect", &file]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{file}: {stderr}");
        screens.push_str(&stderr);
    }
    insta::assert_snapshot!(screens);
}

/// 1 GB in blocks of 64 KiB after `head`.
fn endless(head: &str, pattern: &'static [u8]) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
    let block = pattern.repeat((1 << 16) / pattern.len());
    std::iter::once(head.as_bytes().to_vec()).chain(std::iter::repeat_n(block, 16_000))
}

#[test]
fn a_line_without_an_end_costs_a_few_mebibytes() {
    #[track_caller]
    fn check(blocks: impl Iterator<Item = Vec<u8>> + Send + 'static, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let ended = run_fed(folder.path(), &["detect", "/dev/stdin"], blocks);
        println!("{expected}: peak {} KiB, took {} bytes", ended.peak_kib, ended.fed);
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.starts_with("error: /dev/stdin\n"), "{}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
        assert!(ended.fed < 8 << 20, "it read on: {} bytes", ended.fed);
        assert!(ended.peak_kib < PEAK_MAX_KIB, "{} KiB", ended.peak_kib);
    }
    let rows: String = (1..=200).map(|t_s| format!("{t_s},1\n")).collect();
    check(endless("", b"7"), "line 1 is longer than 1048576 bytes");
    check(endless(&format!("t,a\n{rows}"), b"7"), "line 202 is longer than 1048576 bytes");
    check(endless(&format!("t,a\n{rows}\""), b"7,\n"), "line 202 is longer than 1048576 bytes");
    check(endless("", b"a,"), "line 1 has more than 1024 columns");
    check(endless(&format!("t,a\n{rows}"), b","), "line 202 has more than 1024 columns");
    check(std::iter::once(b",".repeat(1_000_000)), "line 1 has more than 1024 columns");
}

#[test]
fn a_long_recording_is_read_from_a_pipe_in_little_memory() {
    /// Each row has 999 cells of 20 bytes beside its time.
    const ROWS: i64 = 1_000;
    let header = format!("t,a{}\n", ",".repeat(998));
    let pad = "                   x,".repeat(997);
    let rows = (1..=ROWS).map(move |t_s| format!("{t_s},{}.5,{pad}\n", t_s % 7).into_bytes());
    let folder = tempfile::tempdir().unwrap();
    let blocks = std::iter::once(header.into_bytes()).chain(rows);
    let ended = run_fed(folder.path(), &["detect", "/dev/stdin"], blocks);
    println!("peak {} KiB, took {} bytes", ended.peak_kib, ended.fed);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.starts_with("/dev/stdin: 1 000 readings of 1 channel (a)"), "{}", ended.stdout);
    assert!(ended.fed > 20_000_000 && ended.peak_kib < PEAK_MAX_KIB, "{ended:?}");
}
