//! Plans and experiments as they are named on the command line.

use std::path::Path;

use anyhow::Context as _;
use hub::experiment::plan::Plan;
use hub::experiment::text;
use hub::rollout::plan::PlanId;
use hub::rollout::text::BYTES_MAX;
use package::disk::read_whole;
use package::disk::system::System as Disk;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::complaint::Usage;
use crate::hub_client::HubClient;

/// The fewest digits that name an experiment.
const DIGITS_MIN: usize = 4;
/// How many pages of experiments are looked through.
const PAGES_MAX: usize = 50;

/// The path of an experiment in the API.
pub(super) fn path(id: PlanId) -> String {
    format!("/api/v1/experiments/{id}")
}

/// An experiment by its id or the first digits of it.
pub(super) fn id(hub: &HubClient, word: &str) -> anyhow::Result<PlanId> {
    if let Some(id) = PlanId::parse(word) {
        return Ok(id);
    }
    if word.len() < DIGITS_MIN || !word.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)) {
        let why = format!(
            "{word:?} names no experiment: at least {DIGITS_MIN} digits of what `experiment ls` lists"
        );
        return Err(Usage(why).into());
    }
    let mut found = Vec::new();
    each(hub, |experiment| {
        let id = experiment.get("id").and_then(Value::as_str).and_then(PlanId::parse);
        found.extend(id.filter(|id| id.to_string().starts_with(word)));
    })?;
    match found.as_slice() {
        [id] => Ok(*id),
        [] => anyhow::bail!("there is no experiment {word}: `selvedge experiment ls` lists them"),
        several => anyhow::bail!("{} experiments begin with {word}: name more digits", several.len()),
    }
}

/// Looks at all experiments, the newest first.
pub(super) fn each(hub: &HubClient, mut look: impl FnMut(&Value)) -> anyhow::Result<()> {
    let mut after = String::new();
    for _ in 0..PAGES_MAX {
        let page = hub.get(&format!("/api/v1/experiments?limit=200{after}"))?;
        let all = page.get("experiments").and_then(Value::as_array).context("the hub lists none")?;
        all.iter().for_each(&mut look);
        match page.get("next_after").and_then(Value::as_str) {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    Ok(())
}

/// A plan: a file, or the experiment of that id at the hub. What the hub says is believed only if its hash is the id.
pub(super) fn plan(hub: &HubClient, word: &str) -> anyhow::Result<Plan> {
    let path = Path::new(word);
    if path.is_file() {
        return read_plan(path);
    }
    let id = id(hub, word)?;
    #[derive(Deserialize)]
    struct View {
        plan: Box<RawValue>,
    }
    let View { plan } =
        serde_json::from_value(hub.get(&self::path(id))?).context("the hub does not show the plan")?;
    let plan = text::read(plan.get().as_bytes())?;
    anyhow::ensure!(text::id(&plan) == id, "the plan that the hub shows is not that of experiment {id}");
    Ok(plan)
}

/// Reads a plan from a file.
pub(super) fn read_plan(path: &Path) -> anyhow::Result<Plan> {
    let bytes = read_whole(&Disk, path, BYTES_MAX as u64)?;
    let bytes = bytes.with_context(|| format!("there is no plan {}", path.display()))?;
    text::read(&bytes).with_context(|| format!("{} is no plan of an experiment", path.display()))
}

/// Words of a JSON list.
pub(super) fn words(value: &Value, name: &str) -> Vec<String> {
    let list = value.get(name).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}
