//! A Hugging Face folder becomes a GGUF file.
//!
//! The first station of the flow of models. What is written is what llama.cpp's converter writes: the same keys in the
//! same order, the same tensors with the same bytes, so that files can be exchanged (`tests/peers/tiny_hf.py` makes a
//! model of each family to compare). Always: config and tokenizer are read before anything is written, a model that we
//! could not run is refused with the reason, and of the weights one row is in memory at a time. In reading order:
//!
//! - [`folder`]: its files; [`config`]: config.json; [`family`]: what of it we know;
//! - [`safetensors`]: its weights; [`names`]: what each becomes; [`numbers`]: from one type to another;
//! - [`parameters`], [`rope`]: the model's numbers as metadata; [`card`]: what it says for people;
//! - [`vocabulary`]: its tokens, from [`tokenizer_json`] or [`sentencepiece`], cut by [`pretokenizer`];
//!   [`special`]: tokens that steer, and chat templates.

pub mod card;
pub mod config;
pub mod family;
pub mod folder;
pub mod names;
pub mod numbers;
pub mod parameters;
pub mod pretokenizer;
pub mod rope;
pub mod safetensors;
pub mod sentencepiece;
pub mod special;
pub mod tokenizer_json;
pub mod vocabulary;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use kernels::format::Format;
use lm::gguf::metadata::Metadata;
use lm::gguf::tensor::Tensor;
use lm::gguf::write::{WriteError, Writer};
use serde_json::{Map, Value};

use self::config::{Config, ConfigError};
use self::family::{Family, FamilyError};
use self::folder::{Folder, FolderError};
use self::names::{Change, Place, paired};
use self::numbers::Rows;
use self::rope::{Rope, RopeError};
use self::safetensors::{Dtype, Source, Weights, WeightsError};
use self::special::Special;
use self::vocabulary::{TokenizerFiles, Vocabulary, VocabularyError};

/// More tokens than any model has; the largest have 262 208.
const VOCABULARY_MAX: u32 = 1 << 22;

/// A folder that cannot become a model.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// See [`FolderError`].
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// See [`ConfigError`].
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// See [`FamilyError`].
    #[error(transparent)]
    Family(#[from] FamilyError),
    /// See [`RopeError`].
    #[error(transparent)]
    Rope(#[from] RopeError),
    /// See [`WeightsError`].
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// See [`VocabularyError`].
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// See [`WriteError`].
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A type that nothing is imported to.
    #[error("a folder cannot be imported as {}; F32, F16, BF16 and Q8_0 can, and `quantize` makes others of those", format.name())]
    Target {
        /// What was asked for.
        format: Format,
    },
    /// A tensor nobody knows.
    #[error("a {family} model has no tensor {name:?}: the folder holds another kind of model, or an adapter")]
    UnknownTensor {
        /// Its name.
        name: String,
        /// The family of the config.
        family: &'static str,
    },
    /// A tensor that is not there.
    #[error("the tensor that becomes {name:?} is missing: the download is incomplete")]
    MissingTensor {
        /// Its name in GGUF.
        name: String,
    },
    /// A tensor of numbers that we do not compute.
    #[error("the tensor {name:?} has numbers of type {dtype}, which is not supported; F32, F16 and BF16 are")]
    Dtype {
        /// Its name.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
    /// A tensor that does not fit the config.
    #[error("the tensor {name:?} has the shape {shape:?}, which does not fit config.json: {why}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
        /// What does not fit.
        why: &'static str,
    },
    /// A pooling we do not do.
    #[error("the pooling of the folder is not supported: {found}; mean, cls and lasttoken are")]
    Pooling {
        /// What it says.
        found: String,
    },
}

/// What is wanted of an import.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// F32, F16, BF16 or Q8_0; none: as most of the weights are. Norms, biases and positions are always F32.
    pub format: Option<Format>,
    /// What the model is called; none: what its card says, or its folder.
    pub name: Option<String>,
}

/// How far an import is.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// What is written now.
    pub tensor: &'a str,
    /// Bytes of tensors written before it.
    pub done_bytes: u64,
    /// Bytes of all tensors.
    pub total_bytes: u64,
}

/// What an import made.
#[derive(Clone, Debug)]
pub struct Imported {
    /// What GGUF calls the family.
    pub family: &'static str,
    /// How most weights are written.
    pub format: Format,
    /// How many tensors.
    pub tensors: usize,
    /// How many numbers in them.
    pub parameters: u64,
    /// The size of the file.
    pub file_bytes: u64,
    /// What the user should know: parts of the model that GGUF has no place for.
    pub notes: Vec<String>,
}

