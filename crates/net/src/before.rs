//! What comes before a network: a picture or a window of numbers becomes the tensor that an input wants.
//!
//! Declared as data, so that it travels with the network: how a picture is fitted and normalised is part of what was trained.

use package::contract::{Extent, Port};
use serde::{Deserialize, Serialize};

use crate::picture::{Fit, Picture, Placed};
use crate::tensor::{Data, Tensor, elements};

/// How an input is filled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase", deny_unknown_fields)]
pub enum Fill {
    /// With a picture.
    Picture(Look),
    /// With a window of numbers.
    Numbers(Numbers),
    /// With what an output was at the step before; zeros at the first.
    State {
        /// The output.
        output: String,
        /// The shape of the zeros.
        shape: Vec<usize>,
    },
    /// With the same at each step.
    Constant {
        /// Its shape; empty for a single number.
        #[serde(default)]
        shape: Vec<usize>,
        /// Its numbers, row-major.
        values: Vec<f64>,
    },
    /// With a tensor that whoever runs the network hands over by the input's name.
    Given {},
}

/// How a picture is looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Look {
    /// Pixels in a row; left out where the network says it.
    pub width: Option<usize>,
    /// Rows.
    pub height: Option<usize>,
    /// How the picture comes to these sides.
    pub fit: Fit,
    /// What the bars of a letterbox are, from 0 to 255.
    pub fill: f32,
    /// Which colours, in which order.
    pub colours: Colours,
    /// Where the colours stand in the tensor.
    pub layout: Layout,
    /// What is taken from each colour, of 0 to 255; one for all, or one for each.
    pub mean: Vec<f32>,
    /// What it is then divided by.
    pub deviation: Vec<f32>,
}

/// The colours of a pixel, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colours {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luminance, as ITU-R BT.601 weighs it.
    Grey,
}

/// Where the colours of a pixel, or the channels of a sample, stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// All of the first, then all of the second: `[1, channels, …]`.
    #[default]
    ChannelsFirst,
    /// Side by side: `[1, …, channels]`.
    ChannelsLast,
}

/// How a window of numbers is handed over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Numbers {
    /// The shape; left out: what the network says, sizes that it leaves free by the window's.
    pub shape: Option<Vec<usize>>,
    /// Where channels stand.
    pub layout: Layout,
    /// What is taken from each channel; one for all, or one for each.
    pub mean: Vec<f32>,
    /// What it is then divided by.
    pub deviation: Vec<f32>,
}

/// A window of numbers, sample by sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window<'a> {
    /// Shape: `[samples, channels]`.
    pub values: &'a [f32],
    /// Numbers of a sample.
    pub channels: usize,
}

/// Something that an input cannot be filled with.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum FillError {
    /// The declaration does not fit the input.
    #[error("`{input}` ({declared}) cannot be filled so: {why}")]
    Declared {
        /// The input.
        input: String,
        /// What the graph says.
        declared: String,
        /// What is wrong.
        why: String,
    },
    /// The window does not fit it.
    #[error("`{input}` takes {expected} numbers, and the window has {found}")]
    Window {
        /// The input.
        input: String,
        /// Numbers of the tensor.
        expected: usize,
        /// Numbers of the window.
        found: usize,
    },
}

fn declared(port: &Port, why: impl Into<String>) -> FillError {
    FillError::Declared { input: port.name.clone(), declared: port.to_string(), why: why.into() }
}

/// One for all, or one for each of `count`.
fn each(list: &[f32], at: usize, otherwise: f32) -> f32 {
    match list {
        [] => otherwise,
        [one] => *one,
        many => many[at],
    }
}

