//! Rollouts: a release goes through the fleet in waves, and each gate asks before the next wave opens. All pure but
//! [`execute`]: no SQL, no clock, no chance; it stores what comes back in one transaction.
//!
//! In reading order:
//!
//! - [`plan`]: what was decided, by people, before anything moves; it never changes again;
//! - [`text`]: a plan as the JSON that its id is the hash of, as words for people, and the difference of two;
//! - [`documents`]: every assignment that a plan can ever hand out, byte for byte, for somebody's key to sign ahead;
//! - [`member`]: one node in one rollout, and what is heard of it;
//! - [`offer`]: whether a node gets the document now, and if not, why not;
//! - [`sequential`]: tests that may be looked at after every node; [`gate`]: may the next wave open, or must it stop;
//! - [`rate`]: how much went out in the last minute; [`mod@step`]: where a rollout stands, and what an event does to it;
//! - [`draft`]: from what somebody wants to a plan; [`policy`]: waves for a fleet; [`coverage`]: what a plan would do to
//!   it, before anybody signs;
//! - [`fields`]: how plans are written and read; [`figures`]: how models behave with the release and without; [`around`]: on
//!   one node before its last change and since; [`fit`]: how a node fits a plan;
//! - [`engine`]: all rollouts under way in memory, and what check-ins, records, silence and people do to them; [`execute`]:
//!   reads it from the store, and stores it; [`carry`]: what it writes beside, as for experiments;
//! - [`conflict`]: what a hub makes of nodes that know more than it does, after a backup was restored.
//!
//! What always holds: a node is offered nothing outside the open ring; a wave opens only through its gate; whoever was
//! offered stays counted; a rollout that cannot go on by itself names what it waits for.

pub mod around;
pub mod carry;
pub mod conflict;
pub mod coverage;
pub mod documents;
pub mod draft;
pub mod engine;
pub mod execute;
pub mod fields;
pub mod figures;
pub mod fit;
pub mod gate;
pub mod hold;
pub mod member;
pub mod offer;
pub mod plan;
pub mod policy;
pub mod rate;
pub mod sequential;
pub mod step;
pub mod text;

#[cfg(test)]
mod tests;
