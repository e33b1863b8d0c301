//! A network at its place: when it looks, what it does when it fails, which release it is, and what it was asked ahead.

use net::after::Field;
use net::specimen::{Size, constant, int, model, node, value};
use package::digest::Digest;

use super::*;

const S: MonoNs = 1_000_000_000;

/// `y = x w` over windows of two readings of two channels: the sum of all of them.
fn summing() -> Vec<u8> {
    let parts = [node("MatMul", &["x", "w"], &["y"], &[]), constant("w", &[4, 1], &[1.0; 4])];
    let port = |name, wide| value(name, 1, &[Size::Is(1), Size::Is(wide)]);
    model(&parts, &[port("x", 4)], &[port("y", 1)])
}

/// With a file of these bytes, in a folder that lives as long as it is held.
fn watcher(bytes: &[u8]) -> (Watcher, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sum.onnx");
    std::fs::write(&file, bytes).unwrap();
    let watcher = Watcher::new(NetworkConfig {
        name: PartName::new("sum").unwrap(),
        source: 0,
        from: Origin::File(file),
        window: 2,
        hop: 3,
        max_gap_ms: 10_000,
        recipe: Recipe::default(),
        runtime: None,
        pictures: false,
        lines: Vec::new(),
        record_each: false,
        span: 0..0,
    });
    (watcher, folder)
}

