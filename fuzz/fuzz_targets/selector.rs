//! A stranger's expression and facts: any text gives a tree or an error with its place; what is printed is read again alike, and judged alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::facts::{Delta, Facts};
use wire::select::Selector;

fuzz_target!(|input: (&str, &str)| {
    let (text, json) = input;
    let facts: Facts = serde_json::from_str(json).unwrap_or_default();
    if let Ok(delta) = serde_json::from_str::<Delta>(json) {
        let mut applied = facts.clone();
        if applied.apply(delta).is_ok() {
            let written = serde_json::to_string(&applied).expect("facts are JSON");
            assert_eq!(serde_json::from_str::<Facts>(&written).expect("we wrote it"), applied);
        }
    }
    match Selector::parse(text) {
        Ok(selector) => {
            let printed = selector.tree().to_string();
            if printed.len() <= wire::select::lex::TEXT_MAX {
                let again = Selector::parse(&printed).expect("we wrote it");
                assert_eq!(again, selector);
                assert_eq!((again.has(&facts), again.why(&facts)), (selector.has(&facts), selector.why(&facts)));
            }
            let _ = selector.names();
        }
        Err(bad) => {
            assert!(text.get(bad.at.clone()).is_some());
            let _ = (bad.to_string(), bad.caret(text));
        }
    }
});
