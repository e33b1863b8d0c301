//! What the owner of a machine lets a release use that somebody ordered to answer beside the current one, whatever the order allows. Pure.
//!
//! The tighter of the two holds, figure by figure. An owner who lets none answer says so with no cap at all ([`crate::install::event::Rules`]),
//! and the node's facts say that it cannot.

use package::trust::shadow::Limits;

/// The whole, in the parts in which shares are told.
const WHOLE_PPM: u32 = 1_000_000;

/// The most that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap {
    /// Of all answers that can be compared, so many in a million.
    pub share_ppm: u32,
    /// In a minute, so many millionths of one core.
    pub core_ppm: u32,
    /// In a minute, so many joules of the machine; absent: any.
    pub joules: Option<u32>,
    /// So many bytes of memory; absent: any.
    pub memory_bytes: Option<u64>,
}

impl Default for Cap {
    /// Whatever was ordered.
    fn default() -> Cap {
        Cap { share_ppm: WHOLE_PPM, core_ppm: WHOLE_PPM, joules: None, memory_bytes: None }
    }
}

impl Cap {
    /// What holds of an order.
    pub fn within(&self, ordered: &Limits) -> Limits {
        Limits {
            share_ppm: ordered.share_ppm.min(self.share_ppm),
            core_ppm: ordered.core_ppm.min(self.core_ppm),
            joules: tighter(ordered.joules, self.joules),
            memory_bytes: tighter(ordered.memory_bytes, self.memory_bytes),
            answers: ordered.answers,
        }
    }
}

fn tighter<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tighter_of_order_and_owner_holds() {
        let ordered = Limits {
            share_ppm: 100_000,
            core_ppm: 50_000,
            joules: None,
            memory_bytes: Some(2 << 30),
            answers: 9,
        };
        assert_eq!(Cap::default().within(&ordered), ordered, "who says nothing changes nothing");
        let cap = Cap { share_ppm: 20_000, core_ppm: 60_000, joules: Some(30), memory_bytes: Some(3 << 30) };
        let held = cap.within(&ordered);
        assert_eq!(held, Limits { share_ppm: 20_000, joules: Some(30), ..ordered });
        let cap = Cap { memory_bytes: Some(1 << 30), ..Cap::default() };
        assert_eq!(cap.within(&ordered).memory_bytes, Some(1 << 30));
        let modest = Limits { joules: Some(10), ..ordered };
        assert_eq!(Cap { joules: Some(30), ..Cap::default() }.within(&modest).joules, Some(10));
    }
}
