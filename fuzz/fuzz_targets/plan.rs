//! A stranger's plan of a rollout or an experiment: any bytes give a plan or an error; what is written is read again alike, under the
//! same name, and all that follows from it is recognised.
#![no_main]

use hub::experiment;
use hub::rollout::{documents, text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(plan) = text::read(bytes) {
        let written = text::write(&plan);
        assert_eq!(text::read(&written).expect("we wrote it"), plan);
        let all = documents::of(&plan);
        for one in &all {
            assert_eq!(documents::check(&all, &one.value).expect("it follows").kind, one.kind);
        }
        assert!(text::diff(&plan, &plan).is_empty());
        let _ = plan.to_string();
    }
    if let Ok(plan) = experiment::text::read(bytes) {
        let written = experiment::text::write(&plan);
        assert_eq!(experiment::text::read(&written).expect("we wrote it"), plan);
        let all = experiment::documents::of(&plan);
        for one in &all {
            assert_eq!(documents::check(&all, &one.value).expect("it follows").kind, one.kind);
        }
        let _ = plan.to_string();
    }
});
