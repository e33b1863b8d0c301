//! Draws a flow in layers: what feeds stands left of what is fed. Pure: a flow in, text out.
//!
//! Within a layer parts are put in order by the middle of what feeds them, a few times to and fro, which keeps most lines
//! apart (Sugiyama, Tagawa and Toda 1981). A line over several layers passes each of them at a place of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use node::flow::Flow;

/// A flow as it is drawn.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Picture {
    /// Each part, sources first.
    parts: Vec<Drawn>,
    /// From, to, and whether it only holds back.
    lines: Vec<(usize, usize, bool)>,
}

#[derive(Debug, Clone, PartialEq)]
struct Drawn {
    /// `source`.
    kind: String,
    name: String,
    /// What stands under the name.
    note: String,
}

impl Picture {
    /// What there is to draw of a flow.
    pub(super) fn of(flow: &Flow) -> Picture {
        let mut notes = BTreeMap::new();
        for rule in &flow.rules {
            notes.insert(format!("rule.{}", rule.name), rule.when.text().to_owned());
        }
        for value in &flow.effective {
            if let Some(path) = value.key.strip_suffix(".type") {
                notes.insert(path.to_owned(), value.value.trim_matches('"').to_owned());
            }
        }
        let mut paths: Vec<String> = flow.parts().collect();
        paths.dedup();
        let drawn = |path: &String| {
            let (kind, name) = path.split_once('.').unwrap_or(("", path));
            let note = match (kind, notes.get(path)) {
                // Their boxes are alike.
                ("sink" | "actuator", Some(note)) => format!("{kind}: {note}"),
                ("report", _) => kind.to_owned(),
                (_, note) => note.cloned().unwrap_or_default(),
            };
            Drawn { kind: kind.to_owned(), name: name.to_owned(), note }
        };
        let at = |path: &String| paths.iter().position(|known| known == path);
        let lines =
            flow.links.iter().filter_map(|link| Some((at(&link.from)?, at(&link.to)?, link.holds_back)));
        Picture { parts: paths.iter().map(drawn).collect(), lines: lines.collect() }
    }
}

/// As Mermaid's flowcharts have it.
pub(super) fn mermaid(picture: &Picture) -> String {
    let mut text = String::from("flowchart LR\n");
    for part in &picture.parts {
        let (open, close) = match part.kind.as_str() {
            "source" => ("([", "])"),
            "rule" => ("{{", "}}"),
            "sink" | "actuator" => ("[/", "/]"),
            _ => ("[", "]"),
        };
        let note = escaped(&shortened(&part.note, 60));
        let note = if note.is_empty() { String::new() } else { format!("<br/>{note}") };
        let Drawn { kind, name, .. } = part;
        // Quotes hide the signs that Mermaid would read.
        let _ = writeln!(text, "    {kind}_{name}{open}\"{name}{note}\"{close}");
    }
    for (from, to, holds_back) in &picture.lines {
        let [from, to] = [&picture.parts[*from], &picture.parts[*to]];
        let arrow = if *holds_back { "-. holds back .->" } else { "-->" };
        let _ = writeln!(text, "    {}_{} {arrow} {}_{}", from.kind, from.name, to.kind, to.name);
    }
    text
}

const BOX_WIDTH: f64 = 190.0;
const BOX_HEIGHT: f64 = 46.0;
/// Where some note needs two lines.
const BOX_HEIGHT_OF_TWO: f64 = 60.0;
const ACROSS: f64 = 84.0;
const DOWN: f64 = 22.0;
const EDGE: f64 = 24.0;
/// Letters of a note that fit into a line of a box.
const NOTE_LETTERS: usize = 30;

