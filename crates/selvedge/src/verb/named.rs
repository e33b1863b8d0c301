//! Rollouts and experiments as they are named on the command line: by their ids or the first digits of them, or by a file with the plan.

use std::path::Path;

use anyhow::Context as _;
use hub::rollout::fields::BYTES_MAX;
use hub::rollout::plan::PlanId;
use package::disk::read_whole;
use package::disk::system::System as Disk;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::complaint::Usage;
use crate::hub_client::HubClient;

/// The fewest digits that name one.
const DIGITS_MIN: usize = 4;
/// How many pages are looked through for one by its first digits.
const PAGES_MAX: usize = 50;

/// What is named.
pub(super) struct Named(&'static str);

/// Rollouts.
pub(super) const ROLLOUT: Named = Named("rollout");
/// Experiments.
pub(super) const EXPERIMENT: Named = Named("experiment");

impl Named {
    /// The path of one in the API.
    pub(super) fn path(&self, id: PlanId) -> String {
        format!("/api/v1/{}s/{id}", self.0)
    }

    /// One by its id or the first digits of it.
    pub(super) fn id(&self, hub: &HubClient, word: &str) -> anyhow::Result<PlanId> {
        let one = self.0;
        if let Some(id) = PlanId::parse(word) {
            return Ok(id);
        }
        let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if word.len() < DIGITS_MIN || !word.chars().all(is_digit) {
            let why =
                format!("{word:?} names no {one}: at least {DIGITS_MIN} digits of what `{one} ls` lists");
            return Err(Usage(why).into());
        }
        let mut found = Vec::new();
        self.each(hub, |it| {
            let id = it.get("id").and_then(Value::as_str).and_then(PlanId::parse);
            found.extend(id.filter(|id| id.to_string().starts_with(word)));
        })?;
        match found.as_slice() {
            [id] => Ok(*id),
            [] => anyhow::bail!("there is no {one} {word}: `selvedge {one} ls` lists them"),
            several => anyhow::bail!("{} {one}s begin with {word}: name more digits", several.len()),
        }
    }

    /// Looks at all of them, the newest first.
    pub(super) fn each(&self, hub: &HubClient, mut look: impl FnMut(&Value)) -> anyhow::Result<()> {
        let (all, mut after) = (format!("{}s", self.0), String::new());
        for _ in 0..PAGES_MAX {
            let page = hub.get(&format!("/api/v1/{all}?limit=200{after}"))?;
            let listed = page.get(&all).and_then(Value::as_array);
            listed.with_context(|| format!("the hub lists no {all}"))?.iter().for_each(&mut look);
            match page.get("next_after").and_then(Value::as_str) {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        Ok(())
    }

    /// The plan of one at the hub, as it lies there.
    pub(super) fn plan(&self, hub: &HubClient, id: PlanId) -> anyhow::Result<Box<RawValue>> {
        #[derive(Deserialize)]
        struct View {
            plan: Box<RawValue>,
        }
        let view = hub.get(&self.path(id))?;
        let View { plan } = serde_json::from_value(view).context("the hub does not show the plan")?;
        Ok(plan)
    }
}

/// The bytes of a file with a plan.
pub(super) fn plan_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = read_whole(&Disk, path, BYTES_MAX as u64)?;
    bytes.with_context(|| format!("there is no plan {}", path.display()))
}

/// Words of a JSON list.
pub(super) fn words(value: &Value, name: &str) -> Vec<String> {
    let list = value.get(name).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}
