//! Two tills of a shop and those who work at them: what was sold, taken back, voided, and how often a drawer was opened without a sale,
//! counted every five minutes; on one afternoon somebody pays himself refunds, on one evening a drawer is opened again and again.
//!
//! Counts are drawn as customers come, by chance and by themselves (Poisson), more of them at noon and after work. Nobody here exists.

use wire::world::{Entropy, Simulated, WallMs};

use super::Sample;

/// What a till counts: sales, what they brought, refunds, voids, and drawers opened without a sale.
pub const TILL: [&str; 5] = ["sales", "takings", "refunds", "voids", "drawer"];
/// Who works there.
pub const PEOPLE: [&str; 3] = ["anna", "ben", "carla"];
/// What is counted of each of them, in the order of [`PEOPLE`].
pub const OF_PEOPLE: [&str; 9] = [
    "anna_refunds",
    "anna_voids",
    "anna_drawer",
    "ben_refunds",
    "ben_voids",
    "ben_drawer",
    "carla_refunds",
    "carla_voids",
    "carla_drawer",
];
/// Days that are told; the shop is open from 8 to 20.
pub const DAYS: usize = 10;
/// The second till, in ben's hands, gives refunds that nobody asked for: day, and hours of the day.
pub const REFUNDS: (usize, f64, f64) = (7, 14.0, 17.0);
/// The drawer of the first till is opened again and again.
pub const DRAWER: (usize, f64, f64) = (8, 18.0, 19.0);

/// Counts of five minutes.
const STEP_H: f64 = 1.0 / 12.0;

/// What the shop's tills and people counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shop {
    /// Of each till.
    pub tills: [Vec<Sample>; 2],
    /// Of all people, in one row.
    pub people: Vec<Sample>,
}

impl Shop {
    /// Ten days from `start_ms` on, which should be a midnight.
    pub fn new(seed: u64, start_ms: WallMs) -> Shop {
        let mut chance = Simulated::new(seed);
        let mut shop = Shop::default();
        for day in 0..DAYS {
            for step in 0..144 {
                let hour = 8.0 + f64::from(step) * STEP_H;
                // Each reading stands at the end of its five minutes.
                let t_ms = start_ms + (((day * 24) as f64 + hour + STEP_H) * 3_600_000.0).round() as i64;
                shop.count(day, hour, t_ms, &mut chance);
            }
        }
        shop
    }

    fn count(&mut self, day: usize, hour: f64, t_ms: WallMs, chance: &mut Simulated) {
        let rush = |at: f64| (-(hour - at).powi(2) / 2.0).exp();
        let customers = 3.0 + 4.0 * rush(12.5) + 5.0 * rush(17.5);
        let within = |(on, from, to): (usize, f64, f64)| day == on && (from..to).contains(&hour);
        let (pays_himself, opens) = (within(REFUNDS), within(DRAWER));
        // Who is at which till: two of the three, by turns of a day.
        let at_till =
            [PEOPLE[(day * 2) % 3], if day == REFUNDS.0 { "ben" } else { PEOPLE[(day * 2 + 1) % 3] }];
        let mut of_people = vec![0.0; OF_PEOPLE.len()];
        let mut wrong_people = None;
        for (till, person) in at_till.into_iter().enumerate() {
            let sales = poisson(chance, customers);
            let takings = (0..sales as u32).map(|_| -18.0 * (1.0 - chance.unit()).ln()).sum::<f64>();
            let mut refunds = poisson(chance, 0.03 * customers);
            let voids = poisson(chance, 0.05 * customers);
            let mut drawer = poisson(chance, 0.1);
            let wrong = match till {
                1 if pays_himself => Some("refunds"),
                0 if opens => Some("drawer"),
                _ => None,
            };
            match wrong {
                Some("refunds") => refunds += poisson(chance, 3.0),
                Some(_) => drawer += poisson(chance, 3.0),
                None => {}
            }
            wrong_people = wrong_people.or(wrong);
            let who = PEOPLE.iter().position(|known| *known == person).unwrap_or_default();
            for (what, count) in [refunds, voids, drawer].into_iter().enumerate() {
                of_people[who * 3 + what] += count;
            }
            let values = vec![sales, takings, refunds, voids, drawer];
            self.tills[till].push(Sample { t_ms, values, wrong });
        }
        self.people.push(Sample { t_ms, values: of_people, wrong: wrong_people });
    }
}

/// A count of what comes by chance, so many on average (Knuth 1969); for averages of a few dozen at most.
fn poisson(chance: &mut Simulated, mean: f64) -> f64 {
    let (limit, mut product, mut count) = ((-mean).exp(), chance.unit(), 0.0);
    while product > limit {
        product *= chance.unit();
        count += 1.0;
    }
    count
}
