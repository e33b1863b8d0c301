//! A road from above, five pictures a second: vehicles that go down on the left and up on the right, and half a minute in which all
//! stand still. And the small network that finds them: what is as bright as a vehicle and as large, looked for at each fourth pixel.

use net::picture::Picture;
use net::specimen::{Size, constant, int, ints, model, node, value, whole};
use wire::world::{Entropy, Simulated, WallMs};

use super::sight::Canvas;

/// Pixels across and down.
const WIDTH: usize = 160;
const HEIGHT: usize = 120;
/// A vehicle, in pixels.
const LONG: usize = 24;
const WIDE: usize = 16;
/// Where vehicles are counted: half of the way down.
pub const GATE: f64 = 0.5;
/// Between two pictures.
const STEP_MS: WallMs = 200;
/// Pixels that a vehicle goes between two pictures.
const SPEED: f64 = 5.0;
/// The network looks at each so many pixels, across and down.
const STRIDE: usize = 4;
/// Luminance between asphalt and the darkest vehicle, and how sharply they part.
const LEVEL: f32 = 120.0;
const SHARPNESS: f32 = 0.2;

/// A picture of the road, and what is true.
#[derive(Debug, Clone)]
pub struct Shot {
    /// When.
    pub t_ms: WallMs,
    /// The picture.
    pub picture: Picture,
    /// How many vehicles' middles have gone down past the gate so far, and up.
    pub passed: (u64, u64),
    /// Vehicles that are seen as a whole.
    pub vehicles: usize,
    /// Whether all stand still.
    pub stands: bool,
}

/// The camera; an iterator that ends after so many pictures.
#[derive(Debug, Clone)]
pub struct Road {
    chance: Simulated,
    start_ms: WallMs,
    at: usize,
    end: usize,
    /// Pictures in which all stand still: the first, and the one after the last.
    still: (usize, usize),
    vehicles: Vec<Vehicle>,
    passed: (u64, u64),
}

#[derive(Debug, Clone)]
struct Vehicle {
    down: bool,
    /// Its middle, in pixels from the top.
    y: f64,
    colour: [f64; 3],
}

impl Road {
    /// `still`: from which picture on, and until which, all stand still.
    pub fn new(seed: u64, pictures: usize, still: (usize, usize), start_ms: WallMs) -> Road {
        let chance = Simulated::new(seed);
        Road { chance, start_ms, at: 0, end: pictures, still, vehicles: Vec::new(), passed: (0, 0) }
    }

    fn drive(&mut self) {
        let gate = GATE * HEIGHT as f64;
        for vehicle in &mut self.vehicles {
            let before = vehicle.y;
            vehicle.y += if vehicle.down { SPEED } else { -SPEED };
            if (before < gate) != (vehicle.y < gate) {
                *(if vehicle.down { &mut self.passed.0 } else { &mut self.passed.1 }) += 1;
            }
        }
        let end = HEIGHT as f64 + LONG as f64;
        self.vehicles.retain(|vehicle| (-(LONG as f64)..=end).contains(&vehicle.y));
        for down in [true, false] {
            let enters = if down { -(LONG as f64) / 2.0 } else { HEIGHT as f64 + LONG as f64 / 2.0 };
            let room = 1.5 * LONG as f64;
            let is_free = self.vehicles.iter().all(|it| it.down != down || (it.y - enters).abs() > room);
            if is_free && self.chance.unit() < 0.08 {
                let colour = [0; 3].map(|_: u8| 150.0 + 100.0 * self.chance.unit());
                self.vehicles.push(Vehicle { down, y: enters, colour });
            }
        }
    }
}

impl Iterator for Road {
    type Item = Shot;

