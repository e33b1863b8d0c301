//! What feeds the ends of a flow, for pictures of it: sinks and reports take what parts give, interlocks hold actuators back.
//!
//! A sink or a report that names no `inputs` takes all there is of the kinds of records that it passes on or tells of.

use super::actuator::ActuatorConfig;
use super::check::Link;
use crate::report::ReportConfig;
use crate::sink::SinkConfig;

/// The links to the ends. `parts`: the paths of everything, in the order of the flow.
pub(super) fn links(
    parts: &[String],
    sinks: &[SinkConfig],
    reports: &[ReportConfig],
    actuators: &[ActuatorConfig],
) -> Vec<Link> {
    let mut links = Vec::new();
    let mut add = |from: &str, to: &str, holds_back| {
        links.push(Link { from: from.to_owned(), to: to.to_owned(), holds_back });
    };
    for config in actuators {
        let sources: Vec<&String> = parts.iter().filter(|part| part.starts_with("source.")).collect();
        for at in config.interlock.iter().flat_map(|interlock| &interlock.sources) {
            if let Some(source) = sources.get(*at) {
                add(source, &format!("actuator.{}", config.name), true);
            }
        }
    }
    for config in reports {
        let kinds = ["summary", "decision", "inference", "act"];
        for part in parts.iter().filter(|part| gives(part, &kinds) && config.tells_of(part)) {
            add(part, &format!("report.{}", config.name), false);
        }
    }
    for config in sinks {
        let kinds: Vec<&str> = config.choice.kinds.iter().map(String::as_str).collect();
        for part in parts.iter().filter(|part| config.choice.wants_part(part)) {
            // What is named is meant, whatever it gives.
            if !config.choice.inputs.is_empty() || gives(part, &kinds) {
                add(part, &format!("sink.{}", config.name), false);
            }
        }
    }
    links
}

/// Whether a part gives records of one of these kinds.
fn gives(part: &str, kinds: &[&str]) -> bool {
    let own: &[&str] = match part.split_once('.') {
        Some(("source", _)) => &["readings", "summary"],
        Some(("model", _)) => &["inference", "answer"],
        Some(("rule", _)) => &["decision"],
        Some(("actuator", _)) => &["act"],
        Some(("report", _)) => &["report"],
        _ => &[],
    };
    own.iter().any(|kind| kinds.contains(kind))
}

#[cfg(test)]
mod tests {
    use crate::flow::Flow;

    #[test]
    fn what_feeds_sinks_and_reports() {
        let flow = "[source.pump]\ntype = \"http\"\n[source.room]\ntype = \"http\"\n\
            [model.health]\ntype = \"subspace\"\ninputs = [\"source.pump\"]\n\
            [rule.hot]\ninputs = [\"source.pump\"]\nwhen = \"pump.t > 1\"\nthen = { valve = \"open\" }\n\
            [actuator.valve]\ntype = \"simulated\"\nfile = \"v\"\nwrite = true\nvalues = [\"open\", \"closed\"]\nsafe = \"closed\"\n\
            interlock = \"room.t < 3\"\n\
            [sink.all]\ntype = \"stdout\"\n\
            [sink.some]\ntype = \"stdout\"\ninputs = [\"source.r*\"]\n\
            [sink.told]\ntype = \"stdout\"\nrecords = [\"report\"]\n\
            [report.shift]\ninputs = [\"rule.*\"]\n";
        let flow = Flow::parse("flow.toml".as_ref(), flow.into()).unwrap();
        let ends = ["sink.", "report.", "actuator."];
        let found: Vec<String> = flow
            .links
            .iter()
            .filter(|link| ends.iter().any(|end| link.to.starts_with(end)))
            .map(|link| format!("{} {} {}", link.from, if link.holds_back { "-|" } else { "->" }, link.to))
            .collect();
        let expected = [
            "rule.hot -> actuator.valve",
            "source.room -| actuator.valve",
            "rule.hot -> report.shift",
            "model.health -> sink.all",
            "rule.hot -> sink.all",
            "source.room -> sink.some",
            "report.shift -> sink.told",
        ];
        assert_eq!(found, expected);
    }
}
