//! The releases that the published targets approve: what they are made of, and which nodes could take them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use package::digest::Digest;
use package::form::DOCUMENT_MAX_BYTES;
use package::index::{Release, Variant};
use package::media;
use package::trust::Policy;
use package::trust::search::{Listed, listed};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire::hash::Hash;

use crate::api::card::{self, BomItem, FileItem, GoldenItem};
use crate::api::nodes;
use crate::api::refusal::{Asked, ErrorBody, Refusal};
use crate::depot::Key;
use crate::fleet::coverage::{self, cover};
use crate::state::HubState;
use crate::tuf::publish;

/// All approved releases.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReleaseList {
    /// The releases, by model, the newest first.
    pub releases: Vec<ReleaseItem>,
    /// The version of the targets that approve them; absent before any were published.
    pub targets_version: Option<u64>,
}

/// A release in short.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReleaseItem {
    /// The model.
    pub model: String,
    /// Its release.
    pub release: u64,
    /// The SHA-256 of its index.
    pub index: String,
    /// Bytes of the index.
    pub size: u64,
    /// Whether the index lies here.
    pub here: bool,
    /// How many nodes run it.
    pub nodes: u64,
    /// The role whose targets approve it: `targets`, or one to which those delegate.
    pub role: String,
    /// The keys that this role has.
    #[serde(skip)]
    pub signers: Vec<String>,
}

/// A release in full.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReleaseDetail {
    /// In short.
    #[serde(flatten)]
    pub item: ReleaseItem,
    /// What a device may choose from.
    pub variants: Vec<VariantItem>,
    /// Its licence, as SPDX writes it.
    pub licence: Option<String>,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
    /// How many manifests say who made it.
    pub provenance: usize,
    /// The keys whose role approves it, as TUF's targets name them.
    pub signed_by: Vec<String>,
    /// What else the publisher says.
    #[schema(value_type = Object)]
    pub annotations: package::form::Annotations,
}

/// One form of a release.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct VariantItem {
    /// Its name.
    pub variant: String,
    /// The SHA-256 of its manifest.
    pub manifest: String,
    /// What kind of thing it is.
    pub kind: String,
    /// What runs it.
    pub runtime: String,
    /// Memory that it asks for, in bytes.
    pub ram_bytes: u64,
    /// Disk that it asks for, in bytes.
    pub disk_bytes: u64,
    /// Alternatives of instruction sets; empty: any.
    pub isa: Vec<String>,
    /// The accelerator that it asks for.
    pub accelerator: Option<String>,
    /// The least version of ours.
    pub selvedge: String,
    /// Tokens of context that the memory is reckoned with.
    pub context: Option<u64>,
    /// How good its answers are.
    pub quality: Option<QualityItem>,
    /// What was measured of it on machines.
    pub measured: Vec<MeasuredItem>,
    /// Whether only some nodes can open it.
    pub sealed: bool,
    /// Its files; none while its manifest is not here.
    pub files: Vec<FileItem>,
    /// The questions that a device tries before it trusts it, if it has any and they are here.
    pub golden: Option<GoldenItem>,
    /// What its bill of materials says, if it has one and it is here.
    pub bom: Option<BomItem>,
}

/// How good answers are.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct QualityItem {
    /// What was measured: `perplexity`.
    pub metric: String,
    /// The figure.
    pub value: f64,
    /// Whether a lower one is better.
    pub lower_is_better: bool,
}

/// A measurement on a machine.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MeasuredItem {
    /// The machine.
    pub machine: String,
    /// Its processor.
    pub cpu: String,
    /// 95 of 100 tokens or windows took at most this.
    pub p95_ms: Option<f64>,
    /// Joules of a token or a window.
    pub joules: Option<f64>,
}

/// Which nodes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CoverageAsked {
    /// Only nodes that this expression means.
    #[serde(rename = "where")]
    pub selector: Option<String>,
}

/// Which variant each node would take, by what it says of itself.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CoverageNow {
    /// How many nodes were asked.
    pub nodes: u64,
    /// How many take each variant.
    pub variants: Vec<VariantCount>,
    /// How many take none.
    pub none: u64,
    /// Why they take none.
    pub lacks: Vec<MissingItem>,
}

/// The nodes that take a variant.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct VariantCount {
    /// The variant.
    pub variant: String,
    /// How many nodes.
    pub nodes: u64,
}

