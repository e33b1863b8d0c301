//! The result of an installation on its way into the journal.

use package::name::ModelName;
use wire::body::{Body, Install};
use wire::class::Class;
use wire::id::StreamName;
use wire::record::Draft;

use crate::install::state::{Measured, Report};

/// The stream that results stand in; audit: committed in full, sent first, dropped last.
pub const STREAM: &str = "installs";

/// The record of a report. Two models may give reports the same id in one run, so the record's id names the model, too.
pub fn draft(model: &ModelName, report: &Report) -> Draft {
    let Measured { load_ms, p95_ms, rss_bytes, .. } = report.measured;
    let install = Install {
        id: format!("{}-{model}", report.id),
        model: model.to_string(),
        release: report.release,
        variant: report.variant.as_ref().map(ToString::to_string),
        index: report.index.hash(),
        manifest: report.manifest.map(|digest| digest.hash()),
        outcome: report.outcome.as_str().to_owned(),
        phase: report.phase.map(|phase| phase.as_str().to_owned()),
        why: report.why.clone(),
        attempt: report.attempt,
        load_ms,
        p95_ms,
        rss_bytes,
        joules: None,
        rollout: report.rollout.clone(),
        kernel_same: report.kernel_same,
    };
    install.draft(&StreamName::new(STREAM).expect("a good name"), Class::Audit)
}

#[cfg(test)]
mod tests {
    use package::digest::Digest;

    use super::*;
    use crate::install::state::{Outcome, Phase};

    #[test]
    fn a_report_becomes_a_record() {
        let report = Report {
            id: "boot-3".into(),
            release: 7,
            index: Digest::of(b"index"),
            manifest: Some(Digest::of(b"manifest")),
            variant: None,
            outcome: Outcome::FellBack,
            phase: Some(Phase::Trial),
            why: "because".into(),
            attempt: 2,
            measured: Measured { load_ms: Some(5), ..Measured::default() },
            rollout: Some("9f3c".into()),
            kernel_same: Some(false),
        };
        let draft = draft(&ModelName::new("smollm2").unwrap(), &report);
        assert_eq!(
            (draft.kind.as_str(), draft.stream.as_str(), draft.class),
            ("install", STREAM, Class::Audit)
        );
        let body: Install = serde_json::from_str(draft.body.get()).unwrap();
        assert_eq!((&*body.id, &*body.outcome, body.load_ms), ("boot-3-smollm2", "fell_back", Some(5)));
        assert_eq!((body.rollout.as_deref(), body.kernel_same), (Some("9f3c"), Some(false)));
    }
}
