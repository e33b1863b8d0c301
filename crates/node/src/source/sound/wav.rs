//! Samples of a WAV file: whole numbers of 8 to 32 bits, or floats, to numbers from -1 to 1.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use hound::{SampleFormat, WavReader};

use super::settings::SoundSettings;

/// A file that is being read.
pub struct Wav {
    samples: Samples,
    scale: f64,
}

enum Samples {
    Whole(hound::WavIntoSamples<BufReader<File>, i32>),
    Float(hound::WavIntoSamples<BufReader<File>, f32>),
}

/// A file that gives no sound, or another than the flow says.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// It cannot be read, or is no WAV.
    #[error("it is no whole WAV file")]
    File(#[from] hound::Error),
    /// It was recorded at another rate.
    #[error("it has {found} samples a second: write `rate_hz = {found}`")]
    Rate {
        /// As found.
        found: u32,
    },
    /// It has other channels.
    #[error("it has {found} channels, and the flow names {named}: name them in `channels`")]
    Channels {
        /// As found.
        found: u16,
        /// As named.
        named: usize,
    },
}

impl Wav {
    /// Opens a file that must be as the flow says.
    pub fn open(file: &Path, settings: &SoundSettings) -> Result<Wav, WavError> {
        let reader = WavReader::open(file)?;
        let spec = reader.spec();
        if spec.sample_rate != settings.rate_hz {
            return Err(WavError::Rate { found: spec.sample_rate });
        }
        if usize::from(spec.channels) != settings.channels.len() {
            return Err(WavError::Channels { found: spec.channels, named: settings.channels.len() });
        }
        Ok(match spec.sample_format {
            SampleFormat::Float => Wav { samples: Samples::Float(reader.into_samples()), scale: 1.0 },
            SampleFormat::Int => {
                let scale = 2f64.powi(1 - i32::from(spec.bits_per_sample));
                Wav { samples: Samples::Whole(reader.into_samples()), scale }
            }
        })
    }

    /// Reads a sample of each channel; false at the end.
    pub fn read(&mut self, row: &mut [f64]) -> Result<bool, WavError> {
        for value in row.iter_mut() {
            let sample = match &mut self.samples {
                Samples::Whole(samples) => samples.next().transpose()?.map(f64::from),
                Samples::Float(samples) => samples.next().transpose()?.map(f64::from),
            };
            match sample {
                Some(sample) => *value = sample * self.scale,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::sound::settings::From;

    fn settings(rate_hz: u32, channels: &[&str]) -> SoundSettings {
        let from = From::File { file: "x.wav".into(), times: None, repeat: false };
        SoundSettings { from, rate_hz, channels: channels.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn rows(file: &Path, settings: &SoundSettings) -> Vec<Vec<f64>> {
        let mut wav = Wav::open(file, settings).unwrap();
        let mut row = vec![0.0; settings.channels.len()];
        let mut rows = Vec::new();
        while wav.read(&mut row).unwrap() {
            rows.push(row.clone());
        }
        rows
    }

    #[test]
    fn samples_of_every_kind_lie_between_minus_one_and_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.wav");
        for (bits_per_sample, sample_format) in [
            (8, SampleFormat::Int),
            (16, SampleFormat::Int),
            (24, SampleFormat::Int),
            (32, SampleFormat::Float),
        ] {
            let spec = hound::WavSpec { channels: 2, sample_rate: 8_000, bits_per_sample, sample_format };
            let mut to = hound::WavWriter::create(&file, spec).unwrap();
            for value in [-1.0f64, 0.5, 0.0, -0.25] {
                match sample_format {
                    SampleFormat::Float => to.write_sample(value as f32).unwrap(),
                    SampleFormat::Int => {
                        to.write_sample((value * 2f64.powi(i32::from(bits_per_sample) - 1)) as i32).unwrap();
                    }
                }
            }
            to.finalize().unwrap();
            assert_eq!(rows(&file, &settings(8_000, &["left", "right"])), [[-1.0, 0.5], [0.0, -0.25]]);
            let wrong = |settings: &SoundSettings| Wav::open(&file, settings).err().unwrap().to_string();
            assert!(wrong(&settings(16_000, &["left", "right"])).contains("rate_hz = 8000"));
            assert!(wrong(&settings(8_000, &["sound"])).contains("2 channels"));
        }
        let whole = std::fs::read(&file).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&file, &whole[..cut]).unwrap();
            if let Ok(mut wav) = Wav::open(&file, &settings(8_000, &["left", "right"])) {
                let mut row = [0.0; 2];
                while let Ok(true) = wav.read(&mut row) {}
            }
        }
    }
}