/// What is other on a dark page. A drawer that knows no such rule draws it light.
const DARK: &str = "@media (prefers-color-scheme: dark) { .flow .ground { fill: #14161a; } \
    .flow .line { stroke: #8b98a9; } .flow .tip { fill: #8b98a9; } .flow .name { fill: #f1f5f9; } \
    .flow .note { fill: #b6c2d1; } .flow .source { fill: #0c2c40; } .flow .model { fill: #2e2352; } \
    .flow .rule { fill: #43300a; } .flow .feature, .flow .end { fill: #123a22; } }";

/// A place in a layer: a part, or where a line passes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Part(usize),
    Line(usize),
}

/// Where everything stands.
struct Laid {
    /// The layers from left to right, each from top to bottom.
    layers: Vec<Vec<Place>>,
    layer_of: Vec<usize>,
}

/// Puts parts into layers and orders them.
fn lay(picture: &Picture) -> Laid {
    let count = picture.parts.len();
    let mut layer_of = vec![0; count];
    // The longest way from a source. A flow has no circles, so this comes to rest.
    for _ in 0..count {
        for (from, to, _) in &picture.lines {
            layer_of[*to] = layer_of[*to].max(layer_of[*from] + 1);
        }
    }
    let depth = layer_of.iter().max().map_or(0, |deepest| deepest + 1);
    let mut layers = vec![Vec::new(); depth];
    for (part, layer) in layer_of.iter().enumerate() {
        layers[*layer].push(Place::Part(part));
    }
    for (line, (from, to, _)) in picture.lines.iter().enumerate() {
        for layer in &mut layers[layer_of[*from] + 1..layer_of[*to]] {
            layer.push(Place::Line(line));
        }
    }
    for round in 0..6 {
        let forward = round % 2 == 0;
        let order: Vec<usize> =
            if forward { (1..depth).collect() } else { (0..depth.saturating_sub(1)).rev().collect() };
        for at in order {
            let beside = layers[if forward { at - 1 } else { at + 1 }].clone();
            let middle = |place: &Place| {
                let neighbours: Vec<f64> = beside
                    .iter()
                    .enumerate()
                    .filter(|(_, other)| touches(picture, place, other))
                    .map(|(at, _)| at as f64 / beside.len() as f64)
                    .collect();
                match neighbours.len() {
                    0 => None,
                    count => Some(neighbours.iter().sum::<f64>() / count as f64),
                }
            };
            let of = layers[at].len() as f64;
            let mut keyed: Vec<(f64, Place)> = layers[at]
                .iter()
                .enumerate()
                .map(|(at, place)| (middle(place).unwrap_or(at as f64 / of), *place))
                .collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            layers[at] = keyed.into_iter().map(|(_, place)| place).collect();
        }
    }
    Laid { layers, layer_of }
}

/// Whether a line goes from one place to the other, in neighbouring layers.
fn touches(picture: &Picture, a: &Place, b: &Place) -> bool {
    let ends = |line: usize, part: usize| {
        let (from, to, _) = picture.lines[line];
        from == part || to == part
    };
    match (a, b) {
        (Place::Line(a), Place::Line(b)) => a == b,
        (Place::Line(line), Place::Part(part)) | (Place::Part(part), Place::Line(line)) => ends(*line, *part),
        (Place::Part(a), Place::Part(b)) => {
            picture.lines.iter().any(|(from, to, _)| (from, to) == (a, b) || (from, to) == (b, a))
        }
    }
}

