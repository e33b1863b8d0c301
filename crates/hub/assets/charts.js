// The charts of a node: one panel a channel with a band from the smallest to the largest value and a line for the mean,
// anomalies shaded through all of them, a bar for each alert, a strip for the probability. One cursor for all.
// Drawn as SVG from /series, then kept up by events. Every text goes in as textContent.
"use strict";
(() => {
  const box = document.getElementById("charts");
  if (!box) return;
  const { node, source, span, from, to } = box.dataset;
  const fixed = from !== undefined, spanMs = fixed ? to - from : Number(span);
  const url = `/api/v1/nodes/${node}/series?source=${encodeURIComponent(source)}&points=360` +
    (fixed ? `&from_ms=${from}&to_ms=${to}` : `&span_ms=${spanMs}`);
  const LEFT = 46, RIGHT = 8, HEIGHT = 104;
  let data, panels = [], cursor = null, width = 0, drawn = false, onEdge = true, skew = 0;

  // Small builders.
  const el = (name, attributes = {}, ...children) => {
    const it = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) it.setAttribute(key, value);
    it.append(...children);
    return it;
  };
  const tag = (name, className, text) => {
    const it = document.createElement(name);
    if (className) it.className = className;
    if (text !== undefined) it.textContent = text;
    return it;
  };
  const ok = Number.isFinite;

  // Numbers for people: four digits or so; ticks at 1, 2 or 5 times a power of ten.
  const short = value => {
    if (!ok(value)) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e7 || size < 1e-4)) return value.toExponential(2);
    const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
    return String(Number(value.toFixed(digits)));
  };
  const ticks = (low, high, count) => {
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= raw * 0.999);
    if (!ok(step) || step <= 0) return [];
    const out = [];
    for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9 && out.length < 12; n++) out.push(n * step);
    return out;
  };
  const tickText = (value, all) => {
    const step = all.length > 1 ? Math.abs(all[1] - all[0]) : Math.abs(value) || 1;
    if (Math.abs(value) >= 1e6 || step < 1e-4) return value === 0 ? "0" : value.toExponential(1);
    let digits = 0;
    while (digits < 5 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) digits++;
    return (Math.abs(value) < step / 1e6 ? 0 : value).toFixed(digits);
  };
  const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000].map(s => s * 1000);
  const timeTicks = (a, b, count) => {
    const step = STEPS.find(s => (b - a) / s <= count) ?? (b - a) / count;
    const zone = new Date(a).getTimezoneOffset() * 60000, out = [];
    for (let t = Math.ceil((a - zone) / step) * step + zone; t <= b && out.length < 20; t += step) out.push(t);
    return { step, out };
  };
  const timeText = (ms, step) => {
    const options = step >= 86400000 ? { day: "numeric", month: "short" }
      : { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(step < 60000 ? { second: "2-digit" } : {}) };
    return new Date(ms).toLocaleString(undefined, options);
  };
  // Units that a channel's name ends in, by our own habit of units last: only endings that mean nothing else.
  const UNITS = { bar: "bar", kpa: "kPa", mbar: "mbar", rpm: "rpm", hz: "Hz", khz: "kHz", pct: "%", percent: "%", kw: "kW", kwh: "kWh",
    degc: "°C", celsius: "°C", mv: "mV", ma: "mA", kn: "kN", ms: "ms", mm: "mm", lux: "lx", ppm: "ppm", l_min: "l/min", m3_h: "m³/h", m3h: "m³/h", mm_s: "mm/s", m_s: "m/s", ml_h: "ml/h", temp_c: "°C", temperature_c: "°C" };
  const unitOf = channel => {
    const words = channel.toLowerCase().split(/[_ .-]/);
    return UNITS[words.slice(-2).join("_")] ?? UNITS[words.at(-1)] ?? "";
  };

  const stretch = () => {
    if (fixed) return [data.from_ms, data.to_ms];
    const edge = onEdge ? Math.max(selvedge.now() + skew, data.latest_ms ?? 0) : data.latest_ms ?? data.to_ms;
    return [edge - spanMs, edge];
  };

  // Points that hang together; a gap longer than three usual steps breaks the line.
  const runs = (t, has) => {
    const gap = Math.max((data.typical_ms ?? 0) * 3, spanMs / 360 * 3), out = [];
    let last = null;
    for (let i = 0; i < t.length; i++) {
      if (!has(i)) { last = null; continue; }
      if (last !== null && t[i] - t[last] <= gap) out.at(-1).push(i); else out.push([i]);
      last = i;
    }
    return out;
  };

  const build = () => {
    panels = [];
    const make = (title, unit, height, kind, it) => {
      const root = tag("div", "panel"), head = tag("header"), svg = el("svg", { height, role: "img" });
      const now = tag("span", "now");
      head.append(tag("b", "", title), tag("span", "unit", unit), now);
      root.append(head, svg);
      panels.push({ root, svg, now, height, kind, it, title, unit });
      return root;
    };
    const roots = data.alerts.length ? [make("alerts", "", 10 + 8 * Math.min(data.alerts.length, 4), "alerts")] : [];
    for (const channel of data.channels) roots.push(make(channel.channel, unitOf(channel.channel), HEIGHT, "channel", channel));
    for (const model of data.models) roots.push(make(model.model, "probability of an anomaly", 44, "model", model));
    if (!data.channels.length) {
      box.replaceChildren(tag("p", "calm", "Nothing was measured in this stretch of time."));
      return;
    }
    const last = panels.at(-1);
    last.axis = true;
    const legend = tag("div", "legend");
    const entry = (className, text) => {
      const it = tag("span"), i = tag("i", className);
      it.append(i, text);
      return it;
    };
    legend.append(entry("", "smallest to largest, mean as a line"));
    if (data.episodes.length) legend.append(entry("a", "anomaly"), entry("l", "driven by this channel"));
    if (data.channels_left_out) legend.append(tag("span", "", `${data.channels_left_out} more channels are not drawn`));
    last.when = tag("span", "", "");
    legend.append(last.when);
    roots.push(legend);
    box.replaceChildren(...roots);
  };

  const draw = () => {
    drawn = false;
    if (!data || !panels.length) return;
    width = Math.max(box.clientWidth - parseFloat(getComputedStyle(box).paddingLeft) * 2, 120);
    const [a, b] = stretch(), plot = width - LEFT - RIGHT;
    const x = ms => LEFT + Math.min(Math.max((ms - a) / (b - a), -0.1), 1.1) * plot;
    const time = timeTicks(a, b, Math.max(2, Math.floor(plot / 110)));
    for (const panel of panels) {
      const axis = panel.axis ? 20 : 0, h = panel.height, svg = panel.svg;
      svg.setAttribute("viewBox", `0 0 ${width} ${h + axis}`);
      svg.setAttribute("height", h + axis);
      // Lines come in from beyond the edges; they are cut there.
      const id = `clip-${panels.indexOf(panel)}`, parts = [];
      parts.push(el("clipPath", { id }, el("rect", { x: LEFT, y: 0, width: plot, height: h })));
      panel.clip = { "clip-path": `url(#${id})` };
      for (const t of time.out) {
        parts.push(el("line", { class: "rule", x1: x(t), x2: x(t), y1: 0, y2: h }));
        if (axis && x(t) > LEFT + 12 && x(t) < width - 18) {
          const text = el("text", { x: x(t), y: h + 15, "text-anchor": "middle" });
          text.textContent = timeText(t, time.step);
          parts.push(text);
        }
      }
      if (panel.kind === "channel") drawChannel(panel, parts, x, a, b);
      else if (panel.kind === "model") drawModel(panel, parts, x, a, b);
      else drawAlerts(panel, parts, x, a, b);
      panel.cursor = el("g");
      parts.push(panel.cursor);
      svg.replaceChildren(...parts);
    }
    drawCursor();
  };
  const soon = () => { if (!drawn) { drawn = true; requestAnimationFrame(draw); } };

  const shade = (panel, parts, x, a, b) => {
    for (const episode of data.episodes) {
      const end = episode.ended_ms ?? b;
      if (end < a || episode.since_ms > b) continue;
      const left = Math.max(x(episode.since_ms), LEFT), right = Math.max(Math.min(x(end), width - RIGHT), left + 2);
      const lead = panel.kind === "channel" && episode.channels.some(share => share.channel === panel.it.channel && share.share >= 0.3);
      parts.push(el("rect", { class: lead ? "mark lead" : "mark", x: left, y: 0, width: right - left, height: panel.height }));
      if (x(episode.since_ms) >= LEFT) parts.push(el("line", { class: "edge", x1: left, x2: left, y1: 0, y2: panel.height }));
    }
  };

  const drawChannel = (panel, parts, x, a, b) => {
    const { min, mean, max } = panel.it, t = data.t_ms, h = panel.height;
    let low = Infinity, high = -Infinity;
    for (let i = 0; i < t.length; i++) if (t[i] >= a - data.typical_ms && t[i] <= b) {
      if (min[i] !== null && min[i] < low) low = min[i];
      if (max[i] !== null && max[i] > high) high = max[i];
    }
    if (!ok(low) || !ok(high)) [low, high] = [0, 1];
    const pad = (high - low) * 0.08 || Math.abs(high) * 0.05 || 0.5;
    [low, high] = [low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad];
    const y = value => h - 3 - (value - low) / (high - low) * (h - 6);
    const marks = ticks(low, high, 4);
    for (const value of marks) {
      parts.push(el("line", { class: "rule", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
      const text = el("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" });
      text.textContent = tickText(value, marks);
      parts.push(text);
    }
    shade(panel, parts, x, a, b);
    let line = "", band = "";
    for (const run of runs(t, i => mean[i] !== null && t[i] >= a - (data.typical_ms ?? 0) && t[i] <= b)) {
      if (run.length === 1) {
        if (t[run[0]] >= a) parts.push(el("circle", { class: "spot", cx: x(t[run[0]]), cy: y(mean[run[0]]), r: 2.5 }));
        continue;
      }
      run.forEach((i, n) => { line += `${n ? "L" : "M"}${x(t[i]).toFixed(1)} ${y(mean[i]).toFixed(1)}`; });
      run.forEach((i, n) => { band += `${n ? "L" : "M"}${x(t[i]).toFixed(1)} ${y(max[i] ?? mean[i]).toFixed(1)}`; });
      for (const i of [...run].reverse()) band += `L${x(t[i]).toFixed(1)} ${y(min[i] ?? mean[i]).toFixed(1)}`;
      band += "Z";
    }
    parts.push(el("g", panel.clip, el("path", { class: "band", d: band }), el("path", { class: "line", d: line })));
    parts.push(el("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: h, y2: h }));
    panel.y = y;
    panel.svg.setAttribute("aria-label", `${panel.title}: now ${short(mean.findLast(v => v !== null) ?? NaN)}, between ${short(low + pad)} and ${short(high - pad)}`);
  };

  const drawModel = (panel, parts, x, a, b) => {
    const p = panel.it.probability, score = panel.it.score, t = data.t_ms, h = panel.height;
    const y = value => h - 2 - value * (h - 4);
    for (const value of [0, 0.5, 1]) {
      parts.push(el("line", { class: value ? "rule" : "axis", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
      const text = el("text", { x: LEFT - 8, y: y(value) + (value === 1 ? 8 : value ? 4 : 0), "text-anchor": "end" });
      text.textContent = value;
      parts.push(text);
    }
    // Where the model scored without a probability it was still learning.
    for (const run of runs(t, i => p[i] === null && score[i] !== null && t[i] >= a && t[i] <= b)) {
      const left = x(t[run[0]]), right = x(t[run.at(-1)]);
      parts.push(el("rect", { class: "learning", x: left, y: y(1), width: Math.max(right - left, 2), height: h - 4 }));
      if (right - left > 60) {
        const text = el("text", { x: (left + right) / 2, y: h / 2 + 4, "text-anchor": "middle" });
        text.textContent = "learning";
        parts.push(text);
      }
    }
    let line = "", area = "";
    for (const run of runs(t, i => p[i] !== null && t[i] >= a - (data.typical_ms ?? 0) && t[i] <= b)) {
      run.forEach((i, n) => { line += `${n ? "L" : "M"}${x(t[i]).toFixed(1)} ${y(p[i]).toFixed(1)}`; });
      area += `M${x(t[run[0]]).toFixed(1)} ${y(0)}` + run.map(i => `L${x(t[i]).toFixed(1)} ${y(p[i]).toFixed(1)}`).join("") + `L${x(t[run.at(-1)]).toFixed(1)} ${y(0)}Z`;
    }
    parts.push(el("g", panel.clip, el("path", { class: "chance", d: area }), el("path", { class: "chance-line", d: line })));
    panel.y = y;
    panel.svg.setAttribute("aria-label", `${panel.title}: probability of an anomaly, now ${short(p.findLast(v => v !== null) ?? NaN)}`);
  };

  const drawAlerts = (panel, parts, x, a, b) => {
    const rows = [];
    for (const alert of data.alerts) {
      const end = alert.cleared_ms ?? b;
      if (end < a || alert.fired_ms > b) continue;
      let row = rows.findIndex(until => until < alert.fired_ms);
      if (row < 0) row = rows.length < 4 ? rows.push(0) - 1 : 3;
      rows[row] = end;
      const left = Math.max(x(alert.fired_ms), LEFT);
      const bar = el("rect", { class: `fire ${alert.severity}`, x: left, y: 4 + row * 8, width: Math.max(Math.min(x(end), width - RIGHT) - left, 3), height: 5, rx: 2.5 });
      const title = el("title");
      title.textContent = `${alert.rule}: ${alert.why}`;
      bar.append(title);
      parts.push(bar);
    }
    panel.svg.setAttribute("aria-label", `${data.alerts.length} alerts in this stretch of time`);
  };

  const drawCursor = () => {
    const [a, b] = stretch(), t = data.t_ms;
    let at = null;
    if (cursor !== null && t.length) {
      const ms = a + Math.min(Math.max((cursor - LEFT) / (width - LEFT - RIGHT), 0), 1) * (b - a);
      let low = 0, high = t.length - 1;
      while (low < high) { const mid = low + high >> 1; if (t[mid] < ms) low = mid + 1; else high = mid; }
      at = low > 0 && ms - t[low - 1] < t[low] - ms ? low - 1 : low;
    }
    const px = at === null ? 0 : LEFT + (t[at] - a) / (b - a) * (width - LEFT - RIGHT);
    for (const panel of panels) {
      const parts = [];
      if (at !== null && px >= LEFT) parts.push(el("line", { class: "cursor", x1: px, x2: px, y1: 0, y2: panel.height }));
      const last = values => at ?? values.findLastIndex(value => value !== null);
      if (panel.kind === "channel") {
        const { min, mean, max } = panel.it, i = last(mean);
        if (at !== null && px >= LEFT && mean[i] !== null && panel.y) parts.push(el("circle", { class: "spot", cx: px, cy: panel.y(mean[i]), r: 4 }));
        panel.now.replaceChildren(short(mean[i] ?? NaN), tag("i", "", `${short(min[i] ?? NaN)} … ${short(max[i] ?? NaN)}`));
      } else if (panel.kind === "model") {
        const { probability, score } = panel.it, i = last(score), p = probability[i];
        panel.now.replaceChildren(p === null || p === undefined ? "learning" : p >= 0.999 ? "> 0.999" : p.toFixed(3), tag("i", "", `score ${short(score[i] ?? NaN)}`));
      } else {
        const firing = data.alerts.filter(alert => alert.cleared_ms === null);
        panel.now.replaceChildren(firing.length ? `${firing.map(alert => alert.rule).join(", ")} firing` : "", tag("i", "", `${data.alerts.length} in view`));
      }
      panel.cursor.replaceChildren(...parts);
      if (panel.when) panel.when.textContent = at === null ? `${selvedge.local(a)} – ${selvedge.local(b)}` : selvedge.local(t[at]);
    }
  };

  // The reader's hand: pointer, keys.
  box.addEventListener("pointermove", event => {
    cursor = event.clientX - box.getBoundingClientRect().left - parseFloat(getComputedStyle(box).paddingLeft);
    if (data && panels.length && !drawn) drawCursor();
  });
  const leave = () => { cursor = null; if (data && panels.length) drawCursor(); };
  box.addEventListener("pointerleave", leave);
  box.addEventListener("blur", leave);
  box.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") return leave();
    if (!step || !data || !panels.length) return;
    event.preventDefault();
    cursor = Math.min(Math.max((cursor ?? width - RIGHT) + step * Math.max((width - LEFT - RIGHT) / 360, 2) * (event.shiftKey ? 10 : 1), LEFT), width - RIGHT);
    drawCursor();
  });

  // The data: all of it at first and when marks change, then a point at a time.
  let loading = false, again = false, timer, due = Infinity;
  const load = async () => {
    if (loading) { again = true; return; }
    loading = true;
    try {
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(answer.status);
      const fresh = await answer.json();
      const same = data && panels.length && fresh.alerts.length === data.alerts.length && fresh.episodes.length === data.episodes.length
        && fresh.channels.map(c => c.channel).join() === data.channels.map(c => c.channel).join() && fresh.models.length === data.models.length;
      data = fresh;
      skew = data.now_ms - selvedge.now();
      onEdge = data.latest_ms === null || data.to_ms >= data.now_ms - 1000 && data.latest_ms <= data.now_ms + 120000;
      if (same) for (const panel of panels) {
        if (panel.kind === "channel") panel.it = data.channels.find(c => c.channel === panel.title);
        if (panel.kind === "model") panel.it = data.models.find(m => m.model === panel.title);
      } else build();
      soon();
    } catch { /* the still picture, or the last one, stays */ }
    loading = false;
    if (again) { again = false; reload(300); }
  };
  const reload = ms => {
    const at = Date.now() + ms;
    if (at >= due) return;
    clearTimeout(timer);
    due = at;
    timer = setTimeout(() => { due = Infinity; load(); }, ms);
  };

  const append = summary => {
    const step = spanMs / 360, t = data.t_ms, lastAt = t.length - 1;
    if (summary.to_ms < (t[lastAt] ?? -Infinity)) return reload(2000);
    const known = summary.channels.every(c => data.channels.some(k => k.channel === c.channel));
    const modelled = (summary.models ?? []).every(m => data.models.some(k => k.model === m.model));
    if (!t.length || !known || !modelled) return reload(300);
    // Several summaries make one point: the hub weighs them.
    if (Math.floor(summary.to_ms / step) === Math.floor(t[lastAt] / step)) return reload(Math.min(step, 15000));
    t.push(summary.to_ms);
    for (const channel of data.channels) {
      const fresh = summary.channels.find(c => c.channel === channel.channel);
      for (const what of ["min", "mean", "max"]) channel[what].push(fresh?.[what] ?? null);
    }
    for (const model of data.models) {
      const fresh = (summary.models ?? []).find(m => m.model === model.model);
      model.score.push(fresh?.score ?? null);
      model.probability.push(fresh?.probability ?? null);
    }
    data.latest_ms = Math.max(data.latest_ms ?? summary.to_ms, summary.to_ms);
    // What has left the picture is let go, a whole stretch at a time.
    if (t.length > 1100) {
      const cut = t.findIndex(ms => ms >= stretch()[0]);
      if (cut > 300) {
        t.splice(0, cut);
        for (const c of data.channels) for (const list of [c.min, c.mean, c.max]) list.splice(0, cut);
        for (const m of data.models) for (const list of [m.score, m.probability]) list.splice(0, cut);
      } else reload(300);
    }
    soon();
  };

  const mine = handler => event => { if (event.body === null) reload(1000); else if (event.body.source === source) handler(event.body); };
  const follow = () => selvedge.follow(`/api/v1/nodes/${node}/live`, {
    summary: mine(body => { if (data && !fixed) append(body); }),
    inference: mine(() => reload(300)), decision: mine(() => reload(300)), lagged: () => reload(300),
    node: event => {
      const pill = document.getElementById("state"), seen = document.querySelector("#seen time");
      if (pill) { pill.textContent = event.state; pill.className = `pill ${event.state === "up" ? "good" : "warning"}`; }
      if (seen) { seen.dataset.ms = event.seen_ms; selvedge.times(); }
    },
  });
  new ResizeObserver(soon).observe(box);
  // Time passes even when nothing comes.
  if (!fixed) setInterval(() => { if (onEdge && !document.hidden) soon(); }, spanMs <= 1800000 ? 1000 : 10000);
  load().then(follow);
})();