/// Whether `mean` and `deviation` can stand for so many.
fn normal(port: &Port, mean: &[f32], deviation: &[f32], count: usize) -> Result<(), FillError> {
    for (name, list) in [("mean", mean), ("deviation", deviation)] {
        if list.len() > 1 && list.len() != count {
            return Err(declared(port, format!("`{name}` has {} numbers for {count}", list.len())));
        }
        if !list.iter().all(|number| number.is_finite()) {
            return Err(declared(port, format!("`{name}` has a number that is none")));
        }
    }
    match deviation.contains(&0.0) {
        true => Err(declared(port, "`deviation` divides by zero")),
        false => Ok(()),
    }
}

impl Look {
    /// Colours of a pixel in the tensor.
    fn count(&self) -> usize {
        match self.colours {
            Colours::Rgb | Colours::Bgr => 3,
            Colours::Grey => 1,
        }
    }

    /// The shape of the tensor for `port`: the sides that are declared, or that the network says.
    pub fn shape(&self, port: &Port) -> Result<Vec<usize>, FillError> {
        normal(port, &self.mean, &self.deviation, self.count())?;
        let extents = port.shape.as_deref().filter(|extents| extents.len() == 4);
        let extents = extents.ok_or_else(|| declared(port, "a picture is a tensor of four dimensions"))?;
        let (rows, columns, colours) = match self.layout {
            Layout::ChannelsFirst => (2, 3, 1),
            Layout::ChannelsLast => (1, 2, 3),
        };
        let side = |declared_side: Option<usize>, at: usize, name: &str| match (&extents[at], declared_side) {
            (Extent::Fixed(size), None) => Ok(*size as usize),
            (Extent::Fixed(size), Some(side)) if *size == side as u64 => Ok(side),
            (Extent::Fixed(_), Some(side)) => {
                Err(declared(port, format!("`{name}` = {side}, and the network says another")))
            }
            (_, Some(side)) => Ok(side),
            (_, None) => Err(declared(port, format!("it says no size: declare `{name}`"))),
        };
        let (width, height) = (side(self.width, columns, "width")?, side(self.height, rows, "height")?);
        if width == 0 || height == 0 || width.saturating_mul(height) > 1 << 26 {
            return Err(declared(port, "no network looks at pictures of this size"));
        }
        let mut shape = vec![1; 4];
        (shape[rows], shape[columns], shape[colours]) = (height, width, self.count());
        match extents[colours] {
            Extent::Fixed(size) if size != self.count() as u64 => Err(declared(
                port,
                format!(
                    "`colours` gives {} at dimension {colours}, and the network says {size}",
                    self.count()
                ),
            )),
            _ => Ok(shape),
        }
    }

    /// The tensor for `port`, and where it lies in the picture.
    pub fn tensor(&self, port: &Port, picture: &Picture) -> Result<(Tensor, Placed), FillError> {
        let shape = self.shape(port)?;
        let (height, width) = match self.layout {
            Layout::ChannelsFirst => (shape[2], shape[3]),
            Layout::ChannelsLast => (shape[1], shape[2]),
        };
        let fitted = picture.fit(width, height, self.fit, self.fill);
        let (count, pixels) = (self.count(), width * height);
        let mut list = vec![0.0f32; count * pixels];
        for (at, pixel) in fitted.rgb.chunks_exact(3).enumerate() {
            for colour in 0..count {
                let value = match self.colours {
                    Colours::Rgb => pixel[colour],
                    Colours::Bgr => pixel[2 - colour],
                    Colours::Grey => 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2],
                };
                let to = match self.layout {
                    Layout::ChannelsFirst => colour * pixels + at,
                    Layout::ChannelsLast => at * count + colour,
                };
                list[to] = (value - each(&self.mean, colour, 0.0)) / each(&self.deviation, colour, 1.0);
            }
        }
        Ok((of_kind(port, shape, list)?, fitted.placed))
    }
}

