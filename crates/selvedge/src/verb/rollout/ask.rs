//! Plans and rollouts as they are named on the command line.

use std::path::Path;

use anyhow::Context as _;
use hub::rollout::plan::{Plan, PlanId};
use hub::rollout::text;
use package::disk::read_whole;
use package::disk::system::System as Disk;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::complaint::Usage;
use crate::hub_client::HubClient;

/// The fewest digits that name a rollout.
const DIGITS_MIN: usize = 4;
/// How many rollouts are looked through for one by its first digits, a page at a time.
const PAGES_MAX: usize = 50;

/// The path of a rollout in the API.
pub(in crate::verb) fn path(id: PlanId) -> String {
    format!("/api/v1/rollouts/{id}")
}

/// A rollout by its id or the first digits of it.
pub(in crate::verb) fn id(hub: &HubClient, word: &str) -> anyhow::Result<PlanId> {
    if let Some(id) = PlanId::parse(word) {
        return Ok(id);
    }
    let digits = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if word.len() < DIGITS_MIN || !word.chars().all(digits) {
        let why =
            format!("{word:?} names no rollout: at least {DIGITS_MIN} digits of what `rollout ls` lists");
        return Err(Usage(why).into());
    }
    let mut found = Vec::new();
    each(hub, |rollout| {
        let id = rollout.get("id").and_then(Value::as_str).and_then(PlanId::parse);
        found.extend(id.filter(|id| id.to_string().starts_with(word)));
    })?;
    match found.as_slice() {
        [id] => Ok(*id),
        [] => anyhow::bail!("there is no rollout {word}: `selvedge rollout ls` lists them"),
        several => anyhow::bail!("{} rollouts begin with {word}: name more digits", several.len()),
    }
}

/// Looks at all rollouts, the newest first.
pub(super) fn each(hub: &HubClient, mut look: impl FnMut(&Value)) -> anyhow::Result<()> {
    let mut after = String::new();
    for _ in 0..PAGES_MAX {
        let page = hub.get(&format!("/api/v1/rollouts?limit=200{after}"))?;
        let rollouts = page.get("rollouts").and_then(Value::as_array).context("the hub lists no rollouts")?;
        rollouts.iter().for_each(&mut look);
        match page.get("next_after").and_then(Value::as_str) {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    Ok(())
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
    let view = hub.get(&self::path(id))?;
    #[derive(Deserialize)]
    struct View {
        plan: Box<RawValue>,
    }
    let View { plan } = serde_json::from_value(view).context("the hub does not show the plan")?;
    let plan = text::read(plan.get().as_bytes())?;
    anyhow::ensure!(text::id(&plan) == id, "the plan that the hub shows is not that of rollout {id}");
    Ok(plan)
}

/// Reads a plan from a file.
pub(super) fn read_plan(path: &Path) -> anyhow::Result<Plan> {
    let bytes = read_whole(&Disk, path, text::BYTES_MAX as u64)?;
    let bytes = bytes.with_context(|| format!("there is no plan {}", path.display()))?;
    text::read(&bytes).with_context(|| format!("{} is no plan", path.display()))
}

/// Words of a JSON list.
pub(super) fn words(value: &Value, name: &str) -> Vec<String> {
    let list = value.get(name).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}
