//! `selvedge inspect`: what a package is, what it asks for, and who says so.

use std::io::{self, Write as _};
use std::path::PathBuf;

use forge::parcel::{Entry, Parcel};
use forge::sign::bundles;
use package::config::ModelConfig;
use package::contract::Contract;
use package::golden::Golden;
use package::index::{Release, Variant};
use package::manifest::Manifest;
use package::media::{self, Role};
use package::requirement::Kind;
use serde_json::{Value, json};

use crate::amount::{show_bytes, show_number};
use crate::progress;
use crate::recording::show_count;
use crate::registries::{Found, Registries, find, is_place};
use crate::table::{Side, Table};

/// Show what a package is: its variants, what each asks for, its files, and who made it.
///
/// Everything here is what the package says of itself; nothing is checked but that documents are those that are named.
/// `selvedge verify` checks. Of a package in a registry only the documents come, none of its layers.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A package: a folder, a .tar, or one in a registry, `hub:NAME[:TAG]` or `oci://HOST/NAME[:TAG]`.
    package: PathBuf,

    /// The release to show, such as smollm2:7; without it all.
    #[arg(long, value_name = "NAME:NUMBER")]
    release: Option<String>,

    #[command(flatten)]
    registries: Registries,

    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let parcel = open(args)?;
    let entries = match &args.release {
        Some(wanted) => vec![parcel.entry(Some(wanted))?],
        None => parcel.entries()?,
    };
    if entries.is_empty() {
        parcel.entry(None)?; // says what is missing
    }
    let mut out = io::stdout().lock();
    if args.json {
        let releases = entries.iter().map(|entry| record(&parcel, entry)).collect::<Result<Vec<_>, _>>()?;
        let record = json!({ "package": args.package, "releases": releases });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    for (at, entry) in entries.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        show(&mut out, &parcel, entry)?;
    }
    let metadata = parcel.metadata()?;
    if !metadata.is_empty() {
        writeln!(out, "\n{} files of trust metadata travel with it", metadata.len())?;
    }
    writeln!(
        out,
        "\nThis is what the package says of itself. `selvedge verify` checks that it is whole, who made it and who approved it."
    )?;
    Ok(())
}

fn open(args: &Args) -> anyhow::Result<Parcel> {
    let Some(words) = args.package.to_str().filter(|words| is_place(words)) else {
        return Ok(Parcel::open(&args.package)?);
    };
    let place = args.registries.place(words)?;
    let access = args.registries.access(&place.base)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bar = progress::waiting(format!("looking at {words}"));
    let found = runtime.block_on(find(&place, &access));
    bar.finish_and_clear();
    let Found { entry, documents, .. } = found?;
    Ok(Parcel::of_documents(words, vec![entry], documents))
}

fn show(out: &mut impl io::Write, parcel: &Parcel, entry: &Entry) -> anyhow::Result<()> {
    let Entry { release, index, .. } = entry;
    writeln!(out, "{} release {}", release.model, release.release)?;
    let said = [
        ("licence", release.annotations.get(media::OCI_LICENSES)),
        ("made", release.annotations.get(media::OCI_CREATED)),
    ];
    for (what, value) in said {
        if let Some(value) = value {
            writeln!(out, "  {what:8} {value}")?;
        }
    }
    writeln!(out, "  {:8} {}\n", "index", index.digest)?;
    write!(out, "{}", table(release))?;
    for variant in &release.variants {
        let manifest = parcel.manifest(&variant.manifest.digest)?;
        writeln!(out, "\n{}: {}", variant.name, about(parcel, variant, &manifest))?;
        if let Some(contract) = contract(parcel, &manifest) {
            writeln!(out, "  {contract}")?;
        }
        if let Some(base) = variant.base {
            writeln!(out, "  corrects {base}")?;
        }
        let mut files = Table::plain([Side::Left, Side::Right, Side::Left, Side::Left]).indented(2);
        for layer in &manifest.layers {
            let role = layer.role().map_or("", Role::word);
            let digest: String = layer.digest.hex().chars().take(12).collect();
            files.row([layer.filepath().unwrap_or("–"), &show_bytes(layer.size), role, &digest]);
        }
        write!(out, "{files}")?;
        let more = facts(parcel, entry, variant, &manifest)?;
        if !more.is_empty() {
            writeln!(out, "  {}", more.join(" · "))?;
        }
    }
    Ok(())
}

/// What goes in and comes out, of what is no language model.
fn contract(parcel: &Parcel, manifest: &Manifest) -> Option<Contract> {
    let layer = manifest.layer(Role::Input)?;
    parcel.document(&layer.digest).ok().and_then(|bytes| Contract::parse(&bytes).ok())
}

