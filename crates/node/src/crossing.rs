//! Counts what crosses lines: boxes of one picture are matched with those of the picture before, and a thing whose middle goes
//! from one side of a line to the other is counted there.
//!
//! A thing is followed by where it should be if it goes on as it did; the nearest box within a reach of its own size is it, the
//! nearest pairs first. What is not found for a second and in three pictures is lost. A thing counts once for a line, so that one that trembles on it does
//! not count again and again. Two things that hide one another may be taken for each other: counts are as good as the boxes.
//!
//! Pure: the same boxes at the same times give the same counts.

use std::collections::VecDeque;

use net::after::Found;
use wire::world::WallMs;

/// The most lines of one network.
pub const LINES_MAX: usize = 16;
/// A thing is looked for within so many diagonals of its box from where it should be: of one whose speed nobody knows yet, and of
/// one that is followed. The second is small, or what has just left the picture would be taken for what comes in beside it.
const REACH_NEW: f64 = 1.5;
const REACH: f64 = 0.6;
/// A thing that was not seen for longer, and in more pictures than this, is lost.
const LOST_MS: i64 = 1_000;
const LOST_PICTURES: u32 = 3;
/// How far back `…_per_minute` looks.
const MINUTE_MS: i64 = 60_000;
/// The most crossings of a minute that are remembered.
const RECENT_MAX: usize = 100_000;

/// A line, in parts of the picture's sides: from 0 to 1, across and down.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What its fields begin with.
    pub name: String,
    /// Where it begins.
    pub from: (f64, f64),
    /// Where it ends.
    pub to: (f64, f64),
}

impl Line {
    /// The names of its fields: those that went from its left to its right as one walks along it, those that came back, and both
    /// in the last minute.
    pub fn fields(&self) -> [String; 3] {
        ["forth", "back", "per_minute"].map(|what| format!("{}_{what}", self.name))
    }

    /// Whether a step crosses it, and if so whether forth.
    fn crossed(&self, before: (f64, f64), now: (f64, f64)) -> Option<bool> {
        let (was, is) = (side(self.from, self.to, before), side(self.from, self.to, now));
        let (begins, ends) = (side(before, now, self.from), side(before, now, self.to));
        let meets = (was < 0.0) != (is < 0.0) && (begins < 0.0) != (ends < 0.0);
        meets.then_some(was < 0.0)
    }
}

/// On which side of the line through `from` and `to` a point lies: above 0 is on the right of who walks along it, since down counts up.
fn side(from: (f64, f64), to: (f64, f64), point: (f64, f64)) -> f64 {
    (to.0 - from.0) * (point.1 - from.1) - (to.1 - from.1) * (point.0 - from.0)
}

/// A thing that is followed.
#[derive(Debug, Clone)]
struct Track {
    label: String,
    middle: (f64, f64),
    /// Of its box.
    diagonal: f64,
    /// A step in a millisecond, once it was seen twice.
    speed: Option<(f64, f64)>,
    seen_ms: WallMs,
    /// Pictures since then.
    unseen: u32,
    /// A bit for each line that it has crossed.
    crossed: u32,
}

/// What crossed a line.
#[derive(Debug, Clone, Default)]
struct Count {
    forth: u64,
    back: u64,
    /// The times of the last minute.
    recent: VecDeque<WallMs>,
}

/// Counts at some lines.
#[derive(Debug, Clone)]
pub struct Counter {
    lines: Vec<Line>,
    counts: Vec<Count>,
    tracks: Vec<Track>,
}

impl Counter {
    /// Nothing has crossed yet. At most [`LINES_MAX`] lines.
    pub fn new(lines: Vec<Line>) -> Counter {
        let counts = vec![Count::default(); lines.len()];
        Counter { lines, counts, tracks: Vec::new() }
    }

    /// The stream broke off: whatever is seen next is another thing. The counts stay.
    pub fn lose(&mut self) {
        self.tracks.clear();
    }

