//! A shelf in a shop, seen by a camera once a minute: three boards of eight places, goods that are taken one by one, somebody who
//! fills them up, and once a hand over the lens. And the small network that counts its gaps, trained on other shelves.
//!
//! The network is one convolution, a place at a time, learnt by logistic regression; what follows only counts.

use net::picture::{Fit, Picture};
use net::specimen::{Size, constant, int, ints, model, node, value, whole};
use wire::world::{Entropy, Simulated, WallMs};

use super::sight::Canvas;

/// Boards, and places on each.
pub const BOARDS: usize = 3;
/// Places on a board.
pub const PLACES: usize = 8;
/// Pixels of a place, across and down, in the picture, and as the network looks at it.
const SEEN: usize = 32;
const LOOKED: usize = 16;
/// Pictures that the network learns from, and how often.
const LESSONS: usize = 24;
const ROUNDS: usize = 12;

/// A picture of the shelf, and what is true.
#[derive(Debug, Clone)]
pub struct Shot {
    /// When.
    pub t_ms: WallMs,
    /// The picture.
    pub picture: Picture,
    /// Empty places on each board, from the top.
    pub gaps: [usize; BOARDS],
    /// Whether the lens is covered.
    pub covered: bool,
}

/// The camera; an iterator that ends after `minutes`.
#[derive(Debug, Clone)]
pub struct Shelf {
    chance: Simulated,
    start_ms: WallMs,
    minute: usize,
    minutes: usize,
    /// Filled up, and covered, at these minutes.
    filled_at: usize,
    covered_at: usize,
    /// The colour of what stands at each place.
    goods: [[Option<[f64; 3]>; PLACES]; BOARDS],
}

impl Shelf {
    /// Full at first; goods are taken, at the minute `filled_at` all are there again, and for two minutes from `covered_at` on nothing is seen.
    pub fn new(seed: u64, minutes: usize, filled_at: usize, covered_at: usize, start_ms: WallMs) -> Shelf {
        let mut chance = Simulated::new(seed);
        let goods = full(&mut chance);
        Shelf { chance, start_ms, minute: 0, minutes, filled_at, covered_at, goods }
    }
}

impl Iterator for Shelf {
    type Item = Shot;

    fn next(&mut self) -> Option<Shot> {
        if self.minute >= self.minutes {
            return None;
        }
        if self.minute == self.filled_at {
            self.goods = full(&mut self.chance);
        } else if self.minute > 0 && self.chance.unit() < 0.6 {
            let place = (self.chance.unit() * (BOARDS * PLACES) as f64) as usize;
            self.goods[place / PLACES][place % PLACES] = None;
        }
        let covered = (self.covered_at..self.covered_at + 2).contains(&self.minute);
        let picture = match covered {
            true => {
                Canvas::new(SEEN * PLACES, SEEN * BOARDS, [9.0, 6.0, 5.0]).picture(1.0, 1.5, &mut self.chance)
            }
            false => paint(&self.goods, &mut self.chance),
        };
        let t_ms = self.start_ms + self.minute as WallMs * 60_000;
        self.minute += 1;
        let gaps = self.goods.map(|board| board.iter().filter(|place| place.is_none()).count());
        Some(Shot { t_ms, picture, gaps, covered })
    }
}

/// All places have something.
fn full(chance: &mut Simulated) -> [[Option<[f64; 3]>; PLACES]; BOARDS] {
    let mut goods = [[None; PLACES]; BOARDS];
    goods.iter_mut().flatten().for_each(|place| *place = Some(colour(chance)));
    goods
}

/// The colour of a box of something: one that shows before a dark wall.
fn colour(chance: &mut Simulated) -> [f64; 3] {
    let bright = (chance.unit() * 3.0) as usize;
    let mut colour = [0; 3].map(|_: u8| 60.0 + 140.0 * chance.unit());
    colour[bright.min(2)] = 200.0 + 40.0 * chance.unit();
    colour
}

fn paint(goods: &[[Option<[f64; 3]>; PLACES]; BOARDS], chance: &mut Simulated) -> Picture {
    let side = SEEN as i64;
    let mut canvas = Canvas::new(SEEN * PLACES, SEEN * BOARDS, [44.0, 42.0, 46.0]);
    for (board, places) in goods.iter().enumerate() {
        let top = board as i64 * side;
        canvas.paint(0, top + side - 4, side * PLACES as i64, 4, [120.0, 90.0, 60.0]);
        for (place, goods) in places.iter().enumerate() {
            let Some(colour) = *goods else { continue };
            // Nobody puts boxes down exactly.
            let left = place as i64 * side + 2 + (chance.unit() * 4.0) as i64;
            let height = 22 + (chance.unit() * 5.0) as i64;
            canvas.paint(left, top + side - 4 - height, 24, height, colour);
            canvas.paint(left + 4, top + side - 14, 16, 5, colour.map(|part| 255.0 - part / 2.0));
        }
    }
    canvas.picture(0.8 + 0.4 * chance.unit(), 6.0, chance)
}