/// Nodes that take no variant for the same reason.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MissingItem {
    /// The variant that they lack least of.
    pub variant: String,
    /// What they lack.
    pub reason: String,
    /// An expression that means nodes which lack it.
    pub find: Option<String>,
    /// How many nodes.
    pub nodes: u64,
}

/// All releases that the published targets approve, those of delegated roles too.
#[utoipa::path(get, path = "/api/v1/releases", tag = "packages", responses((status = 200, body = ReleaseList)))]
pub async fn list(State(state): State<Arc<HubState>>) -> Result<Json<ReleaseList>, Refusal> {
    read(&state).await.map(Json)
}

/// What [`list`] answers.
pub async fn read(state: &HubState) -> Result<ReleaseList, Refusal> {
    let Some(trusted) = publish::published(state).await? else {
        return Ok(ReleaseList { releases: Vec::new(), targets_version: None });
    };
    let targets_version = trusted.targets.as_ref().map(|targets| targets.body.head.version);
    let (kinds, now_ms) = (state.config.tuf.kinds(), state.now_ms());
    let nodes = state.fleet.look(&state.readers).await?;
    // Signatures of delegated roles: a millisecond for each, not in the thread that answers others.
    let root = trusted.root.clone();
    let approved = tokio::task::spawn_blocking(move || {
        let is_release = |path: &str| release_of(path).is_some();
        listed(&trusted, &kinds, now_ms, Policy::default().max_stale_ms, is_release)
    });
    let approved =
        approved.await.map_err(|_| Refusal::later("stopping", "the hub is stopping".to_owned(), 5))?;
    let mut releases = Vec::new();
    for Listed { path, file, role, holders } in approved {
        let Some((model, release)) = release_of(&path) else { continue };
        let Some(index) = file.hashes.sha256.and_then(|hash| Hash::from_slice(&hash)) else { continue };
        let here = state.depot.size(&Key::blob(&digest(&index.to_string())?)).await?.is_some();
        let runs = nodes.iter().filter(|node| node.releases().get(model) == Some(&release)).count() as u64;
        let holders = holders.as_ref().unwrap_or(&root.body.targets);
        releases.push(ReleaseItem {
            model: model.to_owned(),
            release,
            index: index.to_string(),
            size: file.length,
            here,
            nodes: runs,
            role: role.as_str().to_owned(),
            signers: holders.ids.iter().map(ToString::to_string).collect(),
        });
    }
    releases.sort_by(|a, b| a.model.cmp(&b.model).then(b.release.cmp(&a.release)));
    Ok(ReleaseList { releases, targets_version })
}

/// One release.
#[utoipa::path(
    get, path = "/api/v1/releases/{model}/{release}", tag = "packages",
    params(("model" = String, Path, description = "The model"), ("release" = u64, Path, description = "Its release")),
    responses((status = 200, body = ReleaseDetail), (status = 404, body = ErrorBody))
)]
pub async fn one(
    State(state): State<Arc<HubState>>,
    Path((model, release)): Path<(String, String)>,
) -> Result<Json<ReleaseDetail>, Refusal> {
    let (item, found) = find(&state, &model, &release).await?;
    detail(&state, item, &found).await.map(Json)
}

/// A release by model and number: its item, and what its index says.
pub async fn find(state: &HubState, model: &str, release: &str) -> Result<(ReleaseItem, Release), Refusal> {
    let nothing =
        |why: &str| Refusal::not_found(why.to_owned(), "the approved releases are listed at /packages");
    let number: u64 = release.parse().map_err(|_| nothing("a release is a number"))?;
    let all = read(state).await?.releases;
    let item = all.into_iter().find(|item| item.model == model && item.release == number);
    let item = item.ok_or_else(|| nothing("no published targets approve such a release"))?;
    let bytes = state.depot.read(&Key::blob(&digest(&item.index)?), DOCUMENT_MAX_BYTES as u64).await?;
    let bytes =
        bytes.ok_or_else(|| nothing("the release is approved, but its index is not here: push it"))?;
    let found =
        Release::read(&bytes).map_err(|_| nothing("its index is not a release that this hub can read"))?;
    Ok((item, found))
}