/// A tensor on its way.
enum Origin {
    /// From a file.
    File { source: Source, change: Change },
    /// Computed here.
    Made(Vec<f32>),
}

/// A model that was read and checked, and can be written.
pub struct Import {
    family: Family,
    format: Format,
    writer: Writer,
    origins: HashMap<String, Origin>,
    heads: (u32, u32),
    parameters: u64,
    notes: Vec<String>,
}

impl Import {
    /// Reads a folder: everything but the numbers of its weights.
    pub fn open(path: &Path, options: &Options) -> Result<Import, ImportError> {
        let folder = Folder::open(path)?;
        let values: Map<String, Value> =
            folder.json("config.json")?.ok_or_else(|| folder.missing("config.json"))?;
        let mut config = Config::new(values);
        let family = Family::of(&mut config)?;
        let rope = Rope::of(&config)?;
        let heads = parameters::heads(&config)?;
        let weights = Weights::open(&folder)?;
        let format = target(options.format, &weights)?;

        let mut notes = Vec::new();
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", family.name());
        let mut origins = made(family, &config, &rope, &mut metadata)?;
        let size = gather(family, &config, weights, &mut origins)?;
        config.fill("vocab_size", size);

        let shapes: Vec<(String, Vec<u64>)> =
            origins.iter().map(|(name, origin)| (name.clone(), origin.dims(size))).collect();
        let parameters = shapes.iter().map(|(_, dims)| dims.iter().product::<u64>()).sum();
        metadata.set("general.type", "model");
        card::describe(&folder, options.name.as_deref(), parameters, &mut metadata)?;
        parameters::describe(
            family,
            &config,
            &rope,
            file_type(format),
            pooling(&folder, family)?,
            &mut metadata,
        )?;
        metadata.set("general.quantization_version", 2_u32);
        tokens(&folder, family, &config, size, &mut metadata)?;
        if family == Family::Llama
            && let Some(window) = config.find_count(&["sliding_window"])?
            && window < parameters::context(&config)?
        {
            notes.push(format!(
                "its attention window of {window} positions is not kept: GGUF has no place for it in llama models, so answers differ beyond that"
            ));
        }

        let mut writer = Writer::new(metadata)?;
        for (name, dims) in shapes {
            let kept = tensor_format(&name, &dims, format);
            // A row that is no whole number of blocks stays as it can be.
            let kept = if kept.row_bytes(usize::try_from(dims[0]).unwrap_or(usize::MAX)).is_none() {
                Format::F16
            } else {
                kept
            };
            writer.tensor(&name, &dims, kept)?;
        }
        let origins = origins.into_iter().collect();
        Ok(Import { family, format, writer, origins, heads, parameters, notes })
    }

    /// How large the file will be, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.writer.file_bytes()
    }

    /// Writes the file; it appears under its name when it is whole.
    pub fn write(self, path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Imported, ImportError> {
        let total_bytes = self.writer.tensors().iter().map(|tensor| tensor.bytes).sum();
        let mut done_bytes = 0;
        self.writer.write(path, &mut |tensor, sink| {
            progress(Progress { tensor: &tensor.name, done_bytes, total_bytes });
            done_bytes += tensor.bytes;
            let format = tensor.format.known().ok_or("the import writes only formats it knows")?;
            let origin = self.origins.get(&tensor.name).ok_or("the import knows each tensor it declared")?;
            Ok(origin.write(tensor, format, self.heads, sink)?)
        })?;
        Ok(Imported {
            family: self.family.name(),
            format: self.format,
            tensors: self.writer.tensors().len(),
            parameters: self.parameters,
            file_bytes: self.writer.file_bytes(),
            notes: self.notes,
        })
    }
}

