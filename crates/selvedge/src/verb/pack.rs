//! `selvedge pack`: files of a model become a package that travels: measured, described, named by their digests. What each file
//! is stands in `parts`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use forge::evaluate::Cut;
use forge::pack::found::Found;
use forge::pack::golden::golden;
use forge::pack::{Order, Seal, onnx, pack};
use kernels::page::CacheFormat;
use lm::model::Model;
use lm::tokenizer::special::Special;
use net::recipe::Recipe;
use package::archive;
use package::digest::Digest;
use package::disk::system::System as Disk;
use package::golden::{Answer, Case, Golden, Tensor};
use package::index::Release;
use package::layout::Layout;
use package::name::{ModelName, VariantName};
use package::requirement::{Better, Kind, Measurement, Quality, Version};
use package::seal::content::SealKey;
use package::seal::hybrid::NodePublic;
use package::trust::time::{format_utc, parse_utc};
use serde_json::json;
use wire::world::System;

use super::inspect;
use super::perplexity::{WINDOW, measure, read_text};
use crate::complaint::Usage;
use crate::engine::{Engine, Threads, open_path, parse_tokens};
use crate::interrupt::Interrupt;
use crate::keys::{self, read_nodes};
use crate::latency;
use crate::models::Models;
use crate::progress;

mod parts;

/// Make a package of a model: its files, what each of them needs, how good it is, and what it must answer.
///
/// Files are language models and LoRA adapters (GGUF), ONNX graphs, what a node's detector has learnt (.json), or flows (.toml).
/// Every file becomes a variant of the release; a device takes the best that it proves it can run. What is not measured is
/// not said: --quality measures the perplexity of each on a text, --golden-from asks each some prompts (a network: some
/// tensors) and records its answers, which a node then asks for before it trusts the model. The same files and words give the same bytes. With --seal-to
/// only the nodes whose keys are named can read the weights, and those that `selvedge grant` lets in later.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The variants: .gguf, .onnx, .json or .toml files, or names of models on this machine; each is called after what its
    /// numbers are, as q4_k_m.
    #[arg(value_name = "MODEL")]
    files: Vec<String>,

    /// A variant with a name of its own.
    #[arg(long = "variant", value_name = "NAME=FILE", value_parser = parse_variant)]
    variants: Vec<(VariantName, String)>,

    /// What the files are, if they do not look like it: lm, adapter, net, detector or flow.
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    kind: Option<Kind>,

    /// Of adapters: the model that they correct, a package with one variant, or the digest of a variant's manifest.
    #[arg(long, value_name = "PACKAGE|DIGEST")]
    base: Option<String>,

    /// What the model is called, over all its releases: smollm2-135m.
    #[arg(long, value_name = "NAME")]
    model: ModelName,

    /// The release: a number that only grows.
    #[arg(long, value_name = "NUMBER")]
    release: u64,

    /// The folder to make, or a file that ends in .tar.
    #[arg(short, long, value_name = "DIR|FILE.tar")]
    output: PathBuf,

    /// Replace what is there.
    #[arg(long)]
    force: bool,

    /// Tokens of prompt and answer that memory is reckoned with; without it 2048, or what a model was trained for if that is
    /// less.
    #[arg(long, value_name = "TOKENS", value_parser = parse_tokens)]
    context: Option<usize>,

    /// Measure the perplexity of each variant on this text.
    #[arg(long, value_name = "TEXT")]
    quality: Option<PathBuf>,

    /// Take the quality from this file instead: {"q4_k_m": {"metric": "f1", "value": 0.9, "better": "higher", "on":
    /// "sha256:…"}}.
    #[arg(long, value_name = "FILE", conflicts_with = "quality")]
    quality_json: Option<PathBuf>,

    /// Of networks: what stands before and after them, as docs/networks.md has it; it travels with them.
    #[arg(long, value_name = "FILE.toml")]
    recipe: Option<PathBuf>,

    /// Ask each variant these prompts, one a line, and record the answers as its golden set. Of networks a line is a JSON object of
    /// inputs: {"x": {"shape": [1, 2], "f32": [0.5, 1]}}; what it leaves out is zeros.
    #[arg(long, value_name = "PROMPTS")]
    golden_from: Option<PathBuf>,

    /// Record this golden set, in the form of docs/packages.md: with a budget, say. Each variant must give its answers.
    #[arg(long, value_name = "FILE", conflicts_with = "golden_from")]
    golden: Option<PathBuf>,

    /// Measure what answers cost on this machine: time to the first token, time of a token, energy where it is counted.
    #[arg(long)]
    latency: bool,

    /// Tokens of a golden answer at most.
    #[arg(long, value_name = "TOKENS", default_value = "16", value_parser = parse_tokens)]
    golden_tokens: usize,

    /// The licence as SPDX writes it; without it what the files say.
    #[arg(long, value_name = "SPDX")]
    licence: Option<String>,

    /// The licence's text.
    #[arg(long, value_name = "FILE")]
    licence_file: Option<PathBuf>,

    /// The model card, in Markdown; without it one is made of what is known.
    #[arg(long, value_name = "FILE")]
    card: Option<PathBuf>,

    /// What the model is for, in a sentence.
    #[arg(long, value_name = "TEXT")]
    purpose: Option<String>,

    /// Where it was built from.
    #[arg(long, value_name = "URL")]
    source: Option<String>,

    /// What it cannot do, or should not be used for.
    #[arg(long = "limitation", value_name = "TEXT")]
    limitations: Vec<String>,

    /// When it was made: 2026-11-21T20:00:00Z; without it what SOURCE_DATE_EPOCH says, or nothing.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    created: Option<String>,

    /// Seal the weights, and let this node open them: the node.pub.json that `selvedge trust key node` wrote there. Several if
    /// need be.
    #[arg(long = "seal-to", value_name = "KEY.pub.json")]
    seal_to: Vec<PathBuf>,

    /// The key that seals, as `selvedge trust key new FILE.age --kind content` makes it; with it `selvedge grant` lets further
    /// nodes in.
    #[arg(long, value_name = "FILE.age")]
    seal_key: Option<PathBuf>,

    /// Keep no key that seals: nobody can be let in later.
    #[arg(long, conflicts_with = "seal_key", requires = "seal_to")]
    forget_seal_key: bool,

    #[command(flatten)]
    threads: Threads,

    #[command(flatten)]
    models: Models,

    /// Print what was made as JSON.
    #[arg(long)]
    json: bool,
}