/// What [`one`] answers.
pub async fn detail(state: &HubState, item: ReleaseItem, found: &Release) -> Result<ReleaseDetail, Refusal> {
    let mut variants = Vec::new();
    for it in &found.variants {
        let found = card::read(state, &it.manifest.digest).await?;
        variants.push(VariantItem {
            files: found.files,
            golden: found.golden,
            bom: found.bom,
            ..variant(it)
        });
    }
    let said = |key: &str| found.annotations.get(key).cloned();
    Ok(ReleaseDetail {
        signed_by: item.signers.clone(),
        item,
        variants,
        licence: said(media::OCI_LICENSES).or_else(|| {
            found
                .variants
                .iter()
                .find_map(|it| it.manifest.annotation(media::OCI_LICENSES))
                .map(str::to_owned)
        }),
        created: said(media::OCI_CREATED),
        provenance: found.provenance.len(),
        annotations: found.annotations.clone(),
    })
}

/// Which nodes would take which variant of a release.
#[utoipa::path(
    get, path = "/api/v1/releases/{model}/{release}/coverage", tag = "packages",
    params(
        ("model" = String, Path, description = "The model"), ("release" = u64, Path, description = "Its release"),
        CoverageAsked,
    ),
    responses(
        (status = 200, body = CoverageNow), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
    )
)]
pub async fn coverage(
    State(state): State<Arc<HubState>>,
    Path((model, release)): Path<(String, String)>,
    Asked(asked): Asked<CoverageAsked>,
) -> Result<Json<CoverageNow>, Refusal> {
    let (_, found) = find(&state, &model, &release).await?;
    covered(&state, found, asked.selector.as_deref()).await.map(Json)
}

/// What [`coverage()`] answers.
pub async fn covered(
    state: &HubState,
    release: Release,
    selector: Option<&str>,
) -> Result<CoverageNow, Refusal> {
    let nodes = nodes::search(state, selector).await?;
    // Some 5 µs a node and variant: not in the thread that answers others.
    let found =
        tokio::task::spawn_blocking(move || cover(&release, nodes.iter().map(|node| &*node.facts))).await;
    let found = found.map_err(|error| {
        tracing::error!(%error, "the coverage of a release could not be reckoned");
        Refusal::later("busy", "it could not be reckoned; the hub's log says why".to_owned(), 5)
    })?;
    let (none, nodes) = (found.none(), found.nodes);
    let count = |(variant, nodes)| VariantCount { variant, nodes };
    let missing = |it: coverage::Missing| MissingItem {
        variant: it.variant,
        reason: it.reason,
        find: it.find,
        nodes: it.nodes,
    };
    Ok(CoverageNow {
        nodes,
        none,
        variants: found.variants.into_iter().map(count).collect(),
        lacks: found.lacks.into_iter().map(missing).collect(),
    })
}

/// `models/<model>/<release>`.
fn release_of(path: &str) -> Option<(&str, u64)> {
    let (model, release) = path.strip_prefix("models/")?.rsplit_once('/')?;
    Some((model, release.parse().ok()?))
}

fn digest(hex: &str) -> Result<Digest, Refusal> {
    Digest::parse(&format!("sha256:{hex}"))
        .map_err(|error| Refusal::not_found(error.to_string(), "digests are 64 hexadecimal digits"))
}

fn variant(it: &Variant) -> VariantItem {
    let requires = &it.requires;
    let machines = it.latency.iter().chain(&it.energy);
    VariantItem {
        variant: it.name.to_string(),
        manifest: it.manifest.digest.hex(),
        kind: it.kind.to_string(),
        runtime: it.runtime.to_string(),
        ram_bytes: requires.ram_bytes,
        disk_bytes: requires.disk_bytes,
        isa: requires.isa.iter().map(ToString::to_string).collect(),
        accelerator: requires.accelerator.clone(),
        selvedge: requires.selvedge.to_string(),
        context: requires.context,
        quality: it.quality.as_ref().map(|quality| QualityItem {
            metric: quality.metric.clone(),
            value: quality.value,
            lower_is_better: quality.better == package::requirement::Better::Lower,
        }),
        measured: machines
            .map(|one| MeasuredItem {
                machine: one.machine.hex(),
                cpu: one.cpu.clone(),
                p95_ms: one.token_p95_ms,
                joules: one.joules,
            })
            .collect(),
        sealed: it.sealed.is_some(),
        files: Vec::new(),
        golden: None,
        bom: None,
    }
}
