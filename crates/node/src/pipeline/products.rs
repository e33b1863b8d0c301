//! What a pipeline gives, and the stream and class it is remembered under.

use wire::body::{Answer, Body, Decision, Inference, PartChange, Readings, SourceChange, Start, Summary};
use wire::class::Class;
use wire::id::{PartName, StreamName};
use wire::record::Draft;

/// Something worth remembering.
#[derive(Debug, Clone, PartialEq)]
pub enum Product {
    /// Raw readings: stream `readings.<source>`, class raw.
    Readings(Readings),
    /// A stretch summarised: stream `summary.<source>`, class metric.
    Summary(Summary),
    /// An anomaly begins or ends: stream `inferences`, class event.
    Inference(Inference),
    /// A network says another word than before, something crossed a line, or each look is recorded: stream `inferences`, class event.
    Answer(Answer),
    /// A rule fires or clears: stream `decisions`, class audit.
    Decision(Decision),
    /// A source changed its state: stream `events`, class event.
    Source(SourceChange),
    /// A model or a rule changed its state: stream `events`, class event.
    Part(PartChange),
    /// The node began: stream `audit`, class audit.
    Start(Start),
}

impl Product {
    /// A part of the node is in another state now.
    pub fn part(part: &str, state: &str, reason: String) -> Product {
        Product::Part(PartChange { part: part.to_owned(), state: state.to_owned(), reason })
    }

    /// The product as the journal takes it.
    pub fn draft(&self) -> Draft {
        match self {
            Product::Readings(body) => body.draft(&of_source("readings", &body.source), Class::Raw),
            Product::Summary(body) => body.draft(&of_source("summary", &body.source), Class::Metric),
            Product::Inference(body) => body.draft(&named("inferences"), Class::Event),
            Product::Answer(body) => body.draft(&named("inferences"), Class::Event),
            Product::Decision(body) => body.draft(&named("decisions"), Class::Audit),
            Product::Source(body) => body.draft(&named("events"), Class::Event),
            Product::Part(body) => body.draft(&named("events"), Class::Event),
            Product::Start(body) => body.draft(&named("audit"), Class::Audit),
        }
    }
}

fn named(stream: &str) -> StreamName {
    StreamName::new(stream).expect("our own streams have good names")
}

fn of_source(kind: &str, source: &PartName) -> StreamName {
    // A part's name has at most 64 characters, all good in a stream's name too, which may have 128.
    named(&format!("{kind}.{source}"))
}