    /// Takes the boxes of a picture; whether something crossed a line.
    pub fn step(&mut self, t_ms: WallMs, boxes: &[Found]) -> bool {
        if self.lines.is_empty() {
            return false;
        }
        self.tracks.retain_mut(|track| {
            let since_ms = t_ms.saturating_sub(track.seen_ms);
            track.unseen += 1;
            since_ms >= 0 && (since_ms <= LOST_MS || track.unseen <= LOST_PICTURES)
        });
        let mut pairs = Vec::new();
        for (at, track) in self.tracks.iter().enumerate() {
            let since_ms = t_ms.saturating_sub(track.seen_ms) as f64;
            let (speed, reach) = track.speed.map_or(((0.0, 0.0), REACH_NEW), |speed| (speed, REACH));
            let expected = (track.middle.0 + speed.0 * since_ms, track.middle.1 + speed.1 * since_ms);
            for (found, seen) in boxes.iter().enumerate().filter(|(_, seen)| seen.label == track.label) {
                let (middle, diagonal) = place(seen);
                let reach = reach * diagonal.max(track.diagonal);
                let away = (middle.0 - expected.0).hypot(middle.1 - expected.1);
                if away <= reach {
                    pairs.push((away / reach, at, found));
                }
            }
        }
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let (mut followed, mut taken) = (vec![false; self.tracks.len()], vec![false; boxes.len()]);
        let mut any = false;
        for (_, at, found) in pairs {
            if followed[at] || taken[found] {
                continue;
            }
            (followed[at], taken[found]) = (true, true);
            any |= self.follow(at, t_ms, &boxes[found]);
        }
        for (seen, _) in boxes.iter().zip(&taken).filter(|(_, taken)| !**taken) {
            let (middle, diagonal) = place(seen);
            let label = seen.label.clone();
            let (speed, seen_ms) = (None, t_ms);
            self.tracks.push(Track { label, middle, diagonal, speed, seen_ms, unseen: 0, crossed: 0 });
        }
        for count in &mut self.counts {
            while count.recent.front().is_some_and(|at_ms| t_ms.saturating_sub(*at_ms) >= MINUTE_MS) {
                count.recent.pop_front();
            }
        }
        any
    }

    /// A thing is seen again; whether it crossed a line.
    fn follow(&mut self, at: usize, t_ms: WallMs, seen: &Found) -> bool {
        let track = &mut self.tracks[at];
        let (middle, diagonal) = place(seen);
        let since_ms = t_ms.saturating_sub(track.seen_ms);
        let mut any = false;
        for (number, (line, count)) in self.lines.iter().zip(&mut self.counts).enumerate() {
            let Some(forth) = line.crossed(track.middle, middle).filter(|_| track.crossed & 1 << number == 0)
            else {
                continue;
            };
            any = true;
            track.crossed |= 1 << number;
            *(if forth { &mut count.forth } else { &mut count.back }) += 1;
            count.recent.push_back(t_ms);
            if count.recent.len() > RECENT_MAX {
                count.recent.pop_front();
            }
        }
        if since_ms > 0 {
            let step = |now: f64, before: f64| (now - before) / since_ms as f64;
            track.speed = Some((step(middle.0, track.middle.0), step(middle.1, track.middle.1)));
        }
        (track.middle, track.diagonal, track.seen_ms, track.unseen) = (middle, diagonal, t_ms, 0);
        any
    }

    /// The fields of all lines, by name.
    pub fn fields(&self) -> impl Iterator<Item = (String, f64)> {
        self.lines.iter().zip(&self.counts).flat_map(|(line, count)| {
            let numbers = [count.forth, count.back, count.recent.len() as u64];
            line.fields().into_iter().zip(numbers.map(|number| number as f64))
        })
    }
}

