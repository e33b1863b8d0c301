//! Many summaries into few points, so that a day fits a screen: per stretch of time the smallest, the mean and the
//! largest value of each channel, and the worst a model saw. Pure; memory depends on the points, not the summaries.

use serde::Serialize;
use utoipa::ToSchema;
use wire::body::Summary;
use wire::world::WallMs;

/// The most channels of a chart page; what is beyond is counted, not drawn.
pub const CHANNELS_MAX: usize = 64;

/// The most models of a source.
const MODELS_MAX: usize = 8;

/// The points of a source, oldest first. Each list has one entry a point; `null` where there was no value.
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Points {
    /// The time of the last reading in each point.
    pub t_ms: Vec<WallMs>,
    /// The usual time between two points, so that a longer one is drawn as a gap. Absent for less than two points.
    pub typical_ms: Option<i64>,
    /// How many readings all points stand for.
    pub readings: u64,
    /// Per channel.
    pub channels: Vec<ChannelPoints>,
    /// Per model.
    pub models: Vec<ModelPoints>,
    /// How many channels were left out, beyond the first 64.
    pub channels_left_out: usize,
}

/// One channel of [`Points`].
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct ChannelPoints {
    /// Its name.
    pub channel: String,
    /// The smallest value.
    #[serde(with = "wire::number::list")]
    pub min: Vec<f64>,
    /// The mean.
    #[serde(with = "wire::number::list")]
    pub mean: Vec<f64>,
    /// The largest value.
    #[serde(with = "wire::number::list")]
    pub max: Vec<f64>,
}

/// One model of [`Points`].
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct ModelPoints {
    /// Its name.
    pub model: String,
    /// The highest score; 1 is the model's threshold.
    #[serde(with = "wire::number::list")]
    pub score: Vec<f64>,
    /// The highest probability of an anomaly; `null` while the model is learning.
    #[serde(with = "wire::number::list")]
    pub probability: Vec<f64>,
}

/// Takes summaries in the order of their time, gives points.
#[derive(Debug)]
pub struct Downsample {
    from_ms: WallMs,
    step_ms: i64,
    bucket: Option<i64>,
    /// Readings behind the mean of each channel, in the point that is being made.
    weights: Vec<f64>,
    left_out: std::collections::BTreeSet<String>,
    points: Points,
}

impl Downsample {
    /// From `from_ms` to `to_ms` in at most `points` points.
    pub fn new(from_ms: WallMs, to_ms: WallMs, points: u32) -> Downsample {
        let span_ms = to_ms.saturating_sub(from_ms).max(1);
        let step_ms = span_ms / i64::from(points.max(1)) + 1;
        let left_out = std::collections::BTreeSet::new();
        Downsample {
            from_ms,
            step_ms,
            bucket: None,
            weights: Vec::new(),
            left_out,
            points: Points::default(),
        }
    }

    /// Adds a summary.
    pub fn add(&mut self, summary: &Summary) {
        let bucket = summary.to_ms.saturating_sub(self.from_ms).div_euclid(self.step_ms);
        let points = &mut self.points;
        if self.bucket == Some(bucket) {
            if let Some(last) = points.t_ms.last_mut() {
                *last = summary.to_ms.max(*last);
            }
        } else {
            self.bucket = Some(bucket);
            points.t_ms.push(summary.to_ms);
            points.channels.iter_mut().for_each(ChannelPoints::lengthen);
            points.models.iter_mut().for_each(ModelPoints::lengthen);
            self.weights.fill(0.0);
        }
        points.readings = points.readings.saturating_add(summary.count);
        let len = points.t_ms.len();
        for channel in &summary.channels {
            let at = match points.channels.iter().position(|known| known.channel == channel.channel) {
                Some(at) => at,
                None if points.channels.len() < CHANNELS_MAX => {
                    let nothing = vec![f64::NAN; len];
                    let (min, mean, max) = (nothing.clone(), nothing.clone(), nothing);
                    points.channels.push(ChannelPoints { channel: channel.channel.clone(), min, mean, max });
                    self.weights.push(0.0);
                    points.channels.len() - 1
                }
                None => {
                    if self.left_out.len() < 10 * CHANNELS_MAX {
                        self.left_out.insert(channel.channel.clone());
                    }
                    continue;
                }
            };
            let present = summary.count.saturating_sub(channel.missing) as f64;
            points.channels[at].add(channel.min, channel.mean, channel.max, &mut self.weights[at], present);
        }
        for model in &summary.models {
            let at = match points.models.iter().position(|known| known.model == model.model.as_str()) {
                Some(at) => at,
                None if points.models.len() < MODELS_MAX => {
                    let nothing = vec![f64::NAN; len];
                    let name = model.model.as_str().to_owned();
                    points.models.push(ModelPoints {
                        model: name,
                        score: nothing.clone(),
                        probability: nothing,
                    });
                    points.models.len() - 1
                }
                None => continue,
            };
            points.models[at].add(model.score, model.probability);
        }
    }

