//! Encoders and decoders against llama.cpp's own: the same bytes and the same bits.
//!
//! What the peer made of [`rows`] is kept as digests in `goldens/quantise.txt`, so the comparison runs everywhere; where the
//! peer is at hand (`peers/README.md`) it is asked again, on more and on real numbers.

#![allow(clippy::print_stdout, reason = "what was skipped and how much is equal is for a person to read")]
#![allow(clippy::unwrap_used, reason = "a test may stop at any fault")]

use std::path::{Path, PathBuf};
use std::process::Command;

use kernels::format::Format;

const COLUMNS: usize = 512;

/// Rows behind the golden digests.
const GOLDEN_ROWS: usize = 128;

const GOLDEN: &str = include_str!("goldens/quantise.txt");

/// Formats that both sides encode. F32 is a copy.
fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| *format != Format::F32)
}

/// A stream of numbers that depends on its seed alone (splitmix64).
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// -1 to 1, on a grid of 2^-23: exact in f32.
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    /// Roughly normal, of deviation 1: four uniform numbers together have a variance of 4/3.
    fn normal(&mut self) -> f32 {
        (0..4).map(|_| self.uniform()).sum::<f32>() * 0.866_025_4
    }
}

/// `count` rows as weights come, and as they should not: plain, with outliers, one-sided, with runs of equal numbers and
/// zeros, tiny, large, and a few levels only.
fn rows(count: usize) -> Vec<f32> {
    let mut stream = Stream(3);
    let mut values = Vec::with_capacity(count * COLUMNS);
    for row in 0..count {
        for column in 0..COLUMNS {
            let x = stream.normal();
            let chance = stream.next() % 64;
            values.push(match row % 8 {
                0 => x * 0.02,
                1 => x * if chance == 0 { 1.5 } else { 0.05 },
                2 => x.abs() * 0.3 + 0.1,
                3 => -x.abs() - 0.5,
                4 => [0.0, 0.25, -0.0, x][column / 48 % 4],
                5 => x * 1e-6,
                6 => x * 3e3,
                _ => (x * 3.0).round() * 0.125,
            });
        }
    }
    values
}

/// Importance as an importance matrix has it: over six decades, and zero where an input was never used.
fn importance() -> Vec<f32> {
    let mut stream = Stream(4);
    let column = |stream: &mut Stream| match stream.next() % 16 {
        0 => 0.0,
        1 => 1e3 * (1.0 + stream.uniform()),
        _ => (1.0 + stream.uniform()) * 10f32.powi(-(stream.next() as i32 & 3)),
    };
    (0..COLUMNS).map(|_| column(&mut stream)).collect()
}

fn encode(format: Format, values: &[f32], columns: usize, importance: Option<&[f32]>) -> Vec<u8> {
    let row_bytes = format.row_bytes(columns).unwrap();
    let mut out = vec![0; values.len() / columns * row_bytes];
    for (values, out) in values.chunks_exact(columns).zip(out.chunks_exact_mut(row_bytes)) {
        format.encode(values, importance, out).unwrap();
    }
    out
}

/// FNV-1a.
fn digest(bytes: &[u8]) -> String {
    let digest = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{digest:016x}")
}

#[test]
fn encoders_write_what_the_peer_wrote() {
    let (values, importance) = (rows(GOLDEN_ROWS), importance());
    let mut failures = Vec::new();
    let mut compared = 0;
    for line in GOLDEN.lines().filter(|line| !line.starts_with('#')) {
        let [name, kind, wanted] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
        let format = Format::from_name(name).unwrap();
        let weights = (kind == "weighted").then_some(&importance[..]);
        if digest(&encode(format, &values, COLUMNS, weights)) != wanted {
            failures.push(format!("{name} {kind}"));
        }
        compared += 1;
    }
    assert_eq!(compared, 2 * formats().count(), "a format is not in the golden file");
    assert!(failures.is_empty(), "other bytes than the peer's: {failures:?}");
}