impl Numbers {
    /// The shape of the tensor for `port`, if the window has so many samples and channels.
    pub fn shape(&self, port: &Port, samples: usize, channels: usize) -> Result<Vec<usize>, FillError> {
        normal(port, &self.mean, &self.deviation, channels)?;
        let total = samples.saturating_mul(channels);
        let shape = match (&self.shape, &port.shape) {
            (Some(shape), _) => shape.clone(),
            (None, Some(extents)) => {
                let rank = extents.len();
                let fixed = extents.iter().map(|extent| match extent {
                    Extent::Fixed(size) => Some(*size as usize),
                    Extent::Named(_) | Extent::Free => None,
                });
                let mut sizes: Vec<Option<usize>> = fixed.collect();
                // From the left: how many windows, which is one; then what a window is made of.
                if rank > 1 {
                    sizes[0].get_or_insert(1);
                }
                if rank == 3 {
                    let (first, last) = match self.layout {
                        Layout::ChannelsFirst => (channels, samples),
                        Layout::ChannelsLast => (samples, channels),
                    };
                    sizes[1].get_or_insert(first);
                    sizes[2].get_or_insert(last);
                }
                let known = sizes.iter().flatten().fold(1usize, |count, size| count.saturating_mul(*size));
                let mut free = sizes.iter_mut().filter(|size| size.is_none());
                if let (Some(size), true) = (free.next(), known > 0) {
                    *size = Some(total / known);
                }
                let sizes: Option<Vec<usize>> = sizes.into_iter().collect();
                sizes.ok_or_else(|| declared(port, "it leaves more than one size free: declare `shape`"))?
            }
            (None, None) => return Err(declared(port, "it says no shape: declare `shape`")),
        };
        match elements(&shape) {
            Some(expected) if expected == total => Ok(shape),
            Some(expected) => Err(FillError::Window { input: port.name.clone(), expected, found: total }),
            None => Err(declared(port, "no tensor has this shape")),
        }
    }

    /// The tensor for `port`.
    pub fn tensor(&self, port: &Port, window: Window<'_>) -> Result<Tensor, FillError> {
        let channels = window.channels.max(1);
        let samples = window.values.len() / channels;
        let shape = self.shape(port, samples, channels)?;
        let mut list = vec![0.0f32; samples * channels];
        for (sample, values) in window.values.chunks_exact(channels).enumerate() {
            for (channel, value) in values.iter().enumerate() {
                let to = match self.layout {
                    Layout::ChannelsFirst => channel * samples + sample,
                    Layout::ChannelsLast => sample * channels + channel,
                };
                list[to] = (value - each(&self.mean, channel, 0.0)) / each(&self.deviation, channel, 1.0);
            }
        }
        of_kind(port, shape, list)
    }
}

/// Numbers as the kind that the input wants.
fn of_kind(port: &Port, shape: Vec<usize>, list: Vec<f32>) -> Result<Tensor, FillError> {
    let data = match port.element.as_str() {
        "float32" => Data::F32(list),
        kind => {
            let numbers: Vec<f64> = list.iter().map(|number| f64::from(*number)).collect();
            Data::of_numbers(kind, &numbers).ok_or_else(|| declared(port, "it takes no numbers"))?
        }
    };
    Tensor::new(shape, data).map_err(|error| declared(port, error.to_string()))
}

