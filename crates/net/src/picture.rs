//! A picture: bytes of a PNG or a JPEG to pixels, and pixels to the size that a network looks at.
//!
//! What a file says of its size is believed only up to a limit, before any pixel is decoded. Resampling is the triangle filter
//! over the source's pixels, wider where the picture shrinks, as most who train networks do it ("bilinear" in Pillow, whose
//! numbers these are up to its rounding).

use std::io::Cursor;

use serde::{Deserialize, Serialize};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

use crate::caught::caught;

/// The largest file of a picture, in bytes.
pub const BYTES_MAX: usize = 32 << 20;
/// The most pixels of a picture.
pub const PIXELS_MAX: usize = 50_000_000;
/// The largest side of a picture, in pixels.
pub const SIDE_MAX: usize = 16_384;

/// Makes pixels of a file, at most so many.
type Decode = fn(&[u8], usize) -> Result<Picture, PictureError>;

/// Pixels of red, green and blue, row by row from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    /// Shape: `[height, width, 3]`.
    rgb: Vec<u8>,
}

/// Bytes that give no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// More bytes than [`BYTES_MAX`].
    #[error("a file of {bytes} bytes; pictures have at most {BYTES_MAX}")]
    File {
        /// Its bytes.
        bytes: usize,
    },
    /// More pixels than are allowed, or none.
    #[error("a picture of {width}×{height} pixels; they have at most {most} here, and {SIDE_MAX} at a side")]
    Size {
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
        /// The most pixels.
        most: usize,
    },
    /// Neither of the two forms.
    #[error("neither PNG nor JPEG")]
    Form,
    /// The decoder's words.
    #[error("no whole {form}: {said}")]
    Broken {
        /// `PNG`
        form: &'static str,
        /// Why.
        said: String,
    },
}

/// How a picture comes to the sides that a network wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Each side by itself; forms are distorted.
    #[default]
    Stretch,
    /// All of it, with bars at two sides.
    Letterbox,
    /// All of the wanted area, with two sides of the picture cut off.
    Cover,
}

/// Where the pixels of a fitted picture lie in the picture: `x = offset.0 + scale.0 · x_fitted`, sides from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// Where the fitted picture's left and upper side lie.
    pub offset: (f64, f64),
    /// How much of the picture its sides span.
    pub scale: (f64, f64),
}

/// A picture of the sides that a network wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// Shape: `[height, width, 3]`, from 0 to 255.
    pub rgb: Vec<f32>,
    /// Where it lies in the picture.
    pub placed: Placed,
}