/// Runs the peer's script; `None`, said aloud, where its packages are missing.
fn peer(arguments: &[&std::ffi::OsStr]) -> Option<()> {
    let python = std::env::var_os("SELVEDGE_PYTHON").unwrap_or_else(|| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/quantise.py");
    let output = match Command::new(&python).arg(script).args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: llama.cpp's quantiser: {}: {error}", python.display());
            return None;
        }
    };
    if output.status.code() == Some(3) {
        println!("skipped: llama.cpp's quantiser: {}", String::from_utf8_lossy(&output.stdout).trim());
        return None;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

fn write_floats(path: &Path, values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(path, bytes).unwrap();
}

fn read_floats(path: &Path) -> Vec<f32> {
    std::fs::read(path).unwrap().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The mean squared error of what `bytes` decode to, each column weighed.
fn error(format: Format, bytes: &[u8], values: &[f32], weights: &[f32]) -> f64 {
    let mut decoded = vec![0.0; values.len()];
    format.decode(bytes, &mut decoded);
    let square = |((x, y), w): ((&f32, &f32), &f32)| f64::from(*w) * f64::from(x - y).powi(2);
    values.iter().zip(&decoded).zip(weights.iter().cycle()).map(square).sum::<f64>() / values.len() as f64
}

/// Encodes `values` on both sides and prints the share of equal blocks; returns the peer's bytes. Blocks that differ are
/// an error unless ours lose less.
fn compare(
    what: &str,
    values: &[f32],
    columns: usize,
    importance: &[f32],
) -> Option<Vec<(Format, &'static str, Vec<u8>)>> {
    let folder = tempfile::tempdir().unwrap();
    let (rows, weights) = (folder.path().join("values"), folder.path().join("importance"));
    write_floats(&rows, values);
    write_floats(&weights, importance);
    let columns_text = columns.to_string();
    peer(&[
        "encode".as_ref(),
        rows.as_ref(),
        weights.as_ref(),
        columns_text.as_ref(),
        folder.path().as_ref(),
    ])?;

    let mut answers = Vec::new();
    for format in formats().filter(|format| format.row_bytes(columns).is_some()) {
        for (kind, weights) in [("plain", None), ("weighted", Some(importance))] {
            let theirs = std::fs::read(folder.path().join(format!("{}.{kind}", format.name()))).unwrap();
            let ours = encode(format, values, columns, weights);
            assert_eq!(ours.len(), theirs.len());
            let size = format.block_bytes();
            let equal =
                ours.chunks(size).zip(theirs.chunks(size)).filter(|(ours, theirs)| ours == theirs).count();
            let blocks = ours.len() / size;
            let even = vec![1.0; columns];
            let weights = weights.unwrap_or(&even);
            let lost = [&ours, &theirs].map(|bytes| error(format, bytes, values, weights));
            println!(
                "{what}: {:6} {kind:8}: {equal} of {blocks} blocks equal; error {:.6e}, peer's {:.6e}",
                format.name(),
                lost[0],
                lost[1]
            );
            assert!(
                equal == blocks || lost[0] <= lost[1],
                "{what}: {} {kind} loses more than the peer",
                format.name()
            );
            answers.push((format, kind, theirs));
        }
    }
    Some(answers)
}

#[test]
fn the_peer_still_writes_the_same() {
    let (values, importance) = (rows(GOLDEN_ROWS), importance());
    let Some(answers) = compare("golden rows", &values, COLUMNS, &importance) else { return };
    let mut golden = String::from(
        "# Digests (FNV-1a) of what llama.cpp's quantiser writes for the rows of quantise.rs; see peers/README.md.\n",
    );
    for (format, kind, bytes) in answers {
        golden += &format!("{} {kind} {}\n", format.name(), digest(&bytes));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/quantise.txt");
        std::fs::write(path, golden).unwrap();
    } else {
        assert_eq!(GOLDEN, golden);
    }
}

#[test]
fn many_rows_become_the_same_blocks() {
    let count = std::env::var("KERNELS_PEER_ROWS").map_or(64, |count| count.parse().unwrap());
    compare("seeded rows", &rows(count), COLUMNS, &importance());
}

#[test]
fn rows_of_your_own_become_the_same_blocks() {
    let (Ok(path), Ok(columns)) =
        (std::env::var("KERNELS_PEER_VALUES"), std::env::var("KERNELS_PEER_COLUMNS"))
    else {
        println!("skipped: rows of your own: no KERNELS_PEER_VALUES and KERNELS_PEER_COLUMNS");
        return;
    };
    let columns = columns.parse().unwrap();
    let importance: Vec<f32> = importance().into_iter().cycle().take(columns).collect();
    compare(&path, &read_floats(path.as_ref()), columns, &importance);
}

#[test]
fn any_bytes_decode_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let mut stream = Stream(5);
    let quantised = || Format::ALL.into_iter().filter(|format| format.is_quantised());
    let bytes_of = |format: Format| folder.path().join(format!("{}.bytes", format.name()));
    for format in quantised() {
        let bytes: Vec<u8> = (0..2000 * format.block_bytes()).map(|_| stream.next() as u8).collect();
        std::fs::write(bytes_of(format), bytes).unwrap();
    }
    if peer(&["decode".as_ref(), folder.path().as_ref()]).is_none() {
        return;
    }
    for format in quantised() {
        let bytes = std::fs::read(bytes_of(format)).unwrap();
        let wanted = read_floats(&folder.path().join(format!("{}.f32", format.name())));
        let mut ours = vec![0.0; wanted.len()];
        format.decode(&bytes, &mut ours);
        for (index, (ours, wanted)) in ours.iter().zip(&wanted).enumerate() {
            let same = ours.to_bits() == wanted.to_bits() || (ours.is_nan() && wanted.is_nan());
            assert!(same, "{}: number {index}: {ours:?} is not {wanted:?}", format.name());
        }
    }
}

#[test]
fn shared_data_rows_become_the_same_blocks() {
    let data = std::env::var_os("SELVEDGE_SHARED_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let path = data.join("slm/quant-vectors/src_8x1536.f32");
    if !path.is_file() {
        println!("skipped: real weights: no shared data");
        return;
    }
    let values = read_floats(&path);
    let importance: Vec<f32> = importance().into_iter().cycle().take(1536).collect();
    compare("MiniLM rows", &values, 1536, &importance);

    // What ggml wrote for these rows without importance, so that this test compares even without the peer.
    for (format, name) in
        [(Format::Q4_0, "q4_0"), (Format::Q8_0, "q8_0"), (Format::Q4K, "q4_K"), (Format::Q6K, "q6_K")]
    {
        let wanted = std::fs::read(path.with_file_name(format!("{name}.bin"))).unwrap();
        assert!(encode(format, &values, 1536, None) == wanted, "{name}: other bytes than ggml's");
    }
}
