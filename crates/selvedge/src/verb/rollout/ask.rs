//! Plans and rollouts as they are named on the command line.

use std::path::Path;

use anyhow::Context as _;
use hub::rollout::plan::{Plan, PlanId};
use hub::rollout::text;
use serde_json::Value;

use crate::hub_client::HubClient;
use crate::verb::named::{self, ROLLOUT};

/// The path of a rollout in the API.
pub(in crate::verb) fn path(id: PlanId) -> String {
    ROLLOUT.path(id)
}

/// A rollout by its id or the first digits of it.
pub(in crate::verb) fn id(hub: &HubClient, word: &str) -> anyhow::Result<PlanId> {
    ROLLOUT.id(hub, word)
}

/// Looks at all rollouts, the newest first.
pub(super) fn each(hub: &HubClient, look: impl FnMut(&Value)) -> anyhow::Result<()> {
    ROLLOUT.each(hub, look)
}

/// A plan: a file, or the rollout of that id at the hub. What the hub says is believed only if its hash is the id.
pub(super) fn plan(hub: &HubClient, word: &str) -> anyhow::Result<Plan> {
    let path = Path::new(word);
    if path.is_file() {
        return read_plan(path);
    }
    if word.contains(['/', '.']) {
        anyhow::bail!("there is no plan {word}");
    }
    let id = id(hub, word)?;
    let plan = text::read(ROLLOUT.plan(hub, id)?.get().as_bytes())?;
    anyhow::ensure!(text::id(&plan) == id, "the plan that the hub shows is not that of rollout {id}");
    Ok(plan)
}

/// Reads a plan from a file.
pub(super) fn read_plan(path: &Path) -> anyhow::Result<Plan> {
    text::read(&named::plan_file(path)?).with_context(|| format!("{} is no plan", path.display()))
}

/// Words of a JSON list.
pub(super) fn words(value: &Value, name: &str) -> Vec<String> {
    named::words(value, name)
}
