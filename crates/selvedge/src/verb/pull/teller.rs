//! How a download goes, for whoever waits: a bar on a terminal, lines for what is worth one.

use std::io::{self, Write as _};

use indicatif::ProgressBar;
use node::pull::event::Event;

use crate::amount::{show_bytes, show_number};
use crate::progress;

/// Shows how a download goes: a bar on a terminal, a line for each turn of events elsewhere.
pub(super) struct Teller {
    bar: ProgressBar,
}

impl Teller {
    pub(super) fn new() -> Teller {
        Teller { bar: ProgressBar::hidden() }
    }

    pub(super) fn hear(&mut self, event: Event) {
        match event {
            Event::Listing { repository } => self.bar = progress::waiting(format!("looking at {repository}")),
            Event::Chosen { name, file, total_bytes } => {
                let size = total_bytes.map_or_else(String::new, |total| format!(", {}", show_bytes(total)));
                self.say(&format!("{name}: {file}{size}"));
                self.bar = progress::waiting("connecting");
            }
            Event::Checking { done_bytes, total_bytes } => {
                self.bar_of("checking what is here", Some(total_bytes));
                self.bar.set_position(done_bytes);
            }
            Event::Loading { done_bytes, total_bytes, bytes_per_s } => {
                self.bar_of("loading", total_bytes);
                // What an earlier download left was not loaded now: the rate is the puller's, not the bar's.
                let left = total_bytes.map(|total| total.saturating_sub(done_bytes) as f64 / bytes_per_s);
                let left = left.filter(|left| left.is_finite() && *left < 1e6);
                let left = left.map_or_else(String::new, |left| format!(", {} left", show_seconds(left)));
                self.bar.set_message(format!("{} MB/s{left}", show_number(bytes_per_s / 1e6)));
                self.bar.set_position(done_bytes);
            }
            Event::Waiting { wait_ms, why } => {
                self.say(&format!("{why}; again in {}", show_seconds(wait_ms as f64 / 1e3)));
            }
            Event::Restarting => self.say("the server has another file now: all of it comes again"),
        }
    }

    /// A bar for what is under way, unless it is there.
    fn bar_of(&mut self, what: &'static str, total: Option<u64>) {
        if self.bar.prefix() != what {
            self.bar.finish_and_clear();
            self.bar = progress::download(total).with_prefix(what);
        }
    }

    pub(super) fn say(&mut self, line: &str) {
        self.bar.suspend(|| {
            // If stderr is gone there is nobody to tell.
            let _ = writeln!(io::stderr(), "{line}");
        });
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn show_seconds(seconds: f64) -> String {
    match seconds.ceil() as u64 {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3_600 => format!("{} min {:02} s", s / 60, s % 60),
        s => format!("{} h {:02} min", s / 3_600, s % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_in_its_own_unit() {
        assert_eq!(show_seconds(0.2), "1 s");
        assert_eq!(show_seconds(75.0), "1 min 15 s");
        assert_eq!(show_seconds(7_500.0), "2 h 05 min");
    }
}