/// Reads a folder and writes the file: [`Import::open`] and [`Import::write`].
pub fn import(
    folder: &Path,
    out: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Imported, ImportError> {
    Import::open(folder, options)?.write(out, progress)
}

impl Origin {
    /// Dimensions as GGUF has them: columns first. A vocabulary's rows are cut at `size`.
    fn dims(&self, size: u32) -> Vec<u64> {
        match self {
            Origin::Made(numbers) => vec![numbers.len() as u64],
            Origin::File { source, change } => {
                let mut shape = source.shape.clone();
                if *change == Change::Vocabulary {
                    shape[0] = shape[0].min(u64::from(size));
                }
                shape.reverse();
                shape
            }
        }
    }

    fn write(
        &self,
        tensor: &Tensor,
        format: Format,
        heads: (u32, u32),
        sink: &mut dyn Write,
    ) -> std::io::Result<()> {
        let (source, change) = match self {
            Origin::Made(numbers) => {
                return numbers.iter().try_for_each(|number| sink.write_all(&number.to_le_bytes()));
            }
            Origin::File { source, change } => (source, *change),
        };
        let plus = if change == Change::PlusOne { 1.0 } else { 0.0 };
        let fits = "the tensor lies in memory";
        let columns = usize::try_from(tensor.columns()).expect(fits);
        let rows = usize::try_from(tensor.rows()).expect(fits);
        let mut taken = Rows { bytes: &source.bytes, dtype: &source.dtype, columns, rows, plus };
        let Change::PairRows { queries } = change else {
            return taken.write(format, |row| row, sink);
        };
        if source.shape.len() == 1 {
            // A bias has a row of one number for each row of its matrix.
            (taken.rows, taken.columns) = (columns, 1);
        }
        let head = taken.rows / if queries { heads.0 } else { heads.1 } as usize;
        taken.write(format, |row| paired(row, head), sink)
    }
}

/// The format to write: what was asked for, or what most matrices have.
fn target(wanted: Option<Format>, weights: &Weights) -> Result<Format, ImportError> {
    match wanted {
        Some(format @ (Format::F32 | Format::F16 | Format::BF16 | Format::Q8_0)) => Ok(format),
        Some(format) => Err(ImportError::Target { format }),
        None => {
            let mut bytes = BTreeMap::from([("F32", 0), ("F16", 0), ("BF16", 0)]);
            for source in weights.tensors.iter().filter(|source| source.shape.len() > 1) {
                if let Some(place) = bytes.get_mut(source.dtype.to_string().as_str()) {
                    *place += source.bytes.len();
                }
            }
            let most = bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(name, _)| name);
            Ok(most.and_then(Format::from_name).unwrap_or(Format::F16))
        }
    }
}

/// The number of `general.file_type`.
fn file_type(format: Format) -> u32 {
    match format {
        Format::F32 => 0,
        Format::F16 => 1,
        Format::Q8_0 => 7,
        _ => 32,
    }
}

/// What a tensor is written in: small and delicate ones are F32.
fn tensor_format(name: &str, dims: &[u64], format: Format) -> Format {
    let delicate = name.ends_with("_norm.weight")
        || !name.ends_with(".weight")
        || name == "position_embd.weight"
        || name == "token_types.weight";
    if dims.len() < 2 || delicate { Format::F32 } else { format }
}

/// Tensors and an entry that are computed from the config: factors of rotary positions.
fn made(
    family: Family,
    config: &Config,
    rope: &Rope,
    metadata: &mut Metadata,
) -> Result<Origins, ImportError> {
    let mut made = Vec::new();
    match family {
        Family::Llama => {
            if let Some(factors) = rope.llama3_factors(config.count(&["head_dim"])?)? {
                made.push(("rope_freqs.weight".to_owned(), Origin::Made(factors)));
            }
        }
        Family::Phi3 => {
            let pairs = parameters::turning(config, rope)? as usize / 2;
            if let Some(factors) = rope.long_factors(pairs, parameters::context(config)?)? {
                metadata.set("phi3.rope.scaling.attn_factor", factors.attention);
                made.push(("rope_factors_long.weight".to_owned(), Origin::Made(factors.long)));
                made.push(("rope_factors_short.weight".to_owned(), Origin::Made(factors.short)));
            }
        }
        _ => {}
    }
    Ok(made)
}

/// Names in GGUF and where the numbers come from, in the order they are written.
type Origins = Vec<(String, Origin)>;