/// The constant, or the zeros at the start, for `port`.
pub fn fixed(port: &Port, shape: &[usize], values: Option<&[f64]>) -> Result<Tensor, FillError> {
    let count = elements(shape)
        .filter(|count| *count <= 1 << 28)
        .ok_or_else(|| declared(port, "no tensor has this shape"))?;
    let data = match values {
        None => Data::zeros(&port.element, count),
        Some(values) => Data::of_numbers(&port.element, values),
    };
    let data = data.ok_or_else(|| declared(port, "it takes no numbers"))?;
    Tensor::new(shape.to_vec(), data).map_err(|error| declared(port, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(element: &str, shape: &[u64]) -> Port {
        let extents = shape.iter().map(|size| if *size == 0 { Extent::Free } else { Extent::Fixed(*size) });
        Port { name: "x".into(), element: element.into(), shape: Some(extents.collect()) }
    }

    fn look(text: &str) -> Look {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_picture_becomes_what_was_trained() {
        let picture = Picture::new(2, 1, vec![10, 20, 30, 40, 50, 60]).unwrap();
        let list = |text: &str, shape: &[u64]| {
            let (tensor, _) = look(text).tensor(&port("float32", shape), &picture).unwrap();
            (tensor.shape().to_vec(), tensor.f32s().unwrap().to_vec())
        };
        assert_eq!(list("", &[1, 3, 1, 2]), (vec![1, 3, 1, 2], vec![10.0, 40.0, 20.0, 50.0, 30.0, 60.0]));
        let (shape, values) =
            list("layout = 'channels-last'\ncolours = 'bgr'\nwidth = 2\nheight = 1", &[0, 0, 0, 3]);
        assert_eq!((shape, values), (vec![1, 1, 2, 3], vec![30.0, 20.0, 10.0, 60.0, 50.0, 40.0]));
        let (_, values) = list("mean = [10]\ndeviation = [10, 20, 30]", &[1, 3, 1, 2]);
        assert_eq!(values, [0.0, 3.0, 0.5, 2.0, 20.0 / 30.0, 50.0 / 30.0]);
        let (_, values) = list("colours = 'grey'", &[1, 1, 1, 2]);
        assert!((values[0] - 18.15).abs() < 1e-4, "{values:?}");
        let (tensor, _) = look("").tensor(&port("uint8", &[1, 3, 1, 2]), &picture).unwrap();
        assert_eq!(tensor.data(), &Data::U8(vec![10, 40, 20, 50, 30, 60]));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_reason() {
        for (text, shape, why) in [
            ("", &[1, 3, 0, 0][..], "declare `width`"),
            ("", &[1, 3, 2], "four dimensions"),
            ("width = 3", &[1, 3, 1, 2], "another"),
            ("colours = 'grey'", &[1, 3, 1, 2], "`colours`"),
            ("mean = [1, 2]", &[1, 3, 1, 2], "`mean` has 2"),
            ("deviation = [0]", &[1, 3, 1, 2], "zero"),
            ("width = 100000\nheight = 100000", &[1, 3, 0, 0], "this size"),
        ] {
            let error = look(text).shape(&port("float32", shape)).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_window_takes_the_shape_that_the_network_says() {
        let values = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0];
        let window = Window { values: &values, channels: 2 };
        let of = |numbers: Numbers, shape: &[u64]| numbers.tensor(&port("float32", shape), window);
        let got = |numbers: Numbers, shape: &[u64]| {
            let tensor = of(numbers, shape).unwrap();
            (tensor.shape().to_vec(), tensor.f32s().unwrap().to_vec())
        };
        let first = vec![1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
        assert_eq!(got(Numbers::default(), &[0, 0, 0]), (vec![1, 2, 3], first.clone()));
        assert_eq!(got(Numbers::default(), &[1, 6]), (vec![1, 6], first.clone()));
        assert_eq!(got(Numbers::default(), &[0]), (vec![6], first.clone()));
        assert_eq!(
            got(Numbers { shape: Some(vec![2, 3]), ..Numbers::default() }, &[0, 0]),
            (vec![2, 3], first)
        );
        let last = Numbers { layout: Layout::ChannelsLast, mean: vec![1.0, 10.0], ..Numbers::default() };
        assert_eq!(got(last, &[1, 0, 2]), (vec![1, 3, 2], vec![0.0, 0.0, 1.0, 10.0, 2.0, 20.0]));
        let error = of(Numbers::default(), &[1, 7]).unwrap_err();
        assert_eq!(error, FillError::Window { input: "x".into(), expected: 7, found: 6 });
        assert!(of(Numbers::default(), &[0, 0, 0, 0]).unwrap_err().to_string().contains("declare `shape`"));
    }
}
