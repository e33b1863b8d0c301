//! Pictures that are painted: what shelves and roads are made of, and how a run of them becomes a folder of files.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use net::picture::Picture;
use wire::world::{Entropy, Simulated, WallMs};

/// Something that pictures are painted on.
#[derive(Debug, Clone)]
pub struct Canvas {
    width: usize,
    height: usize,
    /// Shape: `[height, width, 3]`, from 0 to 255.
    rgb: Vec<f64>,
}

impl Canvas {
    /// All of one colour.
    pub fn new(width: usize, height: usize, colour: [f64; 3]) -> Canvas {
        Canvas { width, height, rgb: colour.repeat(width * height) }
    }

    /// Paints a box; what lies outside is left out.
    pub fn paint(&mut self, left: i64, top: i64, width: i64, height: i64, colour: [f64; 3]) {
        for y in top.max(0)..(top + height).min(self.height as i64) {
            for x in left.max(0)..(left + width).min(self.width as i64) {
                let at = 3 * (y as usize * self.width + x as usize);
                self.rgb[at..at + 3].copy_from_slice(&colour);
            }
        }
    }

    /// The picture, in this light and with noise of so many steps up and down.
    pub fn picture(&self, light: f64, noise: f64, chance: &mut Simulated) -> Picture {
        let pixels = self.rgb.chunks_exact(3).flat_map(|pixel| {
            let off = noise * (2.0 * chance.unit() - 1.0);
            [0, 1, 2].map(|colour| (light * pixel[colour] + off).round().clamp(0.0, 255.0) as u8)
        });
        let pixels = pixels.collect();
        Picture::new(self.width, self.height, pixels).expect("a canvas has sides")
    }
}

/// Writes pictures as PNG, each file dated as its picture.
pub fn write_folder(
    folder: &Path,
    pictures: impl IntoIterator<Item = (WallMs, Picture)>,
) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for (at, (t_ms, picture)) in pictures.into_iter().enumerate() {
        let file = folder.join(format!("{at:05}.png"));
        let bytes = picture.png().map_err(std::io::Error::other)?;
        fs::write(&file, bytes)?;
        let time = UNIX_EPOCH + Duration::from_millis(u64::try_from(t_ms).unwrap_or(0));
        File::options().append(true).open(&file)?.set_modified(time)?;
    }
    Ok(())
}
