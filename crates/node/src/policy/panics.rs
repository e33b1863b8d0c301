//! What a panic says on standard error, where words are hidden: where it was, and nothing of what it was about.
//!
//! The words of a panic may quote what was being read, and the log of a service is often sent on. What a part of the node died of
//! stands in the journal, by the journal's own rules.

/// From now on no panic of this process says its words; where and on which thread it was, is logged.
pub fn withhold() {
    std::panic::set_hook(Box::new(|info| {
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        tracing::error!(at, thread = name, "a panic, whose words are withheld by the node's policy");
    }));
}
