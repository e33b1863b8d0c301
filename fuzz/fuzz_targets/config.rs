//! A flow or a hub's settings from a stranger: any text gives a config or problems that can be shown at their place.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use node::flow::Flow;

fuzz_target!(|text: &str| {
    if let Err(problems) = Flow::parse(Path::new("flow.toml"), text.into()) {
        assert!(!problems.0.is_empty());
        for problem in &problems.0 {
            let (line, column) = problem.position();
            assert!(line >= 1 && column >= 1 && !problem.message.is_empty());
        }
    }
    let _ = hub::config::HubConfig::parse(text).map(|config| config.check());
});
