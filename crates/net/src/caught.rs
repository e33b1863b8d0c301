//! Runs a stranger's code so that its panics are errors, and say nothing on the terminal.
//!
//! Runtimes assert what they believe of a graph; a graph of a stranger may be another. The hook that prints panics is wrapped
//! once: while this thread is in here it stays silent, everywhere else it is the hook of before.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// What it said when it panicked; its state must not be used again.
#[derive(Debug)]
pub(crate) struct Panicked(pub(crate) String);

/// Runs it.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    static WRAPPED: Once = Once::new();
    WRAPPED.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !IS_INSIDE.get() {
                before(info);
            }
        }));
    });
    let was_inside = IS_INSIDE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    IS_INSIDE.set(was_inside);
    result.map_err(|what| {
        let said = what.downcast_ref::<&str>().map(|text| (*text).to_owned());
        Panicked(said.or_else(|| what.downcast_ref::<String>().cloned()).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(caught(|| 7).unwrap(), 7);
        assert_eq!(caught(|| -> u8 { panic!("no such axis") }).unwrap_err().0, "no such axis");
        assert_eq!(caught(|| -> u8 { panic!("axis {}", 3) }).unwrap_err().0, "axis 3");
        assert!(!IS_INSIDE.get());
    }
}
