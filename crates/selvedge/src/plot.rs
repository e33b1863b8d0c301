//! Draws a recording and what a detector made of it as one SVG: a strip per channel, the probability of an anomaly
//! under them, anomalies shaded through all strips, the truth (where it is known) as a bar on top.
//!
//! Pure: numbers in, text out. Long recordings are reduced to one band and one mean per pixel column, so that a short
//! spike is never lost and a file of a million rows is still a small picture.

use std::fmt::Write as _;
use std::path::Path;

/// What to draw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plot {
    /// Stands above the picture.
    pub(crate) title: String,
    /// When each reading was taken, ascending. Shape: `[readings]`.
    pub(crate) t_ms: Vec<i64>,
    /// One strip each, from top to bottom.
    pub(crate) channels: Vec<Strip>,
    /// Shape: `[readings]`, `0.0..=1.0`, NaN while the detector learns.
    pub(crate) probability: Vec<f64>,
    /// Anomalies found, `(from, to)` in source time.
    pub(crate) anomalies: Vec<(i64, i64)>,
    /// Anomalies that are known to be there, `(from, to)`; empty when nobody knows.
    pub(crate) truth: Vec<(i64, i64)>,
}

/// One channel's values. Shape: `[readings]`; NaN where there was no value.
#[derive(Debug, Clone)]
pub(crate) struct Strip {
    /// The channel's name, with its unit.
    pub(crate) name: String,
    /// Its values.
    pub(crate) values: Vec<f64>,
}

const WIDTH: f64 = 1120.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 56.0;
const STRIP: f64 = 96.0;
const SPACE: f64 = 22.0;
const PROBABILITY: f64 = 44.0;

/// Writes a picture into a file, in the format its name asks for.
pub(crate) fn write(file: &Path, svg: &str) -> anyhow::Result<()> {
    let extension =
        file.extension().and_then(|extension| extension.to_str()).unwrap_or("").to_ascii_lowercase();
    match extension.as_str() {
        "svg" => Ok(std::fs::write(file, svg)?),
        #[cfg(feature = "png")]
        "png" => Ok(std::fs::write(file, png(svg)?)?),
        #[cfg(not(feature = "png"))]
        "png" => anyhow::bail!("this build draws SVG only: name it .svg, or build it with the feature `png`"),
        _ => anyhow::bail!("its name must end in .svg or .png"),
    }
}

/// The same picture in pixels, two for each unit. Text is set in the fonts of this machine.
#[cfg(feature = "png")]
fn png(svg: &str) -> anyhow::Result<Vec<u8>> {
    use anyhow::Context as _;
    use resvg::{tiny_skia, usvg};
    let mut options = usvg::Options { font_family: "DejaVu Sans".into(), ..usvg::Options::default() };
    options.fontdb_mut().load_system_fonts();
    if options.fontdb.is_empty() {
        tracing::warn!(
            "this machine has no fonts, so the picture has no words; install some, or name it .svg"
        );
    }
    let tree = usvg::Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size().scale_by(2.0).context("the picture is too large")?;
    let mut pixels =
        tiny_skia::Pixmap::new(size.width(), size.height()).context("the picture is too large")?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(2.0, 2.0), &mut pixels.as_mut());
    Ok(pixels.encode_png()?)
}

/// The picture.
pub(crate) fn svg(plot: &Plot) -> String {
    let inner = WIDTH - LEFT - RIGHT;
    let (from, to) = (plot.t_ms.first().copied().unwrap_or(0), plot.t_ms.last().copied().unwrap_or(1));
    let span = (to - from).max(1) as f64;
    let x = |t: i64| LEFT + inner * ((t - from) as f64 / span).clamp(0.0, 1.0);
    let strips_end = TOP + plot.channels.len() as f64 * (STRIP + SPACE);
    let plot_end = strips_end + PROBABILITY;
    let height = plot_end + 40.0;

    let mut out = String::new();
    // Writing to a String cannot fail, so the results of write! are of no interest here.
    let _ = write!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="Inter, 'DejaVu Sans', 'Helvetica Neue', sans-serif" font-size="11" fill="#5b6472"><rect width="100%" height="100%" fill="#ffffff"/><text x="{LEFT}" y="24" font-size="15" font-weight="600" fill="#1b2430">{}</text>"##,
        escape(&plot.title)
    );
    for &(a, b) in &plot.anomalies {
        let width = (x(b) - x(a)).max(1.5);
        let _ = write!(
            out,
            r##"<rect x="{:.1}" y="{TOP}" width="{width:.1}" height="{:.1}" fill="#e5484d" opacity="0.14"/>"##,
            x(a),
            plot_end - TOP
        );
    }
    for &(a, b) in &plot.truth {
        let width = (x(b) - x(a)).max(1.5);
        let _ = write!(
            out,
            r##"<rect x="{:.1}" y="{:.1}" width="{width:.1}" height="4" rx="2" fill="#8e6bd8"/>"##,
            x(a),
            TOP - 12.0
        );
    }
    legend(&mut out, !plot.truth.is_empty());
    for (t, label) in time_ticks(from, to) {
        let _ = write!(
            out,
            r##"<line x1="{0:.1}" x2="{0:.1}" y1="{TOP}" y2="{plot_end}" stroke="#eceff3"/><text x="{0:.1}" y="{1:.1}" text-anchor="middle">{label}</text>"##,
            x(t),
            plot_end + 18.0
        );
    }
    for (index, strip) in plot.channels.iter().enumerate() {
        let top = TOP + index as f64 * (STRIP + SPACE);
        draw_strip(&mut out, strip, plot, top, inner);
    }
    draw_probability(&mut out, plot, strips_end, inner);
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String, truth: bool) {
    let mut at = WIDTH - RIGHT - 92.0;
    let _ = write!(
        out,
        r##"<rect x="{at}" y="15" width="12" height="10" fill="#e5484d" opacity="0.3"/><text x="{}" y="24">anomaly found</text>"##,
        at + 17.0
    );
    if truth {
        at -= 96.0;
        let _ = write!(
            out,
            r##"<rect x="{at}" y="18" width="12" height="4" rx="2" fill="#8e6bd8"/><text x="{}" y="24">known fault</text>"##,
            at + 17.0
        );
    }
}

