//! Plans and experiments as they are named on the command line.

use std::path::Path;

use anyhow::Context as _;
use hub::experiment::plan::Plan;
use hub::experiment::text;
use hub::rollout::plan::PlanId;
use serde_json::Value;

use crate::hub_client::HubClient;
use crate::verb::named::{self, EXPERIMENT};

/// The path of an experiment in the API.
pub(super) fn path(id: PlanId) -> String {
    EXPERIMENT.path(id)
}

/// An experiment by its id or the first digits of it.
pub(super) fn id(hub: &HubClient, word: &str) -> anyhow::Result<PlanId> {
    EXPERIMENT.id(hub, word)
}

/// Looks at all experiments, the newest first.
pub(super) fn each(hub: &HubClient, look: impl FnMut(&Value)) -> anyhow::Result<()> {
    EXPERIMENT.each(hub, look)
}

/// A plan: a file, or the experiment of that id at the hub. What the hub says is believed only if its hash is the id.
pub(super) fn plan(hub: &HubClient, word: &str) -> anyhow::Result<Plan> {
    let path = Path::new(word);
    if path.is_file() {
        return read_plan(path);
    }
    let id = id(hub, word)?;
    let plan = text::read(EXPERIMENT.plan(hub, id)?.get().as_bytes())?;
    anyhow::ensure!(text::id(&plan) == id, "the plan that the hub shows is not that of experiment {id}");
    Ok(plan)
}

/// Reads a plan from a file.
pub(super) fn read_plan(path: &Path) -> anyhow::Result<Plan> {
    let read = text::read(&named::plan_file(path)?);
    read.with_context(|| format!("{} is no plan of an experiment", path.display()))
}

/// Words of a JSON list.
pub(super) fn words(value: &Value, name: &str) -> Vec<String> {
    named::words(value, name)
}