fn said(change: Option<Change>) -> Option<f64> {
    match change? {
        Change::Answered(answer) => match answer.fields[0].1 {
            Field::Number(number) => Some(number),
            Field::Word(_) => None,
        },
        Change::Forgot => Some(f64::NEG_INFINITY),
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_looks_at_whole_windows_a_hop_apart() {
    let (mut watcher, _folder) = watcher(&summing());
    watcher.open(2, 0).unwrap();
    let mut step = |t_ms: i64, value: f64| said(watcher.step(t_ms * 1000, &[value, 1.0], 0));
    let told: Vec<_> = (0..9).map(|t| step(t, t as f64)).collect();
    assert_eq!(told, [None, Some(3.0), None, None, Some(9.0), None, None, Some(15.0), None]);
    // A missing value, a silence and a step back each begin another stream.
    let forgot = Some(f64::NEG_INFINITY);
    assert_eq!([step(9, f64::NAN), step(10, 1.0), step(11, 2.0)], [forgot, None, Some(5.0)]);
    assert_eq!([step(40, 3.0), step(41, 4.0)], [forgot, Some(9.0)]);
    assert_eq!([step(40, 5.0), step(41, 6.0)], [forgot, Some(13.0)]);
}

#[test]
fn what_fails_is_tried_again_later_and_later() {
    let (mut watcher, _folder) = watcher(b"no network");
    assert!(watcher.open(2, 0).is_err());
    let mut failures = Vec::new();
    for second in 0..40 {
        match watcher.step(second as i64 * 1000, &[1.0, 1.0], second * S) {
            None => {}
            Some(Change::Failed(reason)) => failures.push((second, reason)),
            Some(other) => panic!("{other:?}"),
        }
    }
    let times: Vec<u64> = failures.iter().map(|(second, _)| *second).collect();
    assert_eq!(times, [1, 3, 7, 15, 31]);
    assert!(failures[0].1.contains("no ONNX file"), "{failures:?}");
    // Whole bytes, and it is back by itself.
    let Origin::File(file) = &watcher.config().from else { unreachable!("it was made so") };
    std::fs::write(file, summing()).unwrap();
    assert_eq!(watcher.step(63_000, &[1.0, 1.0], 63 * S), Some(Change::Ready));
    assert_eq!(watcher.model().digest, Some(Hash::of(&summing())));
}

#[test]
fn a_window_that_does_not_fit_is_found_out_when_the_source_opens() {
    let (mut watcher, _folder) = watcher(&summing());
    let error = watcher.open(3, 0).unwrap_err();
    let told = "its input x float32[1×4] takes 4 numbers, and its source gives windows of 6 (2 readings of 3 channels): \
         give it a source of which `window` times its `channels` is 4";
    assert_eq!(error.to_string(), told);
    assert!(!watcher.is_ready());
    assert_eq!(watcher.step(0, &[1.0; 3], 0), None);
    assert!(matches!(watcher.step(1, &[1.0; 3], S), Some(Change::Failed(_))));
}

/// As [`summing`], of so many channels, each times ten.
fn given(release: u64, channels: u64) -> Given {
    let weights = vec![10.0; channels as usize];
    let parts = [node("MatMul", &["x", "w"], &["y"], &[]), constant("w", &[channels, 1], &weights)];
    let port = |name, wide| value(name, 1, &[Size::Is(1), Size::Is(wide)]);
    let bytes = model(&parts, &[port("x", channels)], &[port("y", 1)]);
    let (manifest, weights) = (Digest::of(&release.to_le_bytes()), Digest::of(&bytes));
    Given { release, manifest, weights, bytes: Box::new(bytes), recipe: Recipe::default() }
}

#[test]
fn a_release_takes_the_place_of_the_one_before_unless_it_does_not_fit() {
    let (mut watcher, _folder) = watcher(&summing());
    let sum = ModelName::new("sum").unwrap();
    let from = Origin::Release(sum.clone());
    watcher.config = NetworkConfig { from, hop: 1, ..watcher.config };
    let releases = Releases::default();
    watcher.join(releases.clone());
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    releases.tell_to(Box::new(move |_, manifest, told| hears.lock().unwrap().push((manifest, told))));
    let error = watcher.open(2, 0).unwrap_err().to_string();
    assert!(error.contains("no release of `sum` serves here"), "{error}");
    let mut t = 0;
    let mut step = |watcher: &mut Watcher| {
        t += 1;
        watcher.step(t * 1000, &[1.0, 1.0], t as u64 * S)
    };
    assert_eq!(step(&mut watcher), None);
    releases.give(&sum, given(1, 4));
    assert_eq!(step(&mut watcher), Some(Change::Ready));
    assert!(watcher.model().variant.ends_with(" release=1"), "{:?}", watcher.model());
    assert_eq!([said(step(&mut watcher)), said(step(&mut watcher))], [None, Some(40.0)]);
    watcher.answered(0, 1);
    // One that takes three windows' worth of channels is told of, and the one before goes on.
    releases.give(&sum, given(2, 6));
    assert_eq!(said(step(&mut watcher)), Some(40.0));
    releases.give(&sum, given(1, 4));
    assert_eq!(said(step(&mut watcher)), Some(40.0));
    releases.give(&sum, given(3, 4));
    assert_eq!(step(&mut watcher), Some(Change::Ready));
    releases.take_back(&sum);
    assert!(matches!(step(&mut watcher), Some(Change::Failed(_))));
    assert_eq!([step(&mut watcher), step(&mut watcher)], [None, None]);
    let told = told.lock().unwrap();
    let of = |release: u64| Digest::of(&release.to_le_bytes());
    assert_eq!(told[0], (of(1), Told::Answered { ms: 1, ok: true }));
    assert!(
        matches!(&told[1], (broken, Told::Broke(why)) if *broken == of(2) && why.contains("takes 6")),
        "{told:?}"
    );
    assert_eq!(told.len(), 2);
}

/// The sum of each window, as [`summing`], where the file leaves open how many look. `mixes`: what they look at is weighed together.
fn summing_many(mixes: bool) -> Vec<u8> {
    let last = if mixes {
        node("Softmax", &["s"], &["y"], &[int("axis", 0)])
    } else {
        node("Neg", &["s"], &["y"], &[])
    };
    let parts = [node("MatMul", &["x", "w"], &["s"], &[]), last, constant("w", &[4, 1], &[-1.0; 4])];
    let port = |name, wide| value(name, 1, &[Size::Called("looks"), Size::Is(wide)]);
    model(&parts, &[port("x", 4)], &[port("y", 1)])
}

/// What comes of readings of `t` seconds and a value, in pieces of so many; `None` as the piece: nothing is foreseen.
fn said_of(watcher: &mut Watcher, readings: &[(i64, f64)], piece: Option<usize>) -> Vec<Option<f64>> {
    let clock = wire::world::Simulated::new(1);
    let rows: Vec<(WallMs, [f64; 2])> = readings.iter().map(|(t, value)| (t * 1000, [*value, 1.0])).collect();
    let mut told = Vec::new();
    for (at, (t_ms, values)) in rows.iter().enumerate() {
        if let Some(piece) = piece {
            let coming =
                rows[at..].iter().take(piece - at % piece).map(|(t_ms, values)| (*t_ms, &values[..]));
            watcher.foresee(1, coming, &clock);
        }
        told.push(said(watcher.step(*t_ms, values, 0)));
    }
    told
}

#[test]
fn looks_that_share_a_run_say_what_they_say_alone() {
    // A missing value, a silence, a reading that is late.
    let readings = |at: i64| match at {
        17 => (17, f64::NAN),
        30.. => (at + 100, at as f64),
        25 => (20, 1.0),
        _ => (at, (at * 7 % 13) as f64),
    };
    let readings: Vec<(i64, f64)> = (0..60).map(readings).collect();
    let bytes = summing_many(false);
    let told = |batch: Option<usize>, piece: Option<usize>, hop: usize| {
        let (mut watcher, folder) = watcher(&bytes);
        watcher.config.recipe.batch = batch;
        watcher.config.hop = hop;
        watcher.open(2, 0).unwrap();
        let told = said_of(&mut watcher, &readings, piece);
        drop(folder);
        told
    };
    for hop in [1, 2, 3] {
        let alone = told(None, None, hop);
        assert!(alone.iter().flatten().count() > 15);
        for piece in [1, 2, 5, 8, 60] {
            assert_eq!(told(Some(4), Some(piece), hop), alone, "hop {hop}, in pieces of {piece}");
        }
    }
}

#[test]
fn answers_are_asked_ahead_in_full_groups_and_the_next_release_has_its_own() {
    let (mut watcher, _folder) = watcher(&summing_many(false));
    watcher.config.recipe.batch = Some(4);
    watcher.config.hop = 1;
    watcher.open(2, 0).unwrap();
    assert_eq!(watcher.foresight(), 6);
    let clock = wire::world::Simulated::new(1);
    let rows: Vec<[f64; 2]> = (0..9).map(|at| [f64::from(at), 0.0]).collect();
    let coming = |count: usize| rows.iter().take(count).zip(0..).map(|(row, t)| (t * 1000, &row[..]));
    watcher.foresee(1, coming(9), &clock);
    assert!(watcher.ahead.is_empty(), "the first reading makes no look due");
    assert_eq!(said(watcher.step(0, &rows[0], 0)), None);
    watcher.foresee(1, coming(4).skip(1), &clock);
    assert!(watcher.ahead.is_empty(), "three looks are no full group");
    watcher.foresee(1, coming(9).skip(1), &clock);
    assert!(!watcher.ahead.is_empty());
    assert_eq!(said(watcher.step(1000, &rows[1], 0)), Some(1.0));
    // Something else comes than was foreseen.
    assert_eq!(said(watcher.step(2000, &[100.0, 0.0], 0)), Some(101.0));
    assert!(watcher.ahead.is_empty());
    watcher.foresee(1, coming(9).skip(3), &clock);
    assert!(!watcher.ahead.is_empty());
    watcher.open(2, 0).unwrap();
    assert!(watcher.ahead.is_empty(), "it is loaded anew");
}

#[test]
fn what_weighs_looks_together_is_found_out_when_it_is_loaded() {
    let (mut watcher, _folder) = watcher(&summing_many(true));
    assert!(watcher.open(2, 0).is_ok());
    watcher.close();
    watcher.config.recipe.batch = Some(4);
    let error = why(&watcher.open(2, 0).unwrap_err());
    assert!(error.contains("depends on what is looked at beside it: leave out `batch`"), "{error}");
    assert!(!watcher.is_ready());
}
