//! Whether a network fits what its flow gives it: things of its kind, and as many numbers as it takes.
//!
//! Seen by what its recipe declares and its file says of itself, before any runtime sees it: so `flow check` refuses the flow at its
//! place, and a node that loads the network gives the same reason.

use std::collections::BTreeMap;

use net::before::{Fill, FillError, Numbers};
use net::recipe::Recipe;
use package::contract::{Net, Port};

/// What a flow gives a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gives {
    /// Whether its source gives pictures.
    pub pictures: bool,
    /// Readings that it looks at together.
    pub window: usize,
    /// Channels of its source, if they are known.
    pub channels: Option<usize>,
}

/// Why a network does not fit.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Misfit {
    /// It looks at pictures, and there are none.
    #[error("it looks at pictures ({input}), and its source gives numbers")]
    Blind {
        /// The input that takes them.
        input: String,
    },
    /// It looks at pictures, and shall look at several together.
    #[error("it looks at one picture at a time")]
    Several,
    /// A flow does not have what goes in.
    #[error(
        "a program must hand over its input {input}, as tokens of a text are, and its source gives {gives}"
    )]
    HandedOver {
        /// The input.
        input: String,
        /// What there is.
        gives: &'static str,
    },
    /// It takes texts.
    #[error("its input {input} takes texts, and its source gives {gives}")]
    Texts {
        /// The input.
        input: String,
        /// What there is.
        gives: &'static str,
    },
    /// There is more than one way to fill it, and none is said.
    #[error("nothing fills its input {port}, and its source gives {gives}")]
    Open {
        /// The input.
        port: Box<Port>,
        /// What there is.
        gives: &'static str,
    },
    /// A window has another count of numbers.
    #[error(
        "its input {input} takes {takes} numbers, and its source gives windows of {} ({window} readings of {channels} channels)",
        window * channels
    )]
    Count {
        /// The input.
        input: String,
        /// Numbers that it takes.
        takes: usize,
        /// Readings of a window.
        window: usize,
        /// Channels of the source.
        channels: usize,
    },
    /// A window cannot be handed over so.
    #[error(transparent)]
    Fill(#[from] FillError),
}

impl Misfit {
    /// What to do.
    pub fn mend(&self) -> Option<String> {
        const FILLS: &str = "`\"picture\"`, `\"numbers\"`, `\"state\"` or `\"constant\"`";
        Some(match self {
            Misfit::Blind { .. } => "give it a source of type \"images\", \"rtsp\" or \"camera\"".to_owned(),
            Misfit::Several => "leave out `window`".to_owned(),
            Misfit::HandedOver { gives, .. } | Misfit::Texts { gives, .. } => {
                format!(
                    "take a network that looks at {gives}, or fill the input in the recipe with what a flow has: `from =` {FILLS}"
                )
            }
            Misfit::Open { port, gives } => format!(
                "take a network that looks at {gives}, or declare `inputs.{}` in the recipe with `from =` {FILLS}",
                port.name
            ),
            Misfit::Count { takes, channels, .. } => match takes.checked_rem(*channels) {
                Some(0) if *takes > 0 => format!("write `window = {}`", takes / channels),
                _ => format!("give it a source of which `window` times its `channels` is {takes}"),
            },
            Misfit::Fill(_) => return None,
        })
    }

    /// What is wrong and what to do, in one line.
    pub fn told(&self) -> String {
        match self.mend() {
            Some(mend) => format!("{self}: {mend}"),
            None => self.to_string(),
        }
    }
}