fn draw_strip(out: &mut String, strip: &Strip, plot: &Plot, top: f64, inner: f64) {
    let columns = columns(&plot.t_ms, &strip.values, inner as usize);
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for column in columns.iter().flatten() {
        (low, high) = (low.min(column.min), high.max(column.max));
    }
    let _ = write!(
        out,
        r##"<text x="{LEFT}" y="{:.1}" fill="#1b2430" font-weight="500">{}</text>"##,
        top - 4.0,
        escape(&strip.name)
    );
    if low > high {
        let _ = write!(out, r#"<text x="{}" y="{}">no values</text>"#, LEFT + 8.0, top + STRIP / 2.0);
        return;
    }
    let margin = if high > low { (high - low) * 0.06 } else { high.abs().max(1.0) * 0.05 };
    let (low, high) = (low - margin, high + margin);
    let y = |value: f64| top + STRIP * (1.0 - (value - low) / (high - low));
    for tick in value_ticks(low, high, 4) {
        let _ = write!(
            out,
            r##"<line x1="{LEFT}" x2="{}" y1="{1:.1}" y2="{1:.1}" stroke="#eceff3"/><text x="{2}" y="{3:.1}" text-anchor="end">{4}</text>"##,
            WIDTH - RIGHT,
            y(tick),
            LEFT - 8.0,
            y(tick) + 4.0,
            number(tick)
        );
    }
    let (mut band, mut back, mut line) = (String::new(), String::new(), String::new());
    let flush = |band: &mut String, back: &mut String, out: &mut String| {
        if !band.is_empty() {
            let _ = write!(out, r##"<path d="M{band}L{back}Z" fill="#2f6fed" opacity="0.25"/>"##);
        }
        band.clear();
        back.clear();
    };
    let mut pen_down = false;
    for (index, column) in columns.iter().enumerate() {
        let Some(Column { min, mean, max }) = column else {
            flush(&mut band, &mut back, out);
            pen_down = false;
            continue;
        };
        let x = LEFT + index as f64 + 0.5;
        let _ = write!(band, "{x:.1} {:.1} ", y(*max));
        back.insert_str(0, &format!("{x:.1} {:.1} ", y(*min)));
        let _ = write!(line, "{}{x:.1} {:.1}", if pen_down { "L" } else { "M" }, y(*mean));
        pen_down = true;
    }
    flush(&mut band, &mut back, out);
    let _ = write!(out, r##"<path d="{line}" fill="none" stroke="#2f6fed" stroke-width="1.2"/>"##);
}

fn draw_probability(out: &mut String, plot: &Plot, top: f64, inner: f64) {
    let _ = write!(
        out,
        r##"<text x="{LEFT}" y="{:.1}" fill="#1b2430" font-weight="500">probability of an anomaly</text><text x="{}" y="{:.1}" text-anchor="end">1</text><text x="{1}" y="{}" text-anchor="end">0</text>"##,
        top - 4.0,
        LEFT - 8.0,
        top + 8.0,
        top + PROBABILITY
    );
    let base = top + PROBABILITY;
    for (index, column) in columns(&plot.t_ms, &plot.probability, inner as usize).iter().enumerate() {
        if let Some(column) = column {
            let x = LEFT + index as f64 + 0.5;
            let y = base - PROBABILITY * column.max.clamp(0.0, 1.0);
            let _ = write!(out, r##"<path d="M{x:.1} {base}V{y:.1}" stroke="#e5484d" opacity="0.8"/>"##);
        }
    }
    let _ = write!(
        out,
        r##"<line x1="{LEFT}" x2="{}" y1="{base}" y2="{base}" stroke="#c4cad4"/>"##,
        WIDTH - RIGHT
    );
}

/// What one pixel column stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Column {
    min: f64,
    mean: f64,
    max: f64,
}

/// Reduces a channel to `count` columns of equal time. A column without a reading takes the one before it when readings
/// are further apart than columns, so that slow sources still give a line; a real hole stays a hole.
fn columns(t_ms: &[i64], values: &[f64], count: usize) -> Vec<Option<Column>> {
    let mut columns: Vec<Option<(Column, u32)>> = vec![None; count];
    let (Some(&from), Some(&to)) = (t_ms.first(), t_ms.last()) else { return vec![None; count] };
    let span = (to - from).max(1) as f64;
    for (&t, &value) in t_ms.iter().zip(values) {
        if !value.is_finite() {
            continue;
        }
        let at = (((t - from) as f64 / span) * count as f64) as usize;
        let cell = &mut columns[at.min(count - 1)];
        let (column, n) = cell.get_or_insert((Column { min: value, mean: 0.0, max: value }, 0));
        column.min = column.min.min(value);
        column.max = column.max.max(value);
        column.mean += value;
        *n += 1;
    }
    let usual_gap = (count as f64 / t_ms.len().max(1) as f64 * 3.0).ceil() as usize + 1;
    let mut last: Option<(usize, Column)> = None;
    let mut filled = Vec::with_capacity(count);
    for (index, cell) in columns.into_iter().enumerate() {
        let column = cell.map(|(column, n)| Column { mean: column.mean / f64::from(n), ..column });
        if let Some(column) = column {
            last = Some((index, column));
        }
        let held = last.filter(|(at, _)| index - at <= usual_gap).map(|(_, column)| Column {
            min: column.mean,
            mean: column.mean,
            max: column.mean,
        });
        filled.push(column.or(held));
    }
    filled
}

/// Round numbers inside `low..high`, about `count` of them: steps of 1, 2 or 5 times a power of ten.
fn value_ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let raw = (high - low) / count as f64;
    if !(raw.is_finite() && raw > 0.0) {
        return Vec::new();
    }
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= raw).unwrap_or(raw);
    let first = (low / step).ceil() as i64;
    (first..first.saturating_add(20)).map(|n| n as f64 * step).take_while(|tick| *tick <= high).collect()
}

/// Times on round minutes, hours or days, with a label as long as the span needs.
fn time_ticks(from: i64, to: i64) -> Vec<(i64, String)> {
    const STEPS_S: [i64; 16] = [
        1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400, 604_800, 2_592_000,
        31_536_000,
    ];
    let span_s = (to - from).max(1) / 1000;
    let step = STEPS_S.into_iter().find(|step| span_s / step <= 9).unwrap_or(span_s.max(1)) * 1000;
    let mut ticks = Vec::new();
    let mut t = from.div_euclid(step) * step;
    while t <= to && ticks.len() < 32 {
        if t >= from
            && let Ok(at) = jiff::Timestamp::from_millisecond(t)
        {
            let at = at.to_zoned(jiff::tz::TimeZone::UTC);
            let form = match step / 1000 {
                ..60 => "%H:%M:%S",
                60..43_200 => "%H:%M",
                43_200..604_800 => "%b %-d %H:%M",
                _ => "%Y-%m-%d",
            };
            ticks.push((t, at.strftime(form).to_string()));
        }
        t += step;
    }
    ticks
}

fn number(value: f64) -> String {
    let text = if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) {
        format!("{value:.1e}")
    } else {
        format!("{value:.3}")
    };
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(value_ticks(0.3, 9.7, 4), [5.0]);
        assert_eq!(value_ticks(0.0, 8.0, 4), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(value_ticks(f64::NAN, 1.0, 4), Vec::<f64>::new());
        let minutes = time_ticks(1_767_225_630_000, 1_767_225_630_000 + 360_000);
        let labels: Vec<_> = minutes.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["00:01", "00:02", "00:03", "00:04", "00:05", "00:06"]);
    }

    #[test]
    fn a_spike_survives_the_reduction_and_a_hole_stays_a_hole() {
        let t_ms: Vec<i64> = (0..10_000).collect();
        let mut values = vec![1.0; 10_000];
        values[5_003] = 50.0;
        values[7_000..8_000].fill(f64::NAN);
        let columns = columns(&t_ms, &values, 100);
        assert_eq!(columns[50].unwrap().max, 50.0);
        assert!(columns[75].is_none());
        assert_eq!(columns[10], Some(Column { min: 1.0, mean: 1.0, max: 1.0 }));
    }

    #[cfg(feature = "png")]
    #[test]
    fn pixels_are_twice_the_size() {
        let picture = png(&svg(&Plot::default())).unwrap();
        assert_eq!(picture[..8], *b"\x89PNG\r\n\x1a\n");
        // The header's first field is the width.
        assert_eq!(u32::from_be_bytes(picture[16..20].try_into().unwrap()), 2 * WIDTH as u32);
    }

    #[test]
    fn names_are_escaped_and_nothing_breaks_on_emptiness() {
        let strip = Strip { name: "<b>&".into(), values: vec![f64::NAN, f64::NAN] };
        let plot = Plot { t_ms: vec![0, 1], channels: vec![strip], ..Plot::default() };
        let text = svg(&plot);
        assert!(text.contains("&lt;b&gt;&amp;") && text.contains("no values") && text.ends_with("</svg>\n"));
        assert!(svg(&Plot::default()).starts_with("<svg"));
    }
}
