//! How a node fits a plan, by what it said of itself: its place on the ring, whether the group has it, and what it would
//! fetch. Reckoned once, until the node says something else.

use package::choose::choose;
use package::index::Release;
use wire::facts::Facts;
use wire::select::Selector;

use crate::fleet::device::device;
use crate::rollout::offer::place;
use crate::rollout::plan::{Plan, Target};

/// How a node fits a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Its place on the ring.
    pub place: u16,
    /// Whether the group has it.
    pub in_group: bool,
    /// Bytes that it would fetch.
    pub bytes: u64,
}

impl Fit {
    /// Reckons it. `releases`: those of the plan's targets, in their order, where the hub has them.
    pub fn of(plan: &Plan, group: &Selector, releases: &[Option<Release>], name: &str, facts: &Facts) -> Fit {
        let nothing = std::iter::repeat(&None);
        let each = plan.what.iter().zip(releases.iter().chain(nothing));
        let bytes = each.map(|(target, release)| fetched(target, release.as_ref(), facts));
        let bytes = bytes.fold(0, u64::saturating_add);
        Fit { place: place(plan, name), in_group: group.has(facts), bytes }
    }
}

/// The index, and the variant that a device of these facts takes.
pub fn fetched(target: &Target, release: Option<&Release>, facts: &Facts) -> u64 {
    let Some(release) = release else { return target.size };
    let variant = match &target.variant {
        Some(name) => release.variants.iter().find(|variant| variant.name.as_str() == name),
        None => choose(release, &device(facts)).best.and_then(|at| release.variants.get(at)),
    };
    target.size.saturating_add(variant.map_or(0, |variant| variant.requires.disk_bytes))
}

#[cfg(test)]
mod tests {
    use package::descriptor::Descriptor;
    use package::index::Variant;
    use package::media;
    use package::name::ModelName;
    use wire::facts::{Fact, FactName};
    use wire::hash::Hash;

    use super::*;

    #[test]
    fn a_node_fetches_the_variant_that_it_would_take() {
        let variant = |name: &str, ram: &str, disk: &str, ppl: &str| {
            let mut entry = Descriptor::of(media::OCI_MANIFEST, name.as_bytes());
            entry.artifact_type = Some(media::MODEL_MANIFEST.to_owned());
            let notes = [
                (media::VARIANT, name),
                (media::KIND, "lm"),
                (media::RUNTIME, "lm"),
                (media::REQUIRES_RAM, ram),
                (media::REQUIRES_DISK, disk),
                (media::REQUIRES_ISA, "any"),
                (media::REQUIRES_ACCELERATOR, "none"),
                (media::REQUIRES_SELVEDGE, "0.1.0"),
                (media::QUALITY, ppl),
            ];
            entry.annotations = notes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            Variant::read(&entry).unwrap()
        };
        let quality = |value: &str| {
            format!(
                r#"{{"metric":"perplexity","value":{value},"better":"lower","on":"{}"}}"#,
                package::digest::Digest::of(b"text")
            )
        };
        let variants = vec![
            variant("large", "4000", "3000", &quality("9.0")),
            variant("small", "1000", "700", &quality("11.0")),
        ];
        let model = ModelName::new("smollm2").unwrap();
        let release = Release {
            model: model.clone(),
            release: 7,
            variants,
            provenance: Vec::new(),
            annotations: Default::default(),
        };
        let facts = |ram: f64| {
            let mut facts = Facts::default();
            let mut set = |name: &str, fact| facts.set(FactName::new(name).unwrap(), fact).unwrap();
            set("ram", Fact::Number(ram));
            set("disk", Fact::Number(1e12));
            set("version", Fact::Text("0.1.0".to_owned()));
            facts
        };
        let target = |variant: Option<&str>| Target {
            model: model.clone(),
            release: 7,
            index: Hash::of(b"7"),
            size: 10,
            variant: variant.map(str::to_owned),
        };
        let bytes = |ram, variant| fetched(&target(variant), Some(&release), &facts(ram));
        assert_eq!(bytes(1e9, None), 3010);
        assert_eq!(bytes(2000.0, None), 710);
        assert_eq!(bytes(2000.0, Some("large")), 3010, "it has no choice");
        assert_eq!(bytes(1.0, None), 10, "nothing fits");
        assert_eq!(fetched(&target(None), None, &facts(1e9)), 10, "who does not know says so");
    }
}
