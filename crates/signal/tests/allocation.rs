//! A detector that has learnt does not allocate.

use allocation_counter::measure;
use signal::detector::{Config, Detector};

fn sample(i: u32) -> [f64; 8] {
    std::array::from_fn(|channel| (f64::from(i) * (0.1 + channel as f64)).sin())
}

#[test]
fn a_step_after_learning_does_not_allocate() {
    for channels in [1, 8] {
        let mut detector = Detector::new(Config::new(channels)).unwrap();
        for i in 0..500 {
            detector.step(&sample(i)[..channels]);
        }
        assert!(detector.learnt());
        let counted = measure(|| {
            for i in 500..5000 {
                detector.step(&sample(i)[..channels]);
            }
        });
        assert_eq!(counted.count_total, 0, "{channels} channels");
    }
}
