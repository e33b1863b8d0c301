//! scratch
#![allow(missing_docs, dead_code)]
#[path = "../../selvedge/src/plant.rs"]
mod plant;
fn main() {
    for seed in [7, 8] {
        println!("{}", plant::run(seed, 66).unwrap());
    }
}