    /// The points.
    pub fn finish(mut self) -> Points {
        let mut steps: Vec<i64> =
            self.points.t_ms.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        steps.sort_unstable();
        self.points.typical_ms = steps.get(steps.len() / 2).copied();
        self.points.channels_left_out = self.left_out.len();
        self.points
    }
}

impl ChannelPoints {
    fn lengthen(&mut self) {
        for list in [&mut self.min, &mut self.mean, &mut self.max] {
            list.push(f64::NAN);
        }
    }

    fn add(&mut self, min: f64, mean: f64, max: f64, weight: &mut f64, present: f64) {
        // f64::min and f64::max take the other one when one is NaN.
        if let (Some(low), Some(middle), Some(high)) =
            (self.min.last_mut(), self.mean.last_mut(), self.max.last_mut())
        {
            *low = low.min(min);
            *high = high.max(max);
            if mean.is_finite() && present > 0.0 {
                let before = if middle.is_finite() { *middle * *weight } else { 0.0 };
                *weight += present;
                *middle = (before + mean * present) / *weight;
            }
        }
    }
}

impl ModelPoints {
    fn lengthen(&mut self) {
        self.score.push(f64::NAN);
        self.probability.push(f64::NAN);
    }

    fn add(&mut self, score: f64, probability: Option<f64>) {
        if let (Some(highest), Some(likeliest)) = (self.score.last_mut(), self.probability.last_mut()) {
            *highest = highest.max(score);
            *likeliest = likeliest.max(probability.unwrap_or(f64::NAN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::body::{ChannelSummary, ModelSummary};
    use wire::id::PartName;

    fn summary(to_ms: i64, count: u64, missing: u64, channel: &str, values: (f64, f64, f64)) -> Summary {
        let (min, mean, max) = values;
        let model = PartName::new("m").unwrap();
        Summary {
            source: PartName::new("pump").unwrap(),
            from_ms: to_ms - 10,
            to_ms,
            count,
            channels: vec![ChannelSummary { channel: channel.into(), min, mean, max, missing, isolated: 0 }],
            models: vec![ModelSummary { model, score: mean, probability: (mean > 4.0).then_some(0.5) }],
        }
    }

    #[test]
    fn points_of_a_stretch() {
        let mut down = Downsample::new(0, 100, 2);
        down.add(&summary(10, 10, 0, "a", (1.0, 2.0, 3.0)));
        down.add(&summary(20, 40, 10, "a", (0.5, 6.0, 7.0)));
        down.add(&summary(80, 10, 10, "a", (f64::NAN, f64::NAN, f64::NAN)));
        down.add(&summary(90, 10, 0, "b", (1.0, 1.0, 1.0)));
        let points = down.finish();
        assert_eq!((points.t_ms.as_slice(), points.readings), ([20, 90].as_slice(), 70));
        let text = serde_json::to_value(&points.channels).unwrap();
        assert_eq!(
            text,
            serde_json::json!([
                {"channel": "a", "min": [0.5, null], "mean": [5.0, null], "max": [7.0, null]},
                {"channel": "b", "min": [null, 1.0], "mean": [null, 1.0], "max": [null, 1.0]},
            ])
        );
        assert_eq!(points.models[0].score, [6.0, 1.0]);
        assert_eq!(points.models[0].probability[0], 0.5);
        assert!(points.models[0].probability[1].is_nan());
        assert_eq!(points.typical_ms, Some(70));
    }

    #[test]
    fn a_million_summaries_are_a_few_points() {
        let mut down = Downsample::new(0, 1_000_000, 100);
        for t in 0..20_000 {
            down.add(&summary(t * 50, 1, 0, "a", (1.0, 1.0, 1.0)));
        }
        let points = down.finish();
        assert!(points.t_ms.len() <= 100 && points.t_ms.len() > 90, "{}", points.t_ms.len());
    }

    #[test]
    fn hostile_times_and_channels() {
        let mut down = Downsample::new(i64::MIN, i64::MAX, u32::MAX);
        let mut wild = summary(i64::MAX, u64::MAX, 3, "a", (1.0, f64::INFINITY, 3.0));
        wild.channels = (0..1000)
            .map(|n| ChannelSummary { channel: n.to_string(), ..wild.channels[0].clone() })
            .collect();
        down.add(&wild);
        wild.to_ms = i64::MIN;
        down.add(&wild);
        let points = down.finish();
        assert_eq!((points.channels.len(), points.channels_left_out), (CHANNELS_MAX, 640));
    }
}