fn parse_variant(word: &str) -> Result<(VariantName, String), String> {
    let (name, file) = word.split_once('=').ok_or("it reads like q4_k_m=model.gguf")?;
    Ok((VariantName::new(name).map_err(|error| error.to_string())?, file.to_owned()))
}

fn parse_kind(word: &str) -> Result<Kind, String> {
    match Kind::of_word(word) {
        Kind::Other(_) => Err("it is one of lm, adapter, net, detector, flow".to_owned()),
        kind => Ok(kind),
    }
}

fn parse_time(word: &str) -> Result<String, String> {
    parse_utc(word).map(format_utc).ok_or_else(|| "it reads like 2026-11-21T20:00:00Z".to_owned())
}

/// The version of this program.
pub(super) fn version() -> Version {
    Version::parse(env!("CARGO_PKG_VERSION")).unwrap_or(Version(0, 0, 0))
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.output.exists() && !args.force {
        anyhow::bail!("{} is there already; --force replaces it", args.output.display());
    }
    // All that is asked for is looked at before the long work begins.
    let mut found = variants(args)?;
    let text = args.quality.as_deref().map(read_text).transpose()?;
    let given = args.quality_json.as_deref().map(read_quality).transpose()?;
    if let Some(unknown) = given
        .iter()
        .flat_map(BTreeMap::keys)
        .find(|name| !found.iter().any(|found| found.variant.name.as_str() == name.as_str()))
    {
        anyhow::bail!("--quality-json speaks of {unknown}, which is none of the variants");
    }
    let asks = text.is_some() || args.golden_from.is_some() || args.golden.is_some() || args.latency;
    let is_net = found.iter().all(|it| it.variant.kind == Kind::Net);
    if is_net {
        if text.is_some() || args.latency {
            return Err(Usage("--quality and --latency ask language models".to_owned()).into());
        }
        ask_networks(args, &mut found)?;
    } else if args.recipe.is_some() {
        return Err(Usage("--recipe stands around networks, and something here is none".to_owned()).into());
    } else if let Some(Found { variant, .. }) = found.iter().find(|it| asks && it.variant.kind != Kind::Lm) {
        let what = "--quality, --golden-from, --golden and --latency ask language models, or --golden and --golden-from networks \
                    alone";
        return Err(Usage(format!("{what}; {} is of the kind {}", variant.name, variant.kind)).into());
    }
    let asks = asks && !is_net;
    let seal = seal(args)?;
    let prompts = args.golden_from.as_deref().filter(|_| asks).map(read_prompts).transpose()?;
    let answers = args.golden.as_deref().filter(|_| asks).map(read_golden).transpose()?;
    let order = order(args, &found)?;
    let working = working(&args.output)?;
    let ending = Interrupt::listen()?.remove(working.clone())?;
    for Found { variant, .. } in &mut found {
        if let Some(given) = &given {
            variant.quality = given.get(variant.name.as_str()).cloned();
        }
        if asks {
            let engine = load(args, &variant.weights, &variant.name)?;
            if let Some(text) = &text {
                variant.quality = Some(surprise(&engine, text)?);
            }
            if let Some(prompts) = &prompts {
                let bar =
                    progress::steps(prompts.len() as u64).with_prefix(format!("asking {}", engine.name));
                let set = golden(&engine.model, prompts, args.golden_tokens, &mut || bar.inc(1));
                bar.finish_and_clear();
                variant.golden = Some(set.with_context(|| format!("{} has no golden set", engine.name))?);
            }
            if let Some(answers) = &answers {
                variant.golden = Some(answered(&engine, answers)?);
            }
            if args.latency {
                let cost = latency::measure(&engine.model, variant.golden.as_ref())?;
                variant.energy = cost
                    .joules
                    .map(|_| Measurement { prompt_ms: None, token_p95_ms: None, ..cost.clone() })
                    .into_iter()
                    .collect();
                variant.latency = vec![Measurement { joules: None, ..cost }];
            }
        }
    }
    let total = found.iter().map(|found| found.bytes).sum();
    let order = Order { variants: found.into_iter().map(|found| found.variant).collect(), ..order };
    let made = ending.outlast(make(args, &order, seal.as_ref(), total, &working));
    if made.is_err() {
        // The first failure is the one to tell.
        drop(std::fs::remove_dir_all(&working));
    }
    tell(args, &made?)
}

