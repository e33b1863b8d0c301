//! One simulated rollout as an SVG: members that were offered it, that have it, that failed; a line where a wave opened.

use std::fmt::Write as _;

use crate::sim::setup::Night;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 40.0;
const RIGHT: f64 = 16.0;

/// Draws a run.
pub(crate) fn svg(night: &Night, members: usize) -> String {
    let most = members.max(1) as f64;
    let last = night.took_ms.max(1) as f64;
    let x = |ms: i64| LEFT + (WIDTH - LEFT - RIGHT) * (ms as f64 / last);
    // Waves grow tenfold, so the axis is a root: the first wave of 1 % has a tenth of the height.
    let y = |nodes: u32| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (f64::from(nodes) / most).min(1.0).sqrt());
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{} of {members} nodes were offered it, it served on {}, \
         {} failed; {:.1} h; seed {}</text>",
        night.course.last().map_or(0, |(_, counts)| counts[0]),
        night.exposed,
        night.failed,
        last / 3_600_000.0,
        night.seed
    );
    for nodes in [0.0, 0.01, 0.1, 0.5, 1.0].map(|share| (share * most).round() as u32) {
        let at = y(nodes);
        let _ = write!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{nodes}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    // The ends of the time that it took.
    let _ = write!(
        out,
        "<text x=\"{LEFT}\" y=\"{:.1}\">0 h</text><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.1} h</text>",
        HEIGHT - BOTTOM + 16.0,
        WIDTH - RIGHT,
        HEIGHT - BOTTOM + 16.0,
        last / 3_600_000.0
    );
    let mut free = 0.0;
    for (wave, at_ms) in &night.opened {
        let at = x(*at_ms);
        let name = match wave {
            0 => "canaries".to_owned(),
            _ if at < free => wave.to_string(),
            _ => format!("wave {wave}"),
        };
        free = at + 56.0;
        let _ = write!(
            out,
            "<path d=\"M{at:.1} {TOP}V{:.1}\" stroke=\"#888\" stroke-dasharray=\"3 3\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
            HEIGHT - BOTTOM,
            at + 3.0,
            TOP - 6.0
        );
    }
    for (place, colour, thick) in [(0, "#8a8a8a", 4), (1, "#2a7d4f", 2), (2, "#b3261e", 2)] {
        let mut path = String::new();
        for (step, (at_ms, counts)) in night.course.iter().enumerate() {
            let (at, height) = (x(*at_ms), y(counts[place]));
            let _ = if step == 0 {
                write!(path, "M{at:.1} {height:.1}")
            } else {
                write!(path, "H{at:.1}V{height:.1}")
            };
        }
        let _ =
            write!(out, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{thick}\"/>");
    }
    for (place, (name, colour)) in
        [("offered", "#8a8a8a"), ("have it", "#2a7d4f"), ("failed", "#b3261e")].into_iter().enumerate()
    {
        let at = LEFT + 90.0 * place as f64;
        let under = HEIGHT - 12.0;
        let _ = write!(out, "<text x=\"{at:.1}\" y=\"{under:.1}\" fill=\"{colour}\">{name}</text>");
    }
    out.push_str("</svg>\n");
    out
}