/// A place as the network sees it: `[3, LOOKED, LOOKED]`, less the mean and over the deviation that the recipe says.
fn places(picture: &Picture) -> Vec<Vec<f32>> {
    let width = LOOKED * PLACES;
    let fitted = picture.fit(width, LOOKED * BOARDS, Fit::Stretch, 0.0);
    let pixel = |at: usize, colour: usize| (fitted.rgb[3 * at + colour] - 127.0) / 128.0;
    let of = |place: usize| {
        let (top, left) = (place / PLACES * LOOKED, place % PLACES * LOOKED);
        let area = (0..3).flat_map(move |colour| (0..LOOKED * LOOKED).map(move |at| (colour, at)));
        area.map(|(colour, at)| pixel((top + at / LOOKED) * width + left + at % LOOKED, colour)).collect()
    };
    (0..BOARDS * PLACES).map(of).collect()
}

/// Learns what a gap looks like: a weight for each number of a place, and one for none of them.
fn learn(seed: u64) -> (Vec<f32>, f32) {
    let mut chance = Simulated::new(seed);
    let mut lessons = Vec::new();
    for _ in 0..LESSONS {
        let mut goods = full(&mut chance);
        goods.iter_mut().flatten().for_each(|place| *place = place.filter(|_| chance.unit() < 0.5));
        let seen = places(&paint(&goods, &mut chance));
        lessons.extend(seen.into_iter().zip(goods.into_iter().flatten().map(|place| place.is_none())));
    }
    let (mut weights, mut bias) = (vec![0.0f32; 3 * LOOKED * LOOKED], 0.0f32);
    for round in 0..ROUNDS {
        let rate = 0.02 / (1.0 + round as f32);
        for (place, is_gap) in &lessons {
            let logit = bias + weights.iter().zip(place).map(|(weight, value)| weight * value).sum::<f32>();
            let wrong = f32::from(u8::from(*is_gap)) - 1.0 / (1.0 + (-logit).exp());
            bias += rate * wrong;
            for (weight, value) in weights.iter_mut().zip(place) {
                *weight += rate * (wrong * value - 1e-3 * *weight);
            }
        }
    }
    (weights, bias)
}

/// The network, as an ONNX file: a picture to the gaps of each board, and of all.
pub fn network(seed: u64) -> Vec<u8> {
    let (weights, bias) = learn(seed);
    let side = LOOKED as u64;
    let parts = [
        node(
            "Conv",
            &["picture", "w", "b"],
            &["logits"],
            &[ints("kernel_shape", &[side, side]), ints("strides", &[side, side])],
        ),
        node("Greater", &["logits", "zero"], &["is_gap"], &[]),
        node("Cast", &["is_gap"], &["gap"], &[int("to", 1)]),
        node("ReduceSum", &["gap", "across"], &["boards"], &[int("keepdims", 0)]),
        node("ReduceSum", &["boards", "down"], &["gaps"], &[int("keepdims", 0)]),
        constant("w", &[1, 3, side, side], &weights),
        constant("b", &[1], &[bias]),
        constant("zero", &[1], &[0.0]),
        whole("across", &[2], &[1, 3]),
        whole("down", &[1], &[1]),
    ];
    let sizes = [1, 3, side * BOARDS as u64, side * PLACES as u64].map(Size::Is);
    let outputs =
        [value("boards", 1, &[Size::Is(1), Size::Is(BOARDS as u64)]), value("gaps", 1, &[Size::Is(1)])];
    model(&parts, &[value("picture", 1, &sizes)], &outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goods_are_taken_and_brought_and_what_was_learnt_tells_gaps_apart() {
        let shots: Vec<Shot> = Shelf::new(1, 60, 40, 50, 0).collect();
        assert_eq!((shots.len(), shots[0].gaps), (60, [0; 3]));
        let total = |shot: &Shot| shot.gaps.iter().sum::<usize>();
        assert!(total(&shots[39]) >= 10 && total(&shots[40]) == 0, "{:?}", shots[39].gaps);
        assert_eq!(shots.iter().filter(|shot| shot.covered).count(), 2);
        let (weights, bias) = learn(9);
        let (mut right, mut all) = (0, 0);
        for shot in shots.iter().filter(|shot| !shot.covered) {
            let found = places(&shot.picture).into_iter().filter(|place| {
                bias + weights.iter().zip(place).map(|(weight, value)| weight * value).sum::<f32>() > 0.0
            });
            all += 1;
            right += usize::from(found.count() == total(shot));
        }
        println!("{right} of {all} pictures counted right");
        assert!(right * 100 >= all * 95, "{right} of {all}");
    }
}