/// The key that seals, and to whom; `None` if the weights stay plain.
fn seal(args: &Args) -> anyhow::Result<Option<(SealKey, Vec<NodePublic>)>> {
    let to = read_nodes(&args.seal_to)?;
    Ok(match &args.seal_key {
        Some(path) => Some((keys::open_seal(path)?, to)),
        None if to.is_empty() => None,
        None if args.forget_seal_key => Some((SealKey::draw(&mut System::new()), to)),
        None => {
            let why = "with --seal-key FILE.age further nodes can be let in later (`selvedge trust key new FILE.age --kind \
                       content` makes it); --forget-seal-key goes without";
            return Err(Usage(why.to_owned()).into());
        }
    })
}

/// A golden set, if a variant gives its answers here.
fn answered(engine: &Engine, set: &Golden) -> anyhow::Result<Golden> {
    let bar = progress::steps(set.cases.len() as u64).with_prefix(format!("asking {}", engine.name));
    let mut answers = Vec::new();
    for case in &set.cases {
        let (prompt, most) = match case {
            Case::Text(text) => (&text.prompt, text.max_tokens),
            Case::Embedding(text) => (&text.embed, 1),
            Case::Tensors(_) => {
                anyhow::bail!("the golden set asks for tensors, which a model of words has not")
            }
        };
        let asked = golden(&engine.model, std::slice::from_ref(prompt), most, &mut || bar.inc(1))?;
        answers.extend(asked.cases.into_iter().map(|case| match case {
            Case::Text(text) => Answer::Tokens(text.tokens),
            Case::Embedding(text) => Answer::Vector(text.vector),
            Case::Tensors(_) => unreachable!("a model of words gives words and vectors"),
        }));
    }
    bar.finish_and_clear();
    set.judge(&answers).with_context(|| format!("{} does not give the golden answers", engine.name))?;
    Ok(set.clone())
}

/// Gives networks their golden sets, as far as they are asked for.
fn ask_networks(args: &Args, found: &mut [Found]) -> anyhow::Result<()> {
    let given = args.golden.as_deref().map(read_golden).transpose()?;
    let inputs = args.golden_from.as_deref().map(read_inputs).transpose()?;
    for Found { variant, .. } in found {
        if let Some(set) = &given {
            let answers = onnx::answers(&variant.weights, set)?;
            set.judge(&answers)
                .with_context(|| format!("{} does not give the golden answers", variant.name))?;
            variant.golden = Some(set.clone());
        }
        if let Some(inputs) = &inputs {
            variant.golden = Some(onnx::golden(&variant.weights, inputs.clone())?);
        }
    }
    Ok(())
}