    fn next(&mut self) -> Option<Shot> {
        if self.at >= self.end {
            return None;
        }
        let stands = (self.still.0..self.still.1).contains(&self.at);
        if !stands {
            self.drive();
        }
        let mut canvas = Canvas::new(WIDTH, HEIGHT, [70.0, 90.0, 60.0]);
        canvas.paint(40, 0, 80, HEIGHT as i64, [72.0, 72.0, 75.0]);
        canvas.paint(79, 0, 2, HEIGHT as i64, [110.0, 110.0, 105.0]);
        for vehicle in &self.vehicles {
            let left = if vehicle.down { 52 } else { 92 };
            let top = (vehicle.y - LONG as f64 / 2.0).round() as i64;
            canvas.paint(left, top, WIDE as i64, LONG as i64, vehicle.colour);
        }
        let picture = canvas.picture(1.0, 1.0, &mut self.chance);
        let half = LONG as f64 / 2.0;
        let whole = |vehicle: &&Vehicle| (half..=HEIGHT as f64 - half).contains(&vehicle.y);
        let vehicles = self.vehicles.iter().filter(whole).count();
        let t_ms = self.start_ms + self.at as WallMs * STEP_MS;
        self.at += 1;
        Some(Shot { t_ms, picture, passed: self.passed, vehicles, stands })
    }
}

/// The network, as an ONNX file: a picture to boxes, the same in each picture, and how probably a vehicle fills each.
pub fn network() -> Vec<u8> {
    let (down, across) = ((HEIGHT - LONG) / STRIDE + 1, (WIDTH - WIDE) / STRIDE + 1);
    let count = (down * across) as u64;
    let weigh = |part: f32| vec![SHARPNESS * part / (LONG * WIDE) as f32; LONG * WIDE];
    let weights = [weigh(0.299), weigh(0.587), weigh(0.114)].concat();
    let place = |at: usize| {
        let (left, top) = (at % across * STRIDE, at / across * STRIDE);
        [
            left as f32 / WIDTH as f32,
            top as f32 / HEIGHT as f32,
            (left + WIDE) as f32 / WIDTH as f32,
            (top + LONG) as f32 / HEIGHT as f32,
        ]
    };
    let places: Vec<f32> = (0..down * across).flat_map(place).collect();
    let stride = STRIDE as u64;
    let kernel = ints("kernel_shape", &[LONG as u64, WIDE as u64]);
    let parts = [
        node("Conv", &["picture", "w", "b"], &["map"], &[kernel, ints("strides", &[stride, stride])]),
        node("Reshape", &["map", "shape"], &["scores"], &[int("allowzero", 0)]),
        // Outputs come of inputs, also where they are always the same.
        node("Mul", &["scores", "nothing"], &["zeros"], &[]),
        node("Add", &["zeros", "places"], &["boxes"], &[]),
        constant("w", &[1, 3, LONG as u64, WIDE as u64], &weights),
        constant("b", &[1], &[-SHARPNESS * LEVEL]),
        constant("nothing", &[1], &[0.0]),
        constant("places", &[1, count, 4], &places),
        whole("shape", &[3], &[1, count as i64, 1]),
    ];
    let sizes = [1, 3, HEIGHT as u64, WIDTH as u64].map(Size::Is);
    let sized = |name: &str, last: u64| value(name, 1, &[Size::Is(1), Size::Is(count), Size::Is(last)]);
    model(&parts, &[value("picture", 1, &sizes)], &[sized("boxes", 4), sized("scores", 1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vehicles_pass_both_ways_and_stand_still_for_a_while() {
        let shots: Vec<Shot> = Road::new(1, 500, (300, 400), 0).collect();
        let (down, up) = shots.last().unwrap().passed;
        assert!(down >= 8 && up >= 8, "{down} {up}");
        let still: Vec<_> = shots.iter().filter(|shot| shot.stands).map(|shot| shot.passed).collect();
        assert!(still.len() == 100 && still.windows(2).all(|pair| pair[0] == pair[1]));
        assert!(shots.iter().any(|shot| shot.vehicles >= 4));
        let again: Vec<Shot> = Road::new(1, 10, (300, 400), 0).collect();
        assert_eq!(again[9].picture, shots[9].picture, "a seed gives the same road");
    }
}
