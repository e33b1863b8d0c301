//! The course of a channel's illness: well → suspect → faulty → recovering → well.
//!
//! Findings come reading by reading and weigh differently: a value that has stood still for minutes is beyond doubt, a
//! noisy reading is one of many. A channel is faulty when findings outweigh their absence by [`CONFIRM`], and well
//! again only after a run of readings without any, so that a loose contact is one story and not a hundred.

/// Weight of findings that makes a channel faulty; what is beyond doubt weighs as much by itself.
pub const CONFIRM: u32 = 12;

/// What can be wrong with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No values come.
    Dead,
    /// The same value comes again and again.
    Stuck,
    /// Values that the sensor or its plant cannot have.
    Range,
    /// Values leap away and back.
    Jumps,
    /// Far more noise than usual.
    Noisy,
    /// Far less noise than usual.
    Quiet,
    /// It parts from the channels that it moves with.
    Drift,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 7] =
        [Fault::Dead, Fault::Stuck, Fault::Range, Fault::Jumps, Fault::Noisy, Fault::Quiet, Fault::Drift];

    /// The word for files and screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Dead => "dead",
            Fault::Stuck => "stuck",
            Fault::Range => "range",
            Fault::Jumps => "jumps",
            Fault::Noisy => "noisy",
            Fault::Quiet => "quiet",
            Fault::Drift => "drift",
        }
    }

    /// What is told of a channel of which something else is known already: only what no machine can cause.
    fn gravity(self) -> u8 {
        match self {
            Fault::Dead | Fault::Stuck => 2,
            Fault::Range => 1,
            Fault::Jumps | Fault::Noisy | Fault::Quiet | Fault::Drift => 0,
        }
    }

    /// How much one reading of it says.
    fn weight(self) -> u32 {
        match self {
            // Each of these is found only after a time of its own.
            Fault::Dead | Fault::Stuck | Fault::Jumps => CONFIRM,
            Fault::Range => CONFIRM / 3,
            Fault::Noisy | Fault::Quiet | Fault::Drift => 1,
        }
    }
}

/// How a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is found.
    Well,
    /// Something is found, not enough.
    Suspect,
    /// It has this.
    Faulty(Fault),
    /// It had this; nothing was found for a while.
    Recovering(Fault),
}

/// What a reading changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is faulty now, or has something graver than what was told.
    Fell(Fault),
    /// It is well again.
    Rose(Fault),
}

/// Where a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    condition: Condition,
    /// Weight of the findings, less what spoke against them.
    weight: u32,
    /// Readings without a finding.
    calm: u64,
}

impl Course {
    /// Well.
    pub const WELL: Course = Course { condition: Condition::Well, weight: 0, calm: 0 };

    /// How the channel is.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Takes what was found in one reading. `recover`: readings without a finding that make a channel well.
    pub fn step(&mut self, found: Option<Fault>, recover: u64) -> Option<Turn> {
        match (self.condition, found) {
            (Condition::Well, None) => None,
            (Condition::Well | Condition::Suspect, Some(fault)) => {
                self.weight += fault.weight();
                if self.weight < CONFIRM {
                    self.condition = Condition::Suspect;
                    return None;
                }
                self.condition = Condition::Faulty(fault);
                Some(Turn::Fell(fault))
            }
            (Condition::Suspect, None) => {
                self.weight -= 1;
                if self.weight == 0 {
                    self.condition = Condition::Well;
                }
                None
            }
            (Condition::Faulty(known) | Condition::Recovering(known), Some(fault)) => {
                // What is no graver adds nothing to what is known; what is graver is told.
                let graver = fault.gravity() > known.gravity();
                self.condition = Condition::Faulty(if graver { fault } else { known });
                graver.then_some(Turn::Fell(fault))
            }
            (Condition::Faulty(fault), None) => {
                (self.condition, self.calm) = (Condition::Recovering(fault), 0);
                self.calm_down(fault, recover)
            }
            (Condition::Recovering(fault), None) => self.calm_down(fault, recover),
        }
    }

    fn calm_down(&mut self, fault: Fault, recover: u64) -> Option<Turn> {
        self.calm += 1;
        if self.calm < recover {
            return None;
        }
        *self = Course::WELL;
        Some(Turn::Rose(fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds one letter a reading (`.` for nothing) and gives the turns with the reading they came at.
    fn check(findings: &str, expected: &[(usize, Turn)]) {
        let mut course = Course::WELL;
        let mut turns = Vec::new();
        for (at, letter) in findings.chars().enumerate() {
            let found = match letter {
                's' => Some(Fault::Stuck),
                'r' => Some(Fault::Range),
                'n' => Some(Fault::Noisy),
                _ => None,
            };
            turns.extend(course.step(found, 3).map(|turn| (at, turn)));
        }
        assert_eq!(turns, expected, "{findings}");
    }

    #[test]
    fn what_is_beyond_doubt_counts_at_once_and_the_rest_must_last() {
        check("..s...", &[(2, Turn::Fell(Fault::Stuck)), (5, Turn::Rose(Fault::Stuck))]);
        check("rr.r", &[]);
        check("rrr", &[(2, Turn::Fell(Fault::Range))]);
        check("nnnnnnnnnnn...........", &[]);
        check("nnnnnnnnnnnn", &[(11, Turn::Fell(Fault::Noisy))]);
        check("n.n.n.n.n.n.n.n.n.n.n.n.n.n.n.n.", &[]);
    }

    #[test]
    fn a_loose_contact_is_one_story() {
        check("s..s..s..s...", &[(0, Turn::Fell(Fault::Stuck)), (12, Turn::Rose(Fault::Stuck))]);
        check("s.r...", &[(0, Turn::Fell(Fault::Stuck)), (5, Turn::Rose(Fault::Stuck))]);
        let both =
            [(3, Turn::Fell(Fault::Range)), (5, Turn::Fell(Fault::Stuck)), (8, Turn::Rose(Fault::Stuck))];
        check("nrrrns...", &both);
    }
}