/// Inputs of networks, an object of tensors a line.
fn read_inputs(path: &Path) -> anyhow::Result<Vec<BTreeMap<String, Tensor>>> {
    let text = read_text(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = lines.map(|(at, line)| {
        let wrong = || {
            format!(
                "{}, line {}: not an object of tensors, as {{\"x\": {{\"shape\": [1, 2], \"f32\": [0.5, 1]}}}}",
                path.display(),
                at + 1
            )
        };
        serde_json::from_str(line).with_context(wrong)
    });
    let inputs: Vec<_> = read.collect::<anyhow::Result<_>>()?;
    anyhow::ensure!(!inputs.is_empty(), "{} has no inputs: an object of tensors a line", path.display());
    Ok(inputs)
}

/// What stands before and after networks.
fn read_recipe(path: &Path) -> anyhow::Result<Recipe> {
    toml::from_str(&read_text(path)?).with_context(|| format!("{} is no recipe", path.display()))
}

/// The variants as they are named, without what must be measured.
fn variants(args: &Args) -> anyhow::Result<Vec<Found>> {
    if args.files.is_empty() && args.variants.is_empty() {
        let why = "nothing to pack: name .gguf, .onnx, .json or .toml files, or --variant NAME=FILE";
        return Err(Usage(why.to_owned()).into());
    }
    let base = args.base.as_deref().map(parts::base).transpose()?;
    let recipe = args.recipe.as_deref().map(read_recipe).transpose()?;
    let said =
        parts::Said { kind: args.kind.clone(), base, context: args.context, recipe, selvedge: version() };
    let files = args.files.iter().map(|wanted| (None, wanted));
    let named = args.variants.iter().map(|(name, wanted)| (Some(name), wanted));
    let found = files.chain(named);
    let found = found.map(|(name, wanted)| parts::find(&args.models.locate(wanted)?.path, name, &said));
    let found: Vec<Found> = found.collect::<anyhow::Result<_>>()?;
    let mut names: Vec<&VariantName> = found.iter().map(|found| &found.variant.name).collect();
    names.sort();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let why = format!("two variants are called {}: name them with --variant NAME=FILE", twice[0]);
        return Err(Usage(why).into());
    }
    Ok(found)
}

/// The release without its variants.
fn order(args: &Args, found: &[Found]) -> anyhow::Result<Order> {
    let read =
        |path: &Path| std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse::<i64>().ok());
    let task = found.iter().map(|found| found.task).max(); // what writes can be asked for vectors, too
    Ok(Order {
        model: args.model.clone(),
        release: args.release,
        created: args.created.clone().or_else(|| Some(format_utc(epoch?.checked_mul(1_000)?))),
        licence: args.licence.clone().or_else(|| found.iter().find_map(|found| found.licence.clone())),
        licence_text: args.licence_file.as_deref().map(read).transpose()?,
        card: args.card.as_deref().map(read_text).transpose()?,
        purpose: args.purpose.clone(),
        source: args.source.clone(),
        task: task.unwrap_or_default().to_owned(),
        limitations: args.limitations.clone(),
        variants: Vec::new(),
    })
}

fn read_quality(path: &Path) -> anyhow::Result<BTreeMap<String, Quality>> {
    let text = read_text(path)?;
    serde_json::from_str(&text).with_context(|| format!("{} names no qualities of variants", path.display()))
}

fn read_golden(path: &Path) -> anyhow::Result<Golden> {
    let read = || format!("the golden set {} cannot be read", path.display());
    Golden::parse(&std::fs::read(path).with_context(read)?).with_context(read)
}

fn read_prompts(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = read_text(path)?;
    let prompts: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    anyhow::ensure!(!prompts.is_empty(), "{} has no prompt: one a line", path.display());
    Ok(prompts)
}

fn load(args: &Args, path: &Path, name: &VariantName) -> anyhow::Result<Engine> {
    let file = open_path(path)?;
    let model = Model::load(&file, args.threads.compute()?);
    let model = model.with_context(|| format!("{} cannot be loaded", path.display()))?;
    let pages = model.network.page_shape(CacheFormat::F16)?;
    let context = model.network.shape().context.max(2);
    Ok(Engine { name: name.to_string(), file, model: Arc::new(model), adapter: None, context, pages })
}

