//! A recipe: what stands before and after a network, declared as data that travels with it.
//!
//! TOML or JSON, the same words. What a recipe does not say follows from the network where there is only one way: its one input
//! takes a picture if it has four dimensions and a window of numbers if it has fewer, and small outputs are numbers under their
//! own names. A recipe is checked against the network once, before the first step.

use std::collections::{BTreeMap, BTreeSet};

use package::contract::{Extent, Net, Port};
use serde::{Deserialize, Serialize};

use crate::after::{Meaning, MeaningError, Named};
use crate::batch::{self, BatchError};
use crate::before::{Fill, FillError, Look, Numbers, fixed};

/// The most numbers of an output that become fields by themselves.
const NUMBERS_MAX: u64 = 16;

/// What stands before and after a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// So many looks at most share a run of the network, where several are due; left out: each has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// How each input is filled, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Fill>,
    /// What the outputs mean.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Meaning>,
}

/// A recipe that does not fit a network.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum RecipeError {
    /// It fills an input that is not there.
    #[error("the network has no input `{name}`; it has {there}")]
    Input {
        /// The name in the recipe.
        name: String,
        /// The names that there are.
        there: String,
    },
    /// It leaves an input open, and there is more than one way to fill it.
    #[error("nothing fills the input {input}: declare `[inputs.{name}]` with `from = \"picture\"`, `\"numbers\"`, `\"state\"`, `\"constant\"` or `\"given\"`", input = port.to_string(), name = port.name)]
    Open {
        /// The input.
        port: Box<Port>,
    },
    /// State comes from an output that is not there, or of another kind.
    #[error("the state `{input}` comes from `{output}`, which {why}")]
    State {
        /// The input.
        input: String,
        /// The output in the recipe.
        output: String,
        /// What is wrong.
        why: &'static str,
    },
    /// An input cannot be filled so.
    #[error(transparent)]
    Fill(#[from] FillError),
    /// An output cannot mean that.
    #[error(transparent)]
    Meaning(#[from] MeaningError),
    /// Looks cannot share a run.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

impl Recipe {
    /// The recipe with all that follows from the network, checked against it.
    pub fn completed(mut self, net: &Net) -> Result<Recipe, RecipeError> {
        if let Some(name) = self.inputs.keys().find(|name| !net.inputs.iter().any(|port| port.name == **name))
        {
            let there: Vec<String> = net.inputs.iter().map(|port| format!("`{}`", port.name)).collect();
            return Err(RecipeError::Input { name: name.clone(), there: there.join(", ") });
        }
        let open: Vec<&Port> =
            net.inputs.iter().filter(|port| !self.inputs.contains_key(&port.name)).collect();
        let has_material =
            self.inputs.values().any(|fill| matches!(fill, Fill::Picture(_) | Fill::Numbers(_)));
        match open[..] {
            [] => {}
            [port] if !has_material && port.element != "string" => {
                let fill = match port.shape.as_ref().map(Vec::len) {
                    Some(4) => Fill::Picture(Look::default()),
                    _ => Fill::Numbers(Numbers::default()),
                };
                self.inputs.insert(port.name.clone(), fill);
            }
            [port, ..] => return Err(RecipeError::Open { port: Box::new(port.clone()) }),
        }
        for port in &net.inputs {
            self.check(port, net)?;
        }
        if self.answers.is_empty() {
            self.answers = self.plain(net);
        }
        let mut names = BTreeSet::new();
        for meaning in &self.answers {
            meaning.check(&net.inputs, &net.outputs)?;
            for (name, _) in meaning.fields() {
                let is_name = name.starts_with(|letter: char| letter.is_ascii_lowercase())
                    && name.chars().all(|letter| {
                        letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'
                    });
                if !is_name {
                    let why = "is no name: a letter from a to z, then letters, digits and `_`";
                    return Err(MeaningError::Field { name, why }.into());
                }
                if !names.insert(name.clone()) {
                    return Err(
                        MeaningError::Field { name, why: "is given twice: set another `prefix`" }.into()
                    );
                }
            }
        }
        if let Some(batch) = self.batch {
            batch::check(batch, &self.inputs, &self.answers, net)?;
        }
        Ok(self)
    }

    fn check(&self, port: &Port, net: &Net) -> Result<(), RecipeError> {
        match &self.inputs[&port.name] {
            Fill::Picture(look) => {
                look.shape(port)?;
            }
            Fill::Constant { shape, values } => {
                fixed(port, shape, Some(values))?;
            }
            Fill::State { output, shape } => {
                fixed(port, shape, None)?;
                let wrong =
                    |why| Err(RecipeError::State { input: port.name.clone(), output: output.clone(), why });
                match net.outputs.iter().find(|found| found.name == *output) {
                    None => return wrong("the network does not give"),
                    Some(found) if found.element != port.element => return wrong("is of another kind"),
                    Some(_) => {}
                }
            }
            Fill::Numbers(_) | Fill::Given {} => {}
        }
        Ok(())
    }

    /// Outputs that are few numbers and no state, under their own names.
    fn plain(&self, net: &Net) -> Vec<Meaning> {
        let fed: BTreeSet<&str> = self
            .inputs
            .values()
            .filter_map(|fill| match fill {
                Fill::State { output, .. } => Some(output.as_str()),
                _ => None,
            })
            .collect();
        let outputs =
            net.outputs.iter().filter(|port| !fed.contains(port.name.as_str()) && port.element != "string");
        let named = outputs.filter_map(|port| {
            // What is free is most often how many inputs are looked at at once, which is one here.
            let sizes = port.shape.as_ref()?.iter().map(|extent| match extent {
                Extent::Fixed(size) => *size,
                Extent::Named(_) | Extent::Free => 1,
            });
            let count = sizes.fold(1u64, u64::saturating_mul);
            let word = field(&port.name);
            let names = match count {
                1 => vec![word],
                2..=NUMBERS_MAX => (0..count).map(|at| format!("{word}_{at}")).collect(),
                _ => return None,
            };
            Some(Meaning::Numbers(Named { output: port.name.clone(), names, ..Named::default() }))
        });
        named.collect()
    }

    /// The fields of an answer, and whether each is a word.
    pub fn fields(&self) -> Vec<(String, bool)> {
        self.answers.iter().flat_map(Meaning::fields).collect()
    }
}

/// The name of an output as the name of a field.
fn field(name: &str) -> String {
    let letters = name
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' });
    let word: String = letters.take(64).collect();
    if word.starts_with(|letter: char| letter.is_ascii_lowercase()) { word } else { format!("output_{word}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, element: &str, shape: &[u64]) -> Port {
        let extents = shape.iter().map(|size| if *size == 0 { Extent::Free } else { Extent::Fixed(*size) });
        Port { name: name.into(), element: element.into(), shape: Some(extents.collect()) }
    }

    fn net(inputs: Vec<Port>, outputs: Vec<Port>) -> Net {
        Net { inputs, outputs, ..Net::default() }
    }

    /// As silero's voice detector has them.
    fn streaming() -> Net {
        let inputs = vec![
            port("input", "float32", &[0, 0]),
            port("state", "float32", &[2, 0, 128]),
            port("sr", "int64", &[]),
        ];
        net(inputs, vec![port("output", "float32", &[0, 1]), port("stateN", "float32", &[0, 0, 0])])
    }

    const STREAMING: &str = r#"
        [inputs.input]
        from = "numbers"
        [inputs.state]
        from = "state"
        output = "stateN"
        shape = [2, 1, 128]
        [inputs.sr]
        from = "constant"
        values = [16000]
        [[answers]]
        as = "numbers"
        output = "output"
        names = ["speech"]
    "#;

    #[test]
    fn a_recipe_is_read_and_written_the_same() {
        let recipe: Recipe = toml::from_str(STREAMING).unwrap();
        let json = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe);
        assert_eq!(recipe.completed(&streaming()).unwrap().fields(), [("speech".to_owned(), false)]);
    }

    #[test]
    fn what_has_one_way_need_not_be_said() {
        let seen = net(
            vec![port("image", "float32", &[1, 3, 8, 8])],
            vec![port("Plus214_Output_0", "float32", &[1, 2])],
        );
        let recipe = Recipe::default().completed(&seen).unwrap();
        assert!(matches!(recipe.inputs["image"], Fill::Picture(_)));
        let fields: Vec<String> = recipe.fields().into_iter().map(|(name, _)| name).collect();
        assert_eq!(fields, ["plus214_output_0_0", "plus214_output_0_1"]);
        let heard = net(vec![port("x", "float32", &[1, 16])], vec![port("7", "float32", &[1])]);
        let recipe = Recipe::default().completed(&heard).unwrap();
        assert!(matches!(recipe.inputs["x"], Fill::Numbers(_)));
        assert_eq!(recipe.fields(), [("output_7".to_owned(), false)]);
    }

    #[test]
    fn looks_share_a_run_only_where_each_stands_for_itself() {
        let named = |name: &str, first: &str, rest: &[u64]| {
            let mut port = port(name, "float32", rest);
            port.shape.as_mut().unwrap().insert(0, Extent::Named(first.to_owned()));
            port
        };
        let said = |text: &str, inputs: Vec<Port>, outputs: Vec<Port>| {
            let recipe: Recipe = toml::from_str(text).unwrap();
            recipe
                .completed(&net(inputs, outputs))
                .map(|recipe| recipe.batch)
                .map_err(|error| error.to_string())
        };
        let x = || named("x", "n", &[4]);
        let y = || named("y", "n", &[2]);
        assert_eq!(said("batch = 8", vec![x()], vec![y()]), Ok(Some(8)));
        assert_eq!(
            said("batch = 8", vec![port("x", "float32", &[0, 4])], vec![named("y", "rows", &[2])]),
            Ok(Some(8))
        );
        assert_eq!(
            said("batch = 1", vec![port("x", "float32", &[1, 4])], vec![port("y", "float32", &[1])]),
            Ok(Some(1))
        );
        let unknown = Port { shape: None, ..y() };
        let read = "batch = 8\n[[answers]]\nas = \"classes\"\noutput = \"y\"";
        assert_eq!(said(read, vec![x()], vec![unknown]), Ok(Some(8)), "it is seen when it comes out");
        let wrong = |text: &str, input: Port, output: Port, why: &str| {
            let error = said(text, vec![input], vec![output]).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        wrong("batch = 0", x(), y(), "`batch` is 0, and must be from 1 to 256");
        wrong("batch = 257", x(), y(), "`batch` is 257");
        wrong(
            "batch = 8",
            port("x", "float32", &[1, 4]),
            y(),
            "x float32[1×4] has a first dimension of 1, so",
        );
        wrong("batch = 8", port("x", "float32", &[0]), y(), "the window's length");
        wrong(
            "batch = 8",
            x(),
            port("y", "float32", &[1, 2]),
            "an answer reads y float32[1×2], which has a first dimension of 1",
        );
        let square = Port { shape: Some(vec![Extent::Named("n".into()), Extent::Named("n".into())]), ..x() };
        wrong("batch = 8", square, y(), "which is another size as well");
        let shaped = "batch = 8\n[inputs.x]\nfrom = \"numbers\"\nshape = [2, 4]";
        wrong(shaped, x(), y(), "does not begin with 1");
        let tokens =
            Port { shape: Some(vec![Extent::Named("n".into()), Extent::Named("length".into())]), ..x() };
        wrong(read, tokens, named("y", "length", &[2]), "a size of what is looked at");
        let given = "batch = 8\n[inputs.x]\nfrom = \"given\"\n[inputs.m]\nfrom = \"given\"";
        let error = said(given, vec![x(), named("m", "rows", &[4])], vec![y()]).unwrap_err();
        assert!(error.contains("has a first dimension `rows`, where another has `n`"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_reason() {
        let wrong = |change: &str, to: &str, why: &str| {
            let text = STREAMING.replace(change, to);
            let recipe: Recipe = toml::from_str(&text).unwrap();
            let error = recipe.completed(&streaming()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        wrong("[inputs.sr]", "[inputs.rate]", "no input `rate`; it has `input`, `state`, `sr`");
        wrong(
            "[inputs.sr]\n        from = \"constant\"\n        values = [16000]",
            "",
            "nothing fills the input sr int64[]",
        );
        wrong("\"stateN\"", "\"stateM\"", "does not give");
        wrong("[16000]", "[16000, 8000]", "2 elements");
        wrong("[2, 1, 128]", "[99999999, 99999999]", "no tensor has this shape");
        wrong("output = \"output\"", "output = \"out\"", "no output `out`");
        wrong("[\"speech\"]", "[\"Speech\"]", "is no name");
        let twice =
            format!("{STREAMING}[[answers]]\nas = \"numbers\"\noutput = \"output\"\nnames = [\"speech\"]");
        let error = toml::from_str::<Recipe>(&twice).unwrap().completed(&streaming()).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
        let together = toml::from_str::<Recipe>(&format!("batch = 8\n{STREAMING}")).unwrap();
        let error = together.completed(&streaming()).unwrap_err().to_string();
        assert!(error.contains("`state` carries state from one look to the next"), "{error}");
        assert!(toml::from_str::<Recipe>("[inputs.x]\nfrom = \"camera\"").is_err());
        assert!(toml::from_str::<Recipe>("[inputs.x]\nfrom = \"picture\"\ncolors = \"rgb\"").is_err());
    }
}
