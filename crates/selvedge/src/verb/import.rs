//! `selvedge import`: a model of this machine comes onto the shelf: a GGUF file, or a Hugging Face folder made into one.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forge::import as folder;
use indicatif::ProgressBar;
use kernels::format::Format;
use lm::gguf::write::partial;
use node::shelf::facts::{Facts, Origin, Weights};
use node::shelf::import::Import;
use node::shelf::name::ModelName;
use node::shelf::place::COPY_FILE;
use node::shelf::{Entry, Shelf};
use sha2::{Digest as _, Sha256};
use wire::hash::Hash;
use wire::world::{Clock as _, System};

use crate::amount::show_bytes;
use crate::complaint::Usage;
use crate::interrupt::Interrupt;
use crate::models::Models;
use crate::progress;

/// Take a model that is on this disk: a GGUF file, or a Hugging Face folder, which becomes one.
///
/// Of a folder (config.json, safetensors, tokenizer) the families that can run here are known: llama, mistral, qwen2,
/// qwen3, gemma2, gemma3, phi2, phi3 and BERT encoders.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file or folder.
    path: PathBuf,

    /// What the model is called here; without it after its file.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Keep the path instead of a copy: the file must stay where it is.
    #[arg(long)]
    link: bool,

    /// Take the place of another model of the same name.
    #[arg(long)]
    replace: bool,

    /// Of a folder: how the weights are written, f16, bf16, f32 or q8_0; without it as most of them are.
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    format: Option<Format>,

    /// Of a folder: write the model to this file instead of the shelf.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    models: Models,

    /// Print what was made as JSON.
    #[arg(long)]
    json: bool,
}

fn parse_type(word: &str) -> Result<Format, String> {
    let known = Format::from_name(word);
    let can = |format: &Format| matches!(format, Format::F32 | Format::F16 | Format::BF16 | Format::Q8_0);
    known
        .filter(can)
        .ok_or_else(|| "it is f16, bf16, f32 or q8_0; `selvedge quantize` makes others of those".to_owned())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let name = args.name.as_deref().map(ModelName::new).transpose();
    let name = name.map_err(|error| Usage(format!("--name: {error}")))?;
    match args.path.is_dir() {
        true => import_folder(args, name),
        false => import_file(args, name),
    }
}

fn import_file(args: &Args, name: Option<ModelName>) -> anyhow::Result<()> {
    if args.format.is_some() || args.output.is_some() {
        let why = "--type and --output are for folders; `selvedge quantize` makes another type of a file";
        return Err(Usage(why.to_owned()).into());
    }
    let shelf = args.models.shelf()?;
    let total = std::fs::metadata(&args.path).map(|file| file.len()).ok();
    let bar = if args.link { ProgressBar::hidden() } else { progress::bytes(total).with_message("copying") };
    let import = Import { file: args.path.clone(), name, link: args.link, replace: args.replace };
    let entry = shelf.import(&import, System::new().wall_ms(), |done| {
        bar.set_position(done);
        true
    });
    bar.finish_and_clear();
    let entry = entry?;
    tell(args, &entry, &[], if args.link { "linked" } else { "imported" })
}

fn import_folder(args: &Args, name: Option<ModelName>) -> anyhow::Result<()> {
    if args.link {
        let why = "--link is for GGUF files: what a folder becomes is a new file";
        return Err(Usage(why.to_owned()).into());
    }
    let shown = args.path.display();
    let options = folder::Options { format: args.format, name: None };
    let opened = folder::Import::open(&args.path, &options);
    let opened = opened.with_context(|| format!("{shown} cannot be imported"))?;
    if let Some(output) = &args.output {
        if output.exists() && !args.replace {
            anyhow::bail!("{} is there already; --replace replaces it", output.display());
        }
        let made = write(opened, output)?;
        let mut out = io::stdout().lock();
        if args.json {
            let record = serde_json::json!({
                "file": output, "family": made.family, "type": made.format.name(), "tensors": made.tensors,
                "parameters": made.parameters, "size_bytes": made.file_bytes, "notes": made.notes,
            });
            writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
            return Ok(());
        }
        writeln!(
            out,
            "wrote {}: {}, {}, {}",
            output.display(),
            made.family,
            made.format.name(),
            show_bytes(made.file_bytes)
        )?;
        return Ok(made.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))?);
    }
    let whole = std::fs::canonicalize(&args.path).with_context(|| format!("{shown} cannot be used"))?;
    let name = name.unwrap_or_else(|| {
        let folder = whole.file_name().unwrap_or_default().to_string_lossy();
        ModelName::of_file(&folder)
    });
    let shelf = args.models.shelf()?;
    let (entry, notes) = put(&shelf, name, opened, &whole, args.replace)?;
    tell(args, &entry, &notes, "imported")
}

/// Writes the model where it will stay, so that it is on the disk once.
fn put(
    shelf: &Shelf,
    name: ModelName,
    opened: folder::Import,
    from: &Path,
    replace: bool,
) -> anyhow::Result<(Entry, Vec<String>)> {
    let slot = shelf.take(&name)?;
    if !replace && slot.facts()?.is_some() {
        anyhow::bail!(
            "there is already a model {name}; choose another name with --name, or replace it with --replace"
        );
    }
    slot.make_folder()?;
    shelf.room().need(slot.folder(), opened.file_bytes())?;
    let path = slot.folder().join(COPY_FILE);
    let made = write(opened, &path)?;
    let (sha256, size_bytes) = hash(&path)?;
    let mut facts = Facts {
        name: name.clone(),
        weights: Weights::Own { file: String::new() },
        size_bytes,
        sha256: None,
        added_ms: System::new().wall_ms(),
        origin: Origin { file: from.to_str().map(str::to_owned), ..Origin::default() },
    };
    slot.put(&path, &mut facts, sha256)?;
    let entry = shelf.get(&name)?.with_context(|| format!("{name} was removed at once by somebody else"))?;
    Ok((entry, made.notes))
}

fn write(opened: folder::Import, to: &Path) -> anyhow::Result<folder::Imported> {
    if let Some(partial) = partial(to) {
        Interrupt::listen()?.remove(partial)?;
    }
    let bar = progress::bytes(Some(opened.file_bytes())).with_message("writing");
    let made = opened.write(to, &mut |at| {
        bar.set_length(at.total_bytes);
        bar.set_position(at.done_bytes);
    });
    bar.finish_and_clear();
    made.context("the folder cannot be imported")
}

/// The hash and the size of a file that was just written.
fn hash(path: &Path) -> anyhow::Result<(Hash, u64)> {
    let broken = || format!("{} cannot be read", path.display());
    let mut file = File::open(path).with_context(broken)?;
    file.sync_all().with_context(broken)?;
    let (mut hasher, mut buffer, mut size) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        let count = file.read(&mut buffer).with_context(broken)?;
        if count == 0 {
            return Ok((Hash::from(hasher), size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

fn tell(args: &Args, entry: &Entry, notes: &[String], done: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let facts = &entry.facts;
    if args.json {
        let record = serde_json::json!({
            "name": facts.name.to_string(), "file": entry.path, "size_bytes": facts.size_bytes,
            "sha256": facts.sha256.as_ref().map(ToString::to_string), "linked": args.link, "notes": notes,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    writeln!(out, "{done} {} ({})", facts.name, show_bytes(facts.size_bytes))?;
    notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))?;
    writeln!(out, "ask it with `selvedge run {}`", facts.name)?;
    Ok(())
}