/// As a picture that stands alone, for light and dark pages.
pub(super) fn svg(picture: &Picture) -> String {
    let Laid { layers, layer_of } = lay(picture);
    let notes: Vec<Vec<String>> =
        picture.parts.iter().map(|part| in_lines(&part.note, NOTE_LETTERS)).collect();
    let wraps = notes.iter().any(|lines| lines.len() > 1);
    let box_height = if wraps { BOX_HEIGHT_OF_TWO } else { BOX_HEIGHT };
    let height = |place: Place| match place {
        Place::Part(_) => box_height + DOWN,
        Place::Line(_) => DOWN,
    };
    let tall = |layer: &Vec<Place>| layer.iter().map(|place| height(*place)).sum::<f64>();
    let height_all = layers.iter().map(tall).fold(0.0, f64::max).max(box_height);
    // Where each place begins, layer by layer, each in the middle of the picture's height.
    let mut part_at = vec![(0.0, 0.0); picture.parts.len()];
    let mut passes: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for (at, layer) in layers.iter().enumerate() {
        let x = EDGE + at as f64 * (BOX_WIDTH + ACROSS);
        let mut y = EDGE + (height_all - tall(layer)) / 2.0;
        for place in layer {
            match place {
                Place::Part(part) => part_at[*part] = (x, y + DOWN / 2.0),
                Place::Line(line) => {
                    passes.insert((*line, at), y + height(*place) / 2.0);
                }
            }
            y += height(*place);
        }
    }
    let width = 2.0 * EDGE + layers.len() as f64 * (BOX_WIDTH + ACROSS) - ACROSS;
    let full = height_all + 2.0 * EDGE;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {full:.0}\" width=\"{width:.0}\" \
         height=\"{full:.0}\" font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" role=\"img\" class=\"flow\">\n\
         <title>What feeds what</title>\n\
         <style>{DARK}</style>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\" fill=\"#64748b\" class=\"tip\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\" class=\"ground\"/>"
    );
    for (line, (from, to, holds_back)) in picture.lines.iter().enumerate() {
        let (from_x, from_y) = (part_at[*from].0 + BOX_WIDTH, part_at[*from].1 + box_height / 2.0);
        let mut path = format!("M{from_x:.1} {from_y:.1}");
        let (mut x, mut y) = (from_x, from_y);
        for layer in layer_of[*from] + 1..layer_of[*to] {
            let left = EDGE + layer as f64 * (BOX_WIDTH + ACROSS);
            let pass_y = passes.get(&(line, layer)).copied().unwrap_or(y);
            let _ = write!(path, "{} L{:.1} {pass_y:.1}", curve(x, y, left, pass_y), left + BOX_WIDTH);
            (x, y) = (left + BOX_WIDTH, pass_y);
        }
        let (to_x, to_y) = (part_at[*to].0, part_at[*to].1 + box_height / 2.0);
        path += &curve(x, y, to_x, to_y);
        let (dashes, does) =
            if *holds_back { (" stroke-dasharray=\"5 4\"", "may hold back") } else { ("", "feeds") };
        let [from, to] = [&picture.parts[*from], &picture.parts[*to]];
        let _ = writeln!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"#64748b\" stroke-width=\"1.4\"{dashes} class=\"line\" \
             marker-end=\"url(#tip)\"><title>{}.{} {does} {}.{}</title></path>",
            from.kind, from.name, to.kind, to.name
        );
    }
    for ((part, (x, y)), lines) in picture.parts.iter().zip(&part_at).zip(&notes) {
        let (class, fill, stroke, radius) = match part.kind.as_str() {
            "source" => ("source", "#e0f2fe", "#0284c7", 23),
            "feature" => ("feature", "#dcfce7", "#16a34a", 6),
            "model" => ("model", "#ede9fe", "#7c3aed", 6),
            "rule" => ("rule", "#fef3c7", "#d97706", 6),
            _ => ("end", "#dcfce7", "#16a34a", 2),
        };
        let middle = x + BOX_WIDTH / 2.0;
        let name_y = y + box_height / 2.0 + 4.0 - 8.0 * lines.len() as f64;
        let mut note = String::new();
        for (at, line) in lines.iter().enumerate() {
            let _ = write!(
                note,
                "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\" fill=\"#475569\" \
                 class=\"note\">{}</text>",
                name_y + 16.0 + 13.0 * at as f64,
                escaped(line)
            );
        }
        let _ = writeln!(
            out,
            "<g><title>{kind}.{name}{colon}{whole}</title>\
             <rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{BOX_WIDTH}\" height=\"{box_height}\" rx=\"{radius}\" fill=\"{fill}\" \
             stroke=\"{stroke}\" class=\"{class}\"/>\
             <text x=\"{middle:.1}\" y=\"{name_y:.1}\" text-anchor=\"middle\" font-size=\"13\" fill=\"#0f172a\" \
             class=\"name\">{shown}</text>{note}</g>",
            kind = part.kind,
            name = part.name,
            colon = if part.note.is_empty() { "" } else { ": " },
            whole = escaped(&part.note),
            shown = escaped(&shortened(&part.name, 22)),
        );
    }
    out += "</svg>\n";
    out
}

