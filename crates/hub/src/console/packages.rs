//! The approved releases: an artefact card of each, and which nodes could take it.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;

use crate::api::refusal::{Asked, Refusal};
use crate::api::releases::{
    self, CoverageAsked, CoverageNow, MissingItem, ReleaseDetail, ReleaseItem, VariantItem,
};
use crate::console::link::{both, fleet};
use crate::console::nodes::Wrong;
use crate::console::number::{bytes, short};
use crate::console::page::{Frame, PageRefusal, render};
use crate::state::HubState;

#[derive(Template)]
#[template(path = "packages.html")]
struct PackagesPage {
    frame: Frame,
    models: Vec<(String, Vec<ReleaseView>)>,
    targets_version: Option<u64>,
}

struct ReleaseView {
    item: ReleaseItem,
    runs: String,
}

#[derive(Template)]
#[template(path = "package.html")]
struct PackagePage {
    frame: Frame,
    release: ReleaseDetail,
    variants: Vec<VariantView>,
    expression: String,
    wrong: Option<Wrong>,
    coverage: Option<CoverageView>,
    runs: String,
}

struct VariantView {
    item: VariantItem,
    ram: String,
    disk: String,
    quality: Option<String>,
    measured: Vec<String>,
    golden: Option<String>,
    files: Vec<(String, String)>,
}

/// Nodes by what they would take, as bars.
struct CoverageView {
    nodes: u64,
    none: u64,
    bars: Vec<Bar>,
    lacks: Vec<LackView>,
}

struct Bar {
    words: String,
    nodes: u64,
    /// Of 1000.
    width: u64,
    class: &'static str,
}

struct LackView {
    item: MissingItem,
    href: Option<String>,
}

/// The list.
pub async fn list(State(state): State<Arc<HubState>>) -> Result<Response, PageRefusal> {
    let all = releases::read(&state).await?;
    let mut models: Vec<(String, Vec<ReleaseView>)> = Vec::new();
    for item in all.releases {
        let runs = fleet(&runs(&item));
        if models.last().is_none_or(|(model, _)| *model != item.model) {
            models.push((item.model.clone(), Vec::new()));
        }
        if let Some((_, releases)) = models.last_mut() {
            releases.push(ReleaseView { item, runs });
        }
    }
    let frame = Frame::of(&state, "Packages", "packages").await?;
    Ok(render(&PackagesPage { frame, models, targets_version: all.targets_version }))
}

/// One release.
pub async fn one(
    State(state): State<Arc<HubState>>,
    Path((model, release)): Path<(String, String)>,
    asked: Result<Asked<CoverageAsked>, Refusal>,
) -> Result<Response, PageRefusal> {
    let Asked(asked) = asked?;
    let (item, found) = releases::find(&state, &model, &release).await?;
    let detail = releases::detail(&state, item, &found).await?;
    let expression = asked.selector.unwrap_or_default().trim().to_owned();
    let (coverage, wrong) = match releases::covered(&state, found, Some(&expression)).await {
        Ok(coverage) => (Some(view(coverage, &expression)), None),
        Err(refusal) if refusal.status().is_client_error() => (None, Some(Wrong::of(&expression, &refusal))),
        Err(refusal) => return Err(refusal.into()),
    };
    let title = format!("{} {}", detail.item.model, detail.item.release);
    Ok(render(&PackagePage {
        frame: Frame::of(&state, &title, "packages").await?,
        variants: detail.variants.iter().map(variant).collect(),
        runs: fleet(&runs(&detail.item)),
        release: detail,
        expression,
        wrong,
        coverage,
    }))
}

/// The nodes that run a release, as an expression.
fn runs(item: &ReleaseItem) -> String {
    format!("model.{} == {}", item.model, item.release)
}

fn variant(item: &VariantItem) -> VariantView {
    let quality = item.quality.as_ref().map(|quality| {
        let better = if quality.lower_is_better { "lower is better" } else { "higher is better" };
        format!("{} {} ({better})", quality.metric, short(quality.value))
    });
    let measured = item.measured.iter().map(|one| {
        let p95 = one.p95_ms.map(|ms| format!("p95 {} ms", short(ms)));
        let joules = one.joules.map(|joules| format!("{} J", short(joules)));
        let figures: Vec<String> = p95.into_iter().chain(joules).collect();
        format!("{} on {}", figures.join(", "), one.cpu)
    });
    let golden = item.golden.as_ref().map(|golden| {
        let cases =
            if golden.cases == 1 { "1 question".to_owned() } else { format!("{} questions", golden.cases) };
        let load = golden.load_ms.map(|ms| format!("loads within {} ms", short(ms)));
        let p95 = golden.p95_ms.map(|ms| format!("p95 within {} ms", short(ms)));
        let rss = golden.rss_bytes.map(|rss| format!("at most {}", bytes(rss)));
        let told: Vec<String> = [Some(cases), load, p95, rss].into_iter().flatten().collect();
        told.join(", ")
    });
    let files = item.files.iter().map(|file| {
        let name = file.path.as_deref().or(file.role.as_deref()).unwrap_or(&file.digest);
        (name.to_owned(), bytes(file.size))
    });
    VariantView {
        golden,
        files: files.collect(),
        ram: bytes(item.ram_bytes),
        disk: bytes(item.disk_bytes),
        quality,
        measured: measured.collect(),
        item: item.clone(),
    }
}

fn view(coverage: CoverageNow, expression: &str) -> CoverageView {
    let most = coverage.nodes.max(1);
    let bar = |words: &str, nodes: u64, class| Bar {
        words: words.to_owned(),
        nodes,
        width: nodes.saturating_mul(1000).div_ceil(most),
        class,
    };
    let variants = coverage.variants.iter().map(|one| bar(&one.variant, one.nodes, "fits"));
    let none = (coverage.none > 0).then(|| bar("none fits", coverage.none, "none"));
    let lack = |item: MissingItem| LackView {
        href: item.find.as_deref().map(|find| fleet(&both(expression, find))),
        item,
    };
    CoverageView {
        nodes: coverage.nodes,
        none: coverage.none,
        bars: variants.chain(none).collect(),
        lacks: coverage.lacks.into_iter().map(lack).collect(),
    }
}
