//! How fast the whole node is: (a) a file played at full speed through detector, rules and journal; (b) the time from
//! a reading to its decision on disk at 1 000 readings a second.
//!
//! A *reading* is one row: all channels of one source at one instant. `cargo bench -p node --bench pipeline`, or with
//! `-- --quick` for a glance, `-- --latency` for (b) alone, `-- --idle` for what a node holds that only waits (a process
//! of its own, so that the other figures leave nothing behind in it).

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench talks to a person and may stop at any fault"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::{Seek, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use node::agent::start;
use node::config::Config;
use node::flow::Flow;
use node::play::play;
use wire::world::{Clock, Entropy, Simulated, System};

/// A file of `rows` readings, 1 ms apart, of channels that move together.
fn write_csv(path: &Path, rows: u64, channels: usize) {
    let mut chance = Simulated::new(1);
    let mut text = String::from("t");
    for channel in 0..channels {
        write!(text, ",c{channel}").unwrap();
    }
    text.push('\n');
    for row in 0..rows {
        write!(text, "{}", 1_700_000_000_000 + row).unwrap();
        let phase = row as f64 * 0.01;
        for channel in 0..channels {
            let noise = chance.unit() - 0.5;
            write!(text, ",{:.4}", 20.0 + (phase + channel as f64).sin() * 5.0 + noise).unwrap();
        }
        text.push('\n');
    }
    fs::write(path, text).unwrap();
}

fn write_node(dir: &Path, flow: &str) {
    let node = "[node]\nname = \"bench\"\n[journal]\nmax_bytes = \"4GiB\"\nmin_free_bytes = \"0\"\n\
                [policy]\nleaves = [\"audit\", \"event\", \"metric\", \"raw\"]\n";
    fs::write(dir.join("node.toml"), node).unwrap();
    fs::write(dir.join("flow.toml"), flow).unwrap();
}

fn flow(speed: &str, when: &str, model: bool) -> String {
    let model =
        if model { "[model.m]\ntype = \"subspace\"\ninputs = [\"source.s\"]\nlearn = 2000\n" } else { "" };
    format!(
        "[source.s]\ntype = \"replay\"\nfile = \"s.csv\"\nspeed = {speed}\n{model}\
         [rule.r]\ninputs = [\"source.s\"]\nwhen = \"{when}\"\n"
    )
}

/// Seconds of processor time this process has used.
fn cpu_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // Fields 14 and 15 of proc_pid_stat(5), in hundredths of a second.
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / 100.0)
}

/// Plays a file through a whole node, and through the pipeline alone.
fn throughput(rows: u64, channels: usize, model: bool) {
    let dir = tempfile::tempdir().unwrap();
    write_csv(&dir.path().join("s.csv"), rows, channels);
    write_node(dir.path(), &flow("\"max\"", "s.c0 > 25.2", model));
    let clock = System::new();
    let (begin_ns, begin_cpu) = (clock.mono_ns(), cpu_s());
    let node = start(Config::load(&dir.path().join("node.toml")).unwrap(), clock).unwrap();
    while !node.sources_ended() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let wall_s = (clock.mono_ns() - begin_ns) as f64 / 1e9;
    let cpu = begin_cpu.zip(cpu_s()).map(|(begin, end)| end - begin);
    let status = node.status();
    node.stop().unwrap();
    assert_eq!(status.sources[0].readings, rows);
    let flow = Flow::load(&dir.path().join("flow.toml")).unwrap();
    let begin_ns = clock.mono_ns();
    play(&flow, 0, |_, _, _| {}).unwrap();
    let alone_s = (clock.mono_ns() - begin_ns) as f64 / 1e9;
    let rate = |seconds: f64| rows as f64 / seconds / 1e3;
    println!(
        "{channels:>2} channels, {:<11} node: {:>6.0} k readings/s, {:>6.0} k values/s, {:.2} processors; \
         {:.0} k readings/s per processor; {} records, {} decisions, {:.0} MB; pipeline alone {:.0} k readings/s",
        if model { "detector" } else { "no detector" },
        rate(wall_s),
        rate(wall_s) * channels as f64,
        cpu.unwrap_or(f64::NAN) / wall_s,
        cpu.map_or(f64::NAN, rate),
        status.journal.records,
        status.decided.count,
        status.journal.bytes as f64 / 1e6,
        rate(alone_s),
    );
}