/// A line that leaves and arrives level.
fn curve(from_x: f64, from_y: f64, to_x: f64, to_y: f64) -> String {
    let bend = (to_x - from_x) / 2.0;
    format!(" C{:.1} {from_y:.1} {:.1} {to_y:.1} {to_x:.1} {to_y:.1}", from_x + bend, to_x - bend)
}

/// A note in one line, or in two if it is longer; what does not fit then is cut.
fn in_lines(text: &str, most: usize) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        let cut = lines.len() == 2;
        match lines.last_mut() {
            Some(line) if cut || line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| shortened(line, most)).collect()
}

fn shortened(text: &str, most: usize) -> String {
    crate::table::clipped(&text.split_whitespace().collect::<Vec<_>>().join(" "), most)
}

/// For XML, and for Mermaid's quoted texts, which take the same.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: &str = "[source.pump]\ntype = \"http\"\n[source.room]\ntype = \"http\"\n\
        [model.health]\ntype = \"subspace\"\ninputs = [\"source.pump\"]\n\
        [rule.hot]\ninputs = [\"source.pump\", \"source.room\"]\nwhen = \"pump.t - room.t > 10 && pump.t < 99\"\n\
        [rule.odd]\ninputs = [\"model.health\", \"rule.hot\"]\nwhen = \"health.p > 0.9\"\ninhibit_by = [\"rule.hot\"]\n";

    fn picture() -> Picture {
        Picture::of(&Flow::parse("flow.toml".as_ref(), FLOW.into()).unwrap())
    }

    #[test]
    fn as_mermaid() {
        insta::assert_snapshot!(mermaid(&picture()), @r#"
        flowchart LR
            source_pump(["pump<br/>http"])
            source_room(["room<br/>http"])
            model_health["health<br/>subspace"]
            rule_hot{{"hot<br/>pump.t - room.t &gt; 10 &amp;&amp; pump.t &lt; 99"}}
            rule_odd{{"odd<br/>health.p &gt; 0.9"}}
            source_pump --> model_health
            source_pump --> rule_hot
            source_room --> rule_hot
            model_health --> rule_odd
            rule_hot --> rule_odd
            rule_hot -. holds back .-> rule_odd
        "#);
    }

    #[test]
    fn what_feeds_stands_left_of_what_is_fed() {
        let picture = picture();
        let laid = lay(&picture);
        for (from, to, _) in &picture.lines {
            assert!(laid.layer_of[*from] < laid.layer_of[*to]);
        }
        let drawn = svg(&picture);
        assert_eq!(drawn.matches("<rect x=").count(), picture.parts.len());
        assert_eq!(drawn.matches("marker-end").count(), picture.lines.len());
        assert!(drawn.contains("&amp;&amp;") && !drawn.contains("NaN"));
    }

    #[test]
    fn notes_have_two_lines_at_most() {
        for (note, lines) in [
            ("", vec![]),
            ("http", vec!["http"]),
            ("a.x > 1 &&  b.y < 2", vec!["a.x > 1 &&", "b.y < 2"]),
            ("a.x > 1 && b.y < 2 && c.z > 3", vec!["a.x > 1 &&", "b.y < 2 &…"]),
            ("abcdefghijklm", vec!["abcdefghi…"]),
        ] {
            assert_eq!(in_lines(note, 10), lines, "{note}");
        }
    }
}
