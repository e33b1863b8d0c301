//! Time and chance come in through `wire::world`, so that a night can be played again from its seed.
//!
//! | where | what is allowed |
//! |---|---|
//! | `crates/wire/src/world*`, benches | everything: the one door, and what measures |
//! | `crates/kernels/src/pool.rs` | `Instant::now`: how long threads keep each other waiting decides how many work |
//! | `crates/*/tests/` | `Instant::now` and `thread::sleep`: such tests start real processes, which take real time |
//! | `#[cfg(test)]` in `src` | `thread::sleep`; a deadline there comes from a simulated world |
//! | elsewhere | nothing |

use crate::tidy::house::House;
use crate::tidy::mentions;
use crate::tidy::page::matches;
use crate::tidy::source::Folder;
use crate::tidy::violation::Violation;

const WORLD: &str = "crates/wire/src/world*";

/// Measures how long threads are waited for; no result depends on it.
const POOL: &str = "crates/kernels/src/pool.rs";

/// Pairs of words at any place of a path that reads a clock.
const CLOCKS: [(&str, &str); 9] = [
    ("SystemTime", "now"),
    ("Instant", "now"),
    ("UNIX_EPOCH", "elapsed"),
    ("Timestamp", "now"),
    ("Zoned", "now"),
    ("Utc", "now"),
    ("Local", "now"),
    ("OffsetDateTime", "now_utc"),
    ("OffsetDateTime", "now_local"),
];

/// Pairs of words that draw chance.
const DICE: [(&str, &str); 4] =
    [("RandomState", "new"), ("RandomState", "default"), ("Uuid", "new_v4"), ("Uuid", "now_v7")];

/// Single words that do.
const DICE_NAMES: [&str; 2] = ["thread_rng", "OsRng"];

/// Libraries that exist for chance alone.
const DICE_LIBRARIES: [&str; 5] = ["getrandom", "rand", "rand_core", "fastrand", "nanorand"];

/// Every path to a clock, to randomness or to a sleeping thread where it is not allowed.
pub fn check(house: &House) -> Vec<Violation> {
    let mut found = Vec::new();
    for part in &house.crates {
        for mention in mentions::of(part) {
            let source = &part.sources[mention.file];
            if matches(WORLD, &source.path) || source.folder == Folder::Benches {
                continue;
            }
            // What the house defines itself is judged where it is defined.
            if mention.path[0] == "crate" || house.ours(&mention.path[0]).is_some() {
                continue;
            }
            let in_tests = source.folder == Folder::Tests;
            let ends_in =
                |pair: (&str, &str)| mention.path.windows(2).any(|two| two[0] == pair.0 && two[1] == pair.1);
            let name = mention.written.join("::");
            let mut say = |wrong: String, mend: &str| {
                found.push(Violation::at(&source.path, mention.line, wrong, mend));
            };
            let stopwatch = ends_in(("Instant", "now"));
            let may_measure = in_tests || matches(POOL, &source.path);
            if CLOCKS.into_iter().any(&ends_in) && !(stopwatch && may_measure) {
                say(format!("`{name}` reads a clock"), "take the time from a `wire::world::Clock`");
            }
            if DICE.into_iter().any(&ends_in)
                || mention.path.iter().any(|word| DICE_NAMES.contains(&word.as_str()))
                || mention.library().is_some_and(|library| DICE_LIBRARIES.contains(&library))
            {
                say(format!("`{name}` draws chance"), "take it from a `wire::world::Entropy`");
            }
            if ends_in(("thread", "sleep")) && !in_tests && !mention.test {
                say(format!("`{name}` stops a thread"), "wait on a channel or a condition with a time-out");
            }
        }
    }
    found
}