/// Gives each tensor of the folder its place, and the number of tokens.
fn gather(
    family: Family,
    config: &Config,
    weights: Weights,
    origins: &mut Origins,
) -> Result<u32, ImportError> {
    let (queries, keys) = parameters::heads(config)?;
    let mut rows = None;
    for source in weights.tensors {
        let (name, change) = match family.place(&source.name) {
            Place::Tensor { name, change } => (name, change),
            Place::Nowhere => continue,
            Place::Unknown => {
                let name = source.name.chars().take(80).collect();
                return Err(ImportError::UnknownTensor { name, family: family.name() });
            }
        };
        if source.dtype.bytes().is_none() {
            return Err(ImportError::Dtype { name: source.name, dtype: source.dtype });
        }
        let shape = |why| ImportError::Shape { name: source.name.clone(), shape: source.shape.clone(), why };
        if source.shape.is_empty() || source.shape.len() > 2 {
            return Err(shape("matrices and vectors are wanted"));
        }
        if let Change::PairRows { queries: of_queries } = change {
            let heads = u64::from(if of_queries { queries } else { keys });
            if heads == 0 || !source.shape[0].is_multiple_of(heads * 2) {
                return Err(shape("its rows are no whole number of heads"));
            }
        }
        if name == "token_embd.weight" {
            rows = Some(source.shape[0]);
        }
        origins.push((name, Origin::File { source, change }));
    }
    for name in family.required(parameters::layers(config)?) {
        if !origins.iter().any(|(known, _)| *known == name) {
            return Err(ImportError::MissingTensor { name });
        }
    }
    let rows = rows.and_then(|rows| u32::try_from(rows).ok()).unwrap_or(u32::MAX);
    let size = config.find_count(&["vocab_size"])?.unwrap_or(rows);
    if size > rows {
        let (name, why) = ("token_embd.weight".to_owned(), "vocab_size is larger");
        return Err(ImportError::Shape { name, shape: vec![rows.into()], why });
    }
    if size > VOCABULARY_MAX {
        let (name, why) = ("token_embd.weight".to_owned(), "no vocabulary is that large");
        return Err(ImportError::Shape { name, shape: vec![rows.into()], why });
    }
    Ok(size)
}

/// Everything about tokens.
fn tokens(
    folder: &Folder,
    family: Family,
    config: &Config,
    size: u32,
    metadata: &mut Metadata,
) -> Result<(), ImportError> {
    let files = TokenizerFiles::open(folder)?;
    if family == Family::Bert {
        metadata.set("tokenizer.ggml.token_type_count", config.count(&["type_vocab_size"])?);
    }
    if family == Family::Llama
        && let Some(prefix) = files.config["add_prefix_space"].as_bool()
    {
        metadata.set("tokenizer.ggml.add_space_prefix", prefix);
    }
    let vocabulary = Vocabulary::read(folder, &files, family, size)?;
    let space_prefix = vocabulary.space_prefix();
    vocabulary.describe(metadata);
    Special::read(folder, &files, size)?.describe(metadata);
    if let Some(prefix) = space_prefix
        && metadata.get("tokenizer.ggml.add_space_prefix").is_none()
    {
        metadata.set("tokenizer.ggml.add_space_prefix", prefix);
    }
    // Gemma's files say so too, but some say nothing.
    let spaced = metadata.string("tokenizer.ggml.model") == Ok("llama");
    if matches!(family, Family::Gemma2 | Family::Gemma3) && spaced {
        metadata.set("tokenizer.ggml.add_space_prefix", false);
    }
    // Granite's small models say otherwise, but add none; their number of tokens is how they are told.
    if family == Family::Llama && size == 49_152 {
        metadata.set("tokenizer.ggml.add_bos_token", false);
    }
    Ok(())
}

/// How an encoder of sentence-transformers pools: 1 mean, 2 the first token, 3 the last.
fn pooling(folder: &Folder, family: Family) -> Result<Option<u32>, ImportError> {
    let modules: Option<Vec<Value>> = folder.json("modules.json")?;
    let pooling = modules
        .into_iter()
        .flatten()
        .find(|module| module["type"].as_str().is_some_and(|kind| kind.ends_with("Pooling")));
    let Some(module) = pooling.filter(|_| matches!(family, Family::Bert | Family::Qwen2 | Family::Qwen3))
    else {
        return Ok(None);
    };
    let place = PathBuf::from(module["path"].as_str().unwrap_or_default()).join("config.json");
    let name = place.to_string_lossy().into_owned();
    let said: Value = folder.json(&name)?.ok_or_else(|| folder.missing(&name))?;
    let is = |key: &str| said[format!("pooling_mode_{key}")] == true;
    let mode = said["pooling_mode"].as_str();
    for (number, key, name) in
        [(1, "mean_tokens", "mean"), (2, "cls_token", "cls"), (3, "lasttoken", "lasttoken")]
    {
        if is(key) || mode == Some(name) {
            return Ok(Some(number));
        }
    }
    Err(ImportError::Pooling { found: said.to_string().chars().take(200).collect() })
}