impl Picture {
    /// Pixels that are there already; `None` if they are not `3 · width · height` within the limits.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Option<Picture> {
        checked(width, height, PIXELS_MAX).ok()?;
        (rgb.len() == 3 * width * height).then_some(Picture { width, height, rgb })
    }

    /// Decodes a PNG or a JPEG. Transparency is left out: what stands there counts as it is stored.
    pub fn decode(bytes: &[u8]) -> Result<Picture, PictureError> {
        Picture::decode_within(bytes, PIXELS_MAX)
    }

    /// The same for pictures of at most so many pixels, which may be fewer than [`PIXELS_MAX`] and are never more.
    pub fn decode_within(bytes: &[u8], pixels_max: usize) -> Result<Picture, PictureError> {
        if bytes.len() > BYTES_MAX {
            return Err(PictureError::File { bytes: bytes.len() });
        }
        let (form, decode): (&'static str, Decode) = match bytes {
            [0x89, b'P', b'N', b'G', ..] => ("PNG", png),
            [0xff, 0xd8, ..] => ("JPEG", jpeg),
            _ => return Err(PictureError::Form),
        };
        caught(|| decode(bytes, pixels_max.min(PIXELS_MAX)))
            .unwrap_or_else(|_| Err(PictureError::Broken { form, said: "its decoder broke".to_owned() }))
    }

    /// The picture as the file of a PNG.
    pub fn png(&self) -> Result<Vec<u8>, PictureError> {
        let failed =
            |error: png::EncodingError| PictureError::Broken { form: "PNG", said: error.to_string() };
        let mut bytes = Vec::new();
        // Sides have at most 16 384 pixels.
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&self.rgb).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(bytes)
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Shape: `[height, width, 3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The picture in these sides; bars of a letterbox are `fill`.
    pub fn fit(&self, width: usize, height: usize, fit: Fit, fill: f32) -> Fitted {
        let (own_width, own_height) = (self.width as f64, self.height as f64);
        let (wide, high) = (width as f64 / own_width, height as f64 / own_height);
        // The part of the picture that is looked at, and the part of the wanted area that it fills.
        let (mut seen, mut filled) = ((own_width, own_height), (width, height));
        match fit {
            Fit::Stretch => {}
            Fit::Letterbox => {
                let scale = wide.min(high);
                let side = |own: f64, most: usize| ((own * scale).round() as usize).clamp(1, most);
                filled = (side(own_width, width), side(own_height, height));
            }
            Fit::Cover => {
                let scale = wide.max(high);
                seen = ((width as f64 / scale).min(own_width), (height as f64 / scale).min(own_height));
            }
        }
        let from = ((own_width - seen.0) / 2.0, (own_height - seen.1) / 2.0);
        let (left, top) = ((width - filled.0) / 2, (height - filled.1) / 2);
        let across = taps(self.width, from.0, seen.0, filled.0);
        let down = taps(self.height, from.1, seen.1, filled.1);
        // Only rows that are looked at are resampled, one after the other, and added to the rows they belong to.
        let mut rgb = vec![fill; 3 * width * height];
        for row in 0..filled.1 {
            let start = 3 * ((top + row) * width + left);
            rgb[start..start + 3 * filled.0].fill(0.0);
        }
        let mut narrowed = vec![0.0f32; 3 * filled.0];
        for (at, line) in self.rgb.chunks_exact(3 * self.width).enumerate() {
            let reached: Vec<(usize, f32)> =
                down.iter().enumerate().filter_map(|(row, taps)| Some((row, taps.weight(at)?))).collect();
            if reached.is_empty() {
                continue;
            }
            for (out, taps) in narrowed.chunks_exact_mut(3).zip(&across) {
                let pixels = line[3 * taps.first..].chunks_exact(3);
                let mut sum = [0.0f32; 3];
                for (pixel, weight) in pixels.zip(&taps.weights) {
                    for (sum, value) in sum.iter_mut().zip(pixel) {
                        *sum += weight * f32::from(*value);
                    }
                }
                out.copy_from_slice(&sum);
            }
            for (row, weight) in reached {
                let start = 3 * ((top + row) * width + left);
                for (out, value) in rgb[start..].iter_mut().zip(&narrowed) {
                    *out += weight * value;
                }
            }
        }
        let scale = (
            width as f64 / filled.0 as f64 * seen.0 / own_width,
            height as f64 / filled.1 as f64 * seen.1 / own_height,
        );
        let offset = (
            from.0 / own_width - left as f64 / filled.0 as f64 * seen.0 / own_width,
            from.1 / own_height - top as f64 / filled.1 as f64 * seen.1 / own_height,
        );
        Fitted { rgb, placed: Placed { offset, scale } }
    }
}

/// The source's pixels that a pixel is made of.
struct Taps {
    first: usize,
    /// Their sum is 1.
    weights: Vec<f32>,
}

impl Taps {
    fn weight(&self, at: usize) -> Option<f32> {
        self.weights.get(at.checked_sub(self.first)?).copied()
    }
}

/// For each of `wanted` pixels: which of `own` pixels make it, if they stand for those from `from`, `seen` many.
fn taps(own: usize, from: f64, seen: f64, wanted: usize) -> Vec<Taps> {
    let scale = seen / wanted as f64;
    let reach = scale.max(1.0);
    let of = |at: usize| {
        let middle = from + (at as f64 + 0.5) * scale;
        let first = ((middle - reach + 0.5).floor().max(0.0) as usize).min(own - 1);
        let end = ((middle + reach + 0.5).floor() as usize).clamp(first + 1, own);
        let weight = |source: usize| (1.0 - ((source as f64 + 0.5 - middle) / reach).abs()).max(0.0);
        let mut weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        match sum > 0.0 {
            true => weights.iter_mut().for_each(|weight| *weight /= sum),
            false => weights[0] = 1.0,
        }
        Taps { first, weights: weights.into_iter().map(|weight| weight as f32).collect() }
    };
    (0..wanted).map(of).collect()
}

fn checked(width: usize, height: usize, most: usize) -> Result<(), PictureError> {
    let pixels = width.saturating_mul(height);
    match pixels > 0 && pixels <= most && width.max(height) <= SIDE_MAX {
        true => Ok(()),
        false => Err(PictureError::Size { width, height, most }),
    }
}

fn png(bytes: &[u8], most: usize) -> Result<Picture, PictureError> {
    let broken = |error: png::DecodingError| PictureError::Broken { form: "PNG", said: error.to_string() };
    let limits = png::Limits { bytes: 8 * most };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(broken)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    checked(width, height, most)?;
    let size = reader.output_buffer_size().ok_or(PictureError::Size { width, height, most })?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(broken)?;
    pixels.truncate(frame.buffer_size());
    let rgb = match frame.color_type {
        png::ColorType::Rgb => pixels,
        png::ColorType::Rgba => {
            pixels.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
        }
        png::ColorType::Grayscale => pixels.iter().flat_map(|grey| [*grey; 3]).collect(),
        png::ColorType::GrayscaleAlpha => pixels.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
        png::ColorType::Indexed => {
            return Err(PictureError::Broken { form: "PNG", said: "its palette is missing".to_owned() });
        }
    };
    Picture::new(width, height, rgb).ok_or(PictureError::Size { width, height, most })
}

fn jpeg(bytes: &[u8], most: usize) -> Result<Picture, PictureError> {
    let broken = |said: String| PictureError::Broken { form: "JPEG", said };
    let options = DecoderOptions::default()
        .set_max_width(SIDE_MAX)
        .set_max_height(SIDE_MAX)
        .set_strict_mode(false)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| broken(error.to_string()))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| broken("it has no size".to_owned()))?;
    checked(width, height, most)?;
    let rgb = decoder.decode().map_err(|error| broken(error.to_string()))?;
    Picture::new(width, height, rgb)
        .ok_or_else(|| broken("its colours are no red, green and blue".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture whose pixel at `x`, `y` is `[x, y, 7]`.
    fn ramp(width: usize, height: usize) -> Picture {
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 7]));
        Picture::new(width, height, pixels.collect()).unwrap()
    }

    fn written(picture: &Picture, colours: png::ColorType, pixels: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, picture.width() as u32, picture.height() as u32);
        encoder.set_color(colours);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header().unwrap().write_image_data(pixels).unwrap();
        bytes
    }

    #[test]
    fn a_png_comes_back_and_a_cut_one_is_refused() {
        let picture = ramp(9, 5);
        let bytes = written(&picture, png::ColorType::Rgb, picture.rgb());
        assert_eq!(Picture::decode(&bytes).unwrap(), picture);
        let grey: Vec<u8> = (0..45).collect();
        let decoded = Picture::decode(&written(&picture, png::ColorType::Grayscale, &grey)).unwrap();
        assert_eq!(&decoded.rgb()[..6], [0, 0, 0, 1, 1, 1]);
        for end in 0..bytes.len() - 20 {
            assert!(Picture::decode(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn a_size_is_not_believed() {
        let picture = ramp(2, 2);
        let mut bytes = written(&picture, png::ColorType::Rgb, picture.rgb());
        bytes[16..20].copy_from_slice(&60_000u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&60_000u32.to_be_bytes());
        let crc = png_crc(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        assert!(
            matches!(Picture::decode(&bytes), Err(PictureError::Size { .. })),
            "{:?}",
            Picture::decode(&bytes)
        );
        assert!(matches!(Picture::decode(b"GIF89a"), Err(PictureError::Form)));
        assert!(matches!(
            Picture::decode(&[0xff, 0xd8, 0xff, 0xe0]),
            Err(PictureError::Broken { form: "JPEG", .. })
        ));
        assert!(Picture::new(2, 2, vec![0; 11]).is_none());
    }

    #[test]
    fn whoever_asks_may_allow_less() {
        let bytes = ramp(20, 10).png().unwrap();
        assert_eq!(Picture::decode_within(&bytes, 200).unwrap(), ramp(20, 10));
        let refused = Picture::decode_within(&bytes, 199).unwrap_err();
        assert!(matches!(refused, PictureError::Size { width: 20, height: 10, most: 199 }), "{refused:?}");
    }

    /// The check of a chunk, as PNG has it.
    fn png_crc(bytes: &[u8]) -> u32 {
        let step = |crc: u32| {
            (0..8).fold(crc, |crc, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 })
        };
        !bytes.iter().fold(!0u32, |crc, byte| (crc >> 8) ^ step((crc ^ u32::from(*byte)) & 0xff))
    }

    #[test]
    fn each_fit_keeps_what_it_says() {
        let picture = ramp(200, 100);
        let same = picture.fit(200, 100, Fit::Stretch, 0.0);
        let own: Vec<f32> = picture.rgb().iter().map(|value| f32::from(*value)).collect();
        assert_eq!(same.rgb, own);
        let half = picture.fit(100, 50, Fit::Stretch, 0.0);
        let middle = half.rgb[3 * (25 * 100 + 50)];
        assert!((middle - 100.5).abs() < 0.01, "{middle}");
        let boxed = picture.fit(100, 100, Fit::Letterbox, 114.0);
        assert_eq!((boxed.rgb[0], boxed.rgb[3 * 100 * 99]), (114.0, 114.0));
        assert!((boxed.rgb[3 * (50 * 100 + 50)] - 100.5).abs() < 0.01);
        assert_eq!(boxed.placed, Placed { offset: (0.0, -0.5), scale: (1.0, 2.0) });
        let cover = picture.fit(50, 50, Fit::Cover, 0.0);
        assert!((cover.rgb[0] - 50.8).abs() < 0.5, "{}", cover.rgb[0]);
        assert_eq!(cover.placed, Placed { offset: (0.25, 0.0), scale: (0.5, 1.0) });
        let one = ramp(1, 1).fit(3, 3, Fit::Cover, 0.0);
        assert!(one.rgb.chunks(3).all(|pixel| pixel == [0.0, 0.0, 7.0]));
    }
}