impl Gives {
    fn word(&self) -> &'static str {
        if self.pictures { "pictures" } else { "numbers" }
    }

    /// What can be said by the recipe alone.
    pub fn fits_declared(&self, inputs: &BTreeMap<String, Fill>) -> Result<(), Misfit> {
        inputs.iter().try_for_each(|(name, fill)| self.fits_fill(&format!("`{name}`"), fill))
    }

    /// What can be said with the network. `recipe`: completed.
    pub fn fits(&self, recipe: &Recipe, net: &Net) -> Result<(), Misfit> {
        for port in &net.inputs {
            let Some(fill) = recipe.inputs.get(&port.name) else { continue };
            self.fits_fill(&port.to_string(), fill)?;
            if let Fill::Numbers(numbers) = fill {
                self.fits_numbers(port, numbers)?;
            }
        }
        Ok(())
    }

    /// Nothing fills an input.
    pub fn open(&self, port: Box<Port>) -> Misfit {
        Misfit::Open { port, gives: self.word() }
    }

    fn fits_fill(&self, input: &str, fill: &Fill) -> Result<(), Misfit> {
        let input = || input.to_owned();
        match fill {
            Fill::Picture(_) if !self.pictures => Err(Misfit::Blind { input: input() }),
            Fill::Picture(_) if self.window > 1 => Err(Misfit::Several),
            Fill::Given {} => Err(Misfit::HandedOver { input: input(), gives: self.word() }),
            Fill::Picture(_) | Fill::Numbers(_) | Fill::State { .. } | Fill::Constant { .. } => Ok(()),
        }
    }

    fn fits_numbers(&self, port: &Port, numbers: &Numbers) -> Result<(), Misfit> {
        if port.element == "string" {
            return Err(Misfit::Texts { input: port.to_string(), gives: self.word() });
        }
        let Some(channels) = self.channels else { return Ok(()) };
        let (window, input) = (self.window, port.to_string());
        match numbers.shape(port, window, channels) {
            Ok(_) => Ok(()),
            Err(FillError::Window { expected: takes, .. }) => {
                Err(Misfit::Count { input, takes, window, channels })
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use package::contract::Extent;

    use super::*;

    fn port(name: &str, element: &str, shape: &[u64]) -> Port {
        let extents = shape.iter().map(|size| if *size == 0 { Extent::Free } else { Extent::Fixed(*size) });
        Port { name: name.into(), element: element.into(), shape: Some(extents.collect()) }
    }

    const PICTURES: Gives = Gives { pictures: true, window: 1, channels: Some(5) };
    const NUMBERS: Gives = Gives { pictures: false, window: 2, channels: Some(3) };

    /// What is said of a network with these inputs by a flow that gives that.
    fn said(gives: Gives, recipe: &str, inputs: Vec<Port>) -> Option<String> {
        let net = Net { inputs, outputs: vec![port("y", "float32", &[1, 2])], ..Net::default() };
        let recipe: Recipe = toml::from_str(recipe).unwrap();
        let recipe = recipe.completed(&net).unwrap();
        gives.fits(&recipe, &net).err().map(|misfit| misfit.told())
    }

    #[test]
    fn what_it_wants_what_there_is_and_what_to_do() {
        let seen = || vec![port("image", "float32", &[1, 3, 8, 8])];
        let heard = |count| vec![port("x", "float32", &[1, count])];
        let read = || vec![port("ids", "int64", &[1, 0])];
        let given = "[inputs.ids]\nfrom = \"given\"";
        let check = |gives, recipe, inputs, expected: Option<&str>| {
            assert_eq!(said(gives, recipe, inputs).as_deref(), expected);
        };
        check(PICTURES, "", seen(), None);
        check(
            NUMBERS,
            "",
            seen(),
            Some(
                "it looks at pictures (image float32[1×3×8×8]), and its source gives numbers: give it a source of type \"images\", \"rtsp\" or \"camera\"",
            ),
        );
        check(
            Gives { window: 2, ..PICTURES },
            "",
            seen(),
            Some("it looks at one picture at a time: leave out `window`"),
        );
        check(NUMBERS, "", heard(6), None);
        check(Gives { channels: None, ..NUMBERS }, "", heard(7), None);
        // What was measured of a picture are numbers as well.
        check(PICTURES, "", heard(5), None);
        check(
            NUMBERS,
            "",
            heard(9),
            Some(
                "its input x float32[1×9] takes 9 numbers, and its source gives windows of 6 (2 readings of 3 channels): write `window = 3`",
            ),
        );
        check(
            NUMBERS,
            "",
            heard(7),
            Some(
                "its input x float32[1×7] takes 7 numbers, and its source gives windows of 6 (2 readings of 3 channels): give it a source of which `window` times its `channels` is 7",
            ),
        );
        for (gives, word) in [(PICTURES, "gives pictures: take"), (NUMBERS, "gives numbers: take")] {
            let told = said(gives, given, read()).unwrap();
            assert!(told.contains("must hand over its input ids int64[1×") && told.contains(word), "{told}");
        }
        let texts = said(NUMBERS, "[inputs.text]\nfrom = \"numbers\"", vec![port("text", "string", &[1, 6])]);
        assert!(texts.is_some_and(|told| told.contains("takes texts, and its source gives numbers")));
        let free = said(NUMBERS, "[inputs.x]\nfrom = \"numbers\"", vec![port("x", "float32", &[0, 0, 0, 1])]);
        assert!(free.is_some_and(|told| told.ends_with("declare `shape`")));
    }

    #[test]
    fn a_recipe_alone_says_much() {
        let declared = |gives: Gives, recipe: &str| {
            let recipe: Recipe = toml::from_str(recipe).unwrap();
            gives.fits_declared(&recipe.inputs).err().map(|misfit| misfit.to_string())
        };
        let picture = "[inputs.image]\nfrom = \"picture\"";
        assert_eq!(declared(PICTURES, picture), None);
        let blind = "it looks at pictures (`image`), and its source gives numbers";
        assert_eq!(declared(NUMBERS, picture).as_deref(), Some(blind));
        let given = declared(PICTURES, "[inputs.input_ids]\nfrom = \"given\"").unwrap();
        assert!(given.contains("its input `input_ids`") && given.ends_with("gives pictures"), "{given}");
        assert_eq!(declared(NUMBERS, "[inputs.x]\nfrom = \"numbers\""), None);
    }
}
