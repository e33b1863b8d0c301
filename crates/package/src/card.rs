//! The model card: one page for a person who asks what this is, what it needs and how good it is.
//!
//! Only what was measured or said by the publisher stands there; what is not known is left out.

use std::fmt::Write;

use crate::requirement::{Better, Quality, Requires};

/// What a card is made from.
#[derive(Clone, Debug)]
pub struct CardFacts {
    /// The model's name.
    pub model: String,
    /// The release.
    pub release: u64,
    /// The variant's name.
    pub variant: String,
    /// What it is for, in a sentence.
    pub purpose: Option<String>,
    /// SPDX, or the licence's own name.
    pub licence: Option<String>,
    /// Where it was built from.
    pub source: Option<String>,
    /// What it asks of a device.
    pub requires: Requires,
    /// How good it is.
    pub quality: Option<Quality>,
    /// What it should not be used for, or cannot do.
    pub limitations: Vec<String>,
}

/// Writes the card, in Markdown. Equal facts are equal text.
pub fn card(facts: &CardFacts) -> String {
    let CardFacts { model, release, variant, purpose, licence, source, requires, quality, limitations } =
        facts;
    let mut card = format!("# {model} {release}, {variant}\n");
    if let Some(purpose) = purpose {
        card += &format!("\n{purpose}\n");
    }
    let mut facts = Vec::from([("memory", format!("{} bytes", requires.ram_bytes))]);
    facts.extend(requires.context.map(|context| ("with a context of", format!("{context} tokens"))));
    facts.push(("disk", format!("{} bytes", requires.disk_bytes)));
    let processors: Vec<String> = requires.isa.iter().map(ToString::to_string).collect();
    facts.push(("processor", if processors.is_empty() { "any".to_owned() } else { processors.join(" or ") }));
    facts.extend(requires.accelerator.clone().map(|word| ("accelerator", word)));
    facts.push(("selvedge", format!("{} or later", requires.selvedge)));
    facts.extend(licence.clone().map(|licence| ("licence", licence)));
    facts.extend(source.clone().map(|source| ("made from", source)));
    if let Some(Quality { metric, value, better, on }) = quality {
        let better = match better {
            Better::Lower => "lower",
            Better::Higher => "higher",
        };
        facts.push(("quality", format!("{metric} {value}, {better} is better, measured on {on}")));
    }
    card.push_str("\n| | |\n|---|---|\n");
    for (what, value) in facts {
        writeln!(card, "| {what} | {} |", value.replace('|', "\\|").replace('\n', " "))
            .expect("text takes text");
    }
    if !limitations.is_empty() {
        card.push_str("\n## What it cannot do\n\n");
        for limitation in limitations {
            writeln!(card, "- {limitation}").expect("text takes text");
        }
    }
    card
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::requirement::{IsaNeed, Version};

    #[test]
    fn a_page_for_a_person() {
        let facts = CardFacts {
            model: "smollm2".into(),
            release: 7,
            variant: "q4_k_m".into(),
            purpose: Some("Answers short questions.".into()),
            licence: Some("Apache-2.0".into()),
            source: None,
            requires: Requires {
                ram_bytes: 900_000_000,
                disk_bytes: 770_000_000,
                isa: vec![IsaNeed { arch: "x86_64".into(), isa: vec!["avx2".into()] }],
                accelerator: None,
                selvedge: Version(0, 1, 0),
                context: Some(2048),
            },
            quality: Some(Quality {
                metric: "perplexity".into(),
                value: 12.31,
                better: Better::Lower,
                on: Digest::of(b"{}"),
            }),
            limitations: vec!["It may be wrong.".into()],
        };
        let expected = "\
# smollm2 7, q4_k_m

Answers short questions.

| | |
|---|---|
| memory | 900000000 bytes |
| with a context of | 2048 tokens |
| disk | 770000000 bytes |
| processor | x86_64+avx2 |
| selvedge | 0.1.0 or later |
| licence | Apache-2.0 |
| quality | perplexity 12.31, lower is better, measured on sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a |

## What it cannot do

- It may be wrong.
";
        assert_eq!(card(&facts), expected);
    }
}