/// The middle of a box, and its diagonal.
fn place(seen: &Found) -> ((f64, f64), f64) {
    let [left, top, right, bottom] = [seen.left, seen.top, seen.right, seen.bottom].map(f64::from);
    (((left + right) / 2.0, (top + bottom) / 2.0), (right - left).hypot(bottom - top))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(x: f64, y: f64) -> Found {
        let side = |middle: f64, away: f64| (middle + away) as f32;
        Found {
            label: "car".to_owned(),
            p: 0.9,
            left: side(x, -0.05),
            top: side(y, -0.05),
            right: side(x, 0.05),
            bottom: side(y, 0.05),
        }
    }

    fn across() -> Line {
        Line { name: "gate".to_owned(), from: (0.0, 0.5), to: (0.6, 0.5) }
    }

    /// What the boxes of pictures a fifth of a second apart count to.
    fn counted(pictures: &[&[(f64, f64)]]) -> [f64; 3] {
        let mut counter = Counter::new(vec![across()]);
        for (at, boxes) in pictures.iter().enumerate() {
            let boxes: Vec<Found> = boxes.iter().map(|(x, y)| seen(*x, *y)).collect();
            counter.step(at as i64 * 200, &boxes);
        }
        let fields: Vec<f64> = counter.fields().map(|(_, count)| count).collect();
        fields.try_into().unwrap()
    }

    #[test]
    fn things_are_counted_by_the_way_they_go() {
        assert_eq!(
            counted(&[&[(0.2, 0.3)], &[(0.2, 0.42)], &[(0.2, 0.54)], &[(0.2, 0.66)]]),
            [1.0, 0.0, 1.0]
        );
        assert_eq!(counted(&[&[(0.2, 0.7)], &[(0.2, 0.6)], &[(0.2, 0.45)]]), [0.0, 1.0, 1.0]);
        // Two pass each other, and one goes by beside the end of the line.
        let both = counted(&[
            &[(0.2, 0.4), (0.4, 0.6), (0.8, 0.4)],
            &[(0.2, 0.48), (0.4, 0.52), (0.8, 0.48)],
            &[(0.2, 0.56), (0.4, 0.44), (0.8, 0.56)],
        ]);
        assert_eq!(both, [1.0, 1.0, 2.0]);
    }

    #[test]
    fn one_that_trembles_on_a_line_counts_once_and_a_jump_is_another_thing() {
        assert_eq!(
            counted(&[&[(0.2, 0.49)], &[(0.2, 0.51)], &[(0.2, 0.49)], &[(0.2, 0.51)]]),
            [1.0, 0.0, 1.0]
        );
        assert_eq!(counted(&[&[(0.2, 0.1)], &[(0.2, 0.9)]]), [0.0; 3]);
        // A fast one is followed by where it should be: the second step is longer than the reach of one that stands.
        assert_eq!(counted(&[&[(0.1, 0.1)], &[(0.1, 0.3)], &[(0.1, 0.55)]]), [1.0, 0.0, 1.0]);
        // One that is hidden for three pictures is the same afterwards.
        let hidden = counted(&[&[(0.1, 0.4)], &[(0.1, 0.43)], &[], &[], &[], &[(0.1, 0.55)]]);
        assert_eq!(hidden, [1.0, 0.0, 1.0]);
    }

    #[test]
    fn what_has_left_is_not_taken_for_what_comes_in_beside_it() {
        // One leaves at the bottom, and one comes in beside it and goes up past the line.
        let pictures: [&[(f64, f64)]; 9] = [
            &[(0.2, 0.42)],
            &[(0.2, 0.58)],
            &[(0.2, 0.74)],
            &[(0.2, 0.9)],
            &[(0.35, 0.95)],
            &[(0.35, 0.8)],
            &[(0.35, 0.65)],
            &[(0.35, 0.51)],
            &[(0.35, 0.36)],
        ];
        assert_eq!(counted(&pictures), [1.0, 1.0, 2.0]);
    }

    #[test]
    fn a_minute_passes_and_a_break_loses_things_not_counts() {
        let mut counter = Counter::new(vec![across()]);
        assert!(!counter.step(0, &[seen(0.2, 0.45)]) && counter.step(200, &[seen(0.2, 0.55)]));
        let minute = |counter: &Counter| counter.fields().map(|(_, count)| count).collect::<Vec<_>>();
        assert_eq!(minute(&counter), [1.0, 0.0, 1.0]);
        counter.step(60_200, &[]);
        assert_eq!(minute(&counter), [1.0, 0.0, 0.0]);
        counter.step(60_400, &[seen(0.2, 0.55)]);
        counter.lose();
        assert!(!counter.step(60_600, &[seen(0.2, 0.45)]), "nobody knows that it is the same");
        // A clock that went back does the same.
        assert!(!counter.step(100, &[seen(0.2, 0.55)]));
        for late_ms in [400, 800, 1_200] {
            counter.step(late_ms, &[]);
        }
        assert!(!counter.step(1_600, &[seen(0.2, 0.45)]), "it is lost");
        assert!(!Counter::new(Vec::new()).step(0, &[seen(0.2, 0.2)]));
    }
}