/// `llama, 135m, Q4_K_M`; what is no language model says its kind first.
fn about(parcel: &Parcel, variant: &Variant, manifest: &Manifest) -> String {
    let config = parcel.document(&manifest.config.digest).ok();
    let Some(config) = config.and_then(|bytes| ModelConfig::parse(&bytes).ok()) else {
        return "no config that can be read".to_owned();
    };
    let kind = Some(variant.kind.to_string()).filter(|_| variant.kind != Kind::Lm);
    let words = [kind, config.descriptor.family, config.config.param_size, config.config.quantization];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Of so many machines it is told how fast a variant is there.
const LATENCIES_TOLD: usize = 4;

/// What is in the documents of a variant.
fn facts(
    parcel: &Parcel,
    entry: &Entry,
    variant: &Variant,
    manifest: &Manifest,
) -> anyhow::Result<Vec<String>> {
    let mut facts = Vec::new();
    if let Some(granted) = granted(parcel, manifest)? {
        facts.push(match granted {
            0 => "sealed, and no grant travels with it".to_owned(),
            1 => "sealed to 1 node key".to_owned(),
            several => format!("sealed to {several} node keys"),
        });
    }
    if let Some(layer) = manifest.layer(Role::Golden) {
        let golden = parcel.document(&layer.digest).ok().and_then(|bytes| Golden::parse(&bytes).ok());
        facts.push(golden.map_or_else(
            || "golden answers".to_owned(),
            |golden| format!("{} golden answers", golden.cases.len()),
        ));
    }
    if let Some(quality) = &variant.quality {
        let on: String = quality.on.hex().chars().take(12).collect();
        facts.push(format!("{} measured on {on}", quality.metric));
    }
    for measured in variant.latency.iter().take(LATENCIES_TOLD) {
        if let Some(ms) = measured.token_p95_ms {
            facts.push(format!("95 of 100 tokens within {} ms on {}", show_number(ms), measured.cpu));
        }
    }
    facts.push(match bundles(parcel, entry, variant)?.len() {
        0 => "nobody says who made it".to_owned(),
        1 => "signed by who made it".to_owned(),
        several => format!("{several} signatures of who made it"),
    });
    Ok(facts)
}

/// How many grants travel with sealed weights; `None` of plain ones.
fn granted(parcel: &Parcel, manifest: &Manifest) -> anyhow::Result<Option<usize>> {
    let weights = manifest.layer(Role::Weights).filter(|layer| layer.media_type == media::SEALED);
    let grants = weights.map(|weights| parcel.grants(&weights.digest)).transpose()?;
    Ok(grants.map(|grants| grants.len()))
}

/// The variants of a release, best first.
pub(super) fn table(release: &Release) -> Table {
    let mut table = Table::new([
        ("variant", Side::Left),
        ("quality", Side::Left),
        ("memory", Side::Right),
        ("context", Side::Right),
        ("disk", Side::Right),
        ("runs on", Side::Left),
    ])
    .indented(2);
    for variant in &release.variants {
        let requires = &variant.requires;
        let quality = variant.quality.as_ref();
        let mut runs: Vec<String> = requires.isa.iter().map(ToString::to_string).collect();
        runs.extend(requires.accelerator.clone());
        table.row([
            variant.name.to_string(),
            quality.map_or_else(
                || "not measured".to_owned(),
                |quality| format!("{} {}", quality.metric, show_number(quality.value)),
            ),
            show_bytes(requires.ram_bytes),
            requires.context.map_or_else(|| "–".to_owned(), show_count),
            show_bytes(requires.disk_bytes),
            if runs.is_empty() { "any processor".to_owned() } else { runs.join(" or ") },
        ]);
    }
    table
}

/// The variants of a release for programs.
pub(super) fn variants(release: &Release) -> Vec<Value> {
    let one = |variant: &Variant| {
        let requires = &variant.requires;
        json!({
            "name": variant.name.as_str(),
            "manifest": variant.manifest.digest.to_string(),
            "kind": variant.kind.to_string(),
            "runtime": variant.runtime.to_string(),
            "requires": {
                "ram_bytes": requires.ram_bytes,
                "disk_bytes": requires.disk_bytes,
                "isa": requires.isa.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "accelerator": requires.accelerator,
                "selvedge": requires.selvedge.to_string(),
                "context": requires.context,
            },
            "quality": variant.quality,
            "latency": variant.latency,
            "energy": variant.energy,
            "base": variant.base.map(|base| base.to_string()),
            "sealed": variant.sealed,
        })
    };
    release.variants.iter().map(one).collect()
}

fn record(parcel: &Parcel, entry: &Entry) -> anyhow::Result<Value> {
    let Entry { release, index, .. } = entry;
    let mut variants = variants(release);
    for (record, variant) in variants.iter_mut().zip(&release.variants) {
        let manifest = parcel.manifest(&variant.manifest.digest)?;
        let files = manifest.layers.iter().map(|layer| {
            json!({
                "path": layer.filepath(), "role": layer.role().map(Role::word), "size": layer.size,
                "digest": layer.digest.to_string(), "media_type": layer.media_type,
            })
        });
        record["files"] = files.collect();
        let config = parcel.document(&manifest.config.digest)?;
        record["config"] = serde_json::from_slice(&config)?;
        record["contract"] = contract(parcel, &manifest).map_or(Value::Null, |it| json!(it));
        record["grants"] = granted(parcel, &manifest)?.into();
        record["signatures"] = bundles(parcel, entry, variant)?.len().into();
    }
    Ok(json!({
        "model": release.model.as_str(),
        "release": release.release,
        "index": index.digest.to_string(),
        "annotations": release.annotations,
        "variants": variants,
    }))
}