/// The perplexity as a quality, to four decimals: more of them no text is long enough for.
fn surprise(engine: &Engine, text: &str) -> anyhow::Result<Quality> {
    engine.must_write()?;
    let tokens = vec![engine.model.tokenizer.encode(text, Special::Plain)];
    let found = measure(engine, &tokens, Cut::Windows(WINDOW.min(engine.context)), "measuring")?;
    let value = (found.perplexity * 1e4).round() / 1e4;
    let on = Digest::of(text.as_bytes());
    Ok(Quality { metric: "perplexity".to_owned(), value, better: Better::Lower, on })
}

/// Where the package is made until it is whole: beside its place, so that it gets there in one instant.
fn working(output: &Path) -> anyhow::Result<PathBuf> {
    let name = output.file_name().context("the package needs a name: -o DIR or -o FILE.tar")?;
    let name = format!(".{}.{}.partial", name.to_string_lossy(), std::process::id());
    Ok(output.with_file_name(name))
}

fn make(
    args: &Args,
    order: &Order,
    seal: Option<&(SealKey, Vec<NodePublic>)>,
    total: u64,
    working: &Path,
) -> anyhow::Result<Made> {
    let layout = Layout::create(Disk, working)?;
    let bar = progress::bytes(Some(total)).with_message("packing");
    let chance = &mut System::new();
    let seal = seal.map(|(key, to)| Seal { key, to, chance });
    let packed = pack(&layout, order, seal, &mut |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let packed = packed?;
    let output = &args.output;
    if is_tar(output) {
        let beside = working.join("package.tar");
        let out = File::create(&beside).with_context(|| format!("{} cannot be written", beside.display()))?;
        archive::write(&layout, &BTreeMap::new(), io::BufWriter::new(&out))?;
        out.sync_all()?;
        std::fs::rename(&beside, output)
            .with_context(|| format!("{} cannot be written", output.display()))?;
        std::fs::remove_dir_all(working)?;
    } else {
        if output.is_dir() {
            // Only a package is replaced, never somebody's folder.
            Layout::open(Disk, output).with_context(|| format!("{} is not replaced", output.display()))?;
            let old = working.with_extension("old");
            std::fs::rename(output, &old)?;
            std::fs::rename(working, output)?;
            std::fs::remove_dir_all(old)?;
            return Ok(Made { release: packed.release, index: packed.index.digest });
        }
        std::fs::rename(working, output)
            .with_context(|| format!("{} cannot be written", output.display()))?;
    }
    Ok(Made { release: packed.release, index: packed.index.digest })
}

/// Whether a package is to be one file.
pub(super) fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"))
}

struct Made {
    release: Release,
    index: Digest,
}

fn tell(args: &Args, made: &Made) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let Made { release, index } = made;
    if args.json {
        let record = json!({
            "output": args.output, "model": release.model.as_str(), "release": release.release,
            "index": index.to_string(), "variants": inspect::variants(release),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    writeln!(out, "{}: {} release {}", args.output.display(), release.model, release.release)?;
    write!(out, "{}", inspect::table(release))?;
    if release.variants.iter().any(|variant| variant.sealed.is_some()) {
        let (nodes, later) = (args.seal_to.len(), if args.forget_seal_key { "no" } else { "further" });
        writeln!(out, "\nsealed: {nodes} node keys open it, and {later} others can be let in later")?;
    }
    let output = args.output.display();
    writeln!(out, "\nunsigned as yet: `selvedge trust add REPOSITORY {output} --key KEY.age` approves it")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        let (name, file) = parse_variant("q8_0=a=b.gguf").unwrap();
        assert_eq!((name.as_str(), file.as_str()), ("q8_0", "a=b.gguf"));
        assert!(parse_variant("a.gguf").is_err() && parse_variant("Q8=a.gguf").is_err());
        assert_eq!(parse_time("2026-11-21T20:00:00Z").as_deref(), Ok("2026-11-21T20:00:00Z"));
        assert!(parse_time("yesterday").is_err());
        assert!(parse_kind("net") == Ok(Kind::Net) && parse_kind("swarm").is_err());
        assert_eq!(working(Path::new("a/b.tar")).unwrap().parent(), Some(Path::new("a")));
        assert!(working(Path::new("/")).is_err());
        assert!(version() > Version(0, 0, 0));
    }
}
