//! What has learnt does not allocate: detectors, features, health.

use allocation_counter::measure;
use signal::detector::{Config, Detector};
use signal::feature::envelope::EnvelopeConfig;
use signal::feature::frame::FrameConfig;
use signal::feature::{Feature, FeatureConfig, FeatureKind};
use signal::health::{Health, HealthConfig};

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

#[test]
fn a_feature_does_not_allocate() {
    let orders = vec![("outer".to_owned(), 3.0)];
    for kind in [
        FeatureKind::Statistics,
        FeatureKind::Spectrum { bands: vec![(0.0, 50.0), (50.0, 100.0)] },
        FeatureKind::Envelope(EnvelopeConfig { band: (40.0, 90.0), shaft_hz: 10.0, orders }),
        FeatureKind::Heart,
    ] {
        let frame = FrameConfig { len: 200, hop: 50, rate_hz: 200.0 };
        let mut feature = Feature::new(FeatureConfig { kind: kind.clone(), frame }).unwrap();
        let mut given = 0;
        let counted = measure(|| {
            for i in 0..5000 {
                let value = sample(i)[3] + if i % 150 == 0 { 9.0 } else { 0.0 };
                given += u32::from(feature.push(i64::from(i) * 5, value).is_some());
            }
        });
        assert!(given > 90, "{kind:?}");
        assert_eq!(counted.count_total, 0, "{kind:?}");
    }
}

#[test]
fn health_that_has_learnt_does_not_allocate() {
    let mut health = Health::new(HealthConfig::default(), 8).unwrap();
    for i in 0..1000 {
        health.step(i64::from(i) * 100, &mut sample(i));
    }
    let counted = measure(|| {
        for i in 1000..5000 {
            health.step(i64::from(i) * 100, &mut sample(i));
        }
    });
    assert_eq!(counted.count_total, 0);
}