/// One reading a millisecond, and a rule that flips about a hundred times a second: each flip is synced to disk.
fn latency(seconds: u64) {
    let dir = tempfile::tempdir().unwrap();
    write_csv(&dir.path().join("s.csv"), seconds * 1_000, 8);
    let mut chance = Simulated::new(2);
    let text = fs::read_to_string(dir.path().join("s.csv")).unwrap();
    let flipping: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(row, line)| {
            let (head, _) = line.rsplit_once(',').unwrap();
            // A reading in twenty is 0, all others 1: the rule fires on it and clears on the next.
            let value = if row == 0 {
                "c7".to_owned()
            } else {
                format!("{:.0}", (chance.unit() * 20.0).floor().clamp(0.0, 1.0))
            };
            format!("{head},{value}")
        })
        .collect();
    fs::write(dir.path().join("s.csv"), flipping.join("\n")).unwrap();
    write_node(dir.path(), &flow("1.0", "s.c7 < 0.5", true));
    let node = start(Config::load(&dir.path().join("node.toml")).unwrap(), System::new()).unwrap();
    while !node.sources_ended() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = node.status();
    node.stop().unwrap();
    let decided = status.decided;
    let [p50_ms, p99_ms, max_ms] = sync_ms(dir.path());
    println!(
        "1000 readings/s of 8 channels, {} decisions in {seconds} s: reading → decision on disk \
         p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms; this disk alone, 4 KiB and a sync: \
         p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, max {max_ms:.2} ms",
        decided.count,
        decided.p50_us as f64 / 1e3,
        decided.p99_us as f64 / 1e3,
        decided.max_us as f64 / 1e3,
    );
}

/// What the disk itself takes, to compare with. Median, 99th percentile and maximum.
fn sync_ms(dir: &Path) -> [f64; 3] {
    let clock = System::new();
    let mut file = fs::File::create(dir.join("probe")).unwrap();
    let mut times_ms: Vec<f64> = (0..500)
        .map(|_| {
            let begin_ns = clock.mono_ns();
            // Over itself, as a write-ahead log does: a file that grows costs more.
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(&[7; 4_096]).unwrap();
            file.sync_data().unwrap();
            let took_ms = (clock.mono_ns() - begin_ns) as f64 / 1e6;
            std::thread::sleep(Duration::from_millis(8));
            took_ms
        })
        .collect();
    times_ms.sort_by(f64::total_cmp);
    [times_ms[250], times_ms[495], times_ms[499]]
}

/// What a node holds that only waits: an HTTP source, the local API, the journal, no model.
fn idle() {
    let dir = tempfile::tempdir().unwrap();
    write_node(dir.path(), "[source.s]\ntype = \"http\"\nchannels = [\"a\"]\n");
    let node_toml = dir.path().join("node.toml");
    fs::write(&node_toml, fs::read_to_string(&node_toml).unwrap() + "[api]\nlisten = \"127.0.0.1:0\"\n")
        .unwrap();
    let node = start(Config::load(&node_toml).unwrap(), System::new()).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let (begin, seconds) = (cpu_s(), 10);
    std::thread::sleep(Duration::from_secs(seconds));
    let used = begin.zip(cpu_s()).map(|(begin, end)| (end - begin) / seconds as f64 * 100.0);
    let rss = node.status().rss_bytes.unwrap_or(0) as f64 / 1_048_576.0;
    node.stop().unwrap();
    println!("an idle node: RSS {rss:.1} MiB, {:.2} % of a processor", used.unwrap_or(f64::NAN));
}

fn main() {
    if std::env::args().any(|arg| arg == "--idle") {
        return idle();
    }
    if std::env::args().any(|arg| arg == "--latency") {
        return latency(10);
    }
    let quick = std::env::args().any(|arg| arg == "--quick");
    let rows = if quick { 50_000 } else { 400_000 };
    println!("(a) a file at full speed, everything journalled");
    for (channels, model) in [(1, true), (8, true), (1, false), (8, false)] {
        throughput(rows, channels, model);
    }
    println!("(b) from a reading to its decision");
    latency(if quick { 5 } else { 30 });
}
