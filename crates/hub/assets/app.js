// What every page does with a script: times in the reader's own zone, the theme, and following what happens.
// Pages marked `data-follow` fetch themselves again when something changed; text is escaped by the hub.
"use strict";
const selvedge = (() => {
  const root = document.documentElement;
  const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const local = ms => {
    const date = new Date(ms);
    return Number.isNaN(date.getTime()) ? "" : `${day.format(date)} ${clock.format(date)}`;
  };
  // The hub's clock less the browser's: "ago" is what the hub says it is.
  let skew = 0;
  const ago = ms => {
    const s = Math.trunc((Date.now() + skew - ms) / 1000), a = Math.abs(s);
    if (a < 5) return "just now";
    const text = a < 60 ? `${a} s` : a < 3600 ? `${Math.trunc(a / 60)} min` : a < 86400 ? `${Math.trunc(a / 3600)} h` : `${Math.trunc(a / 86400)} d`;
    return s < 0 ? `in ${text}` : `${text} ago`;
  };
  const times = () => {
    for (const time of document.querySelectorAll("time[data-ms]")) {
      const ms = Number(time.dataset.ms), here = local(ms);
      if (!here) continue;
      time.title = here;
      time.textContent = "ago" in time.dataset ? ago(ms) : here;
    }
  };
  times();
  setInterval(times, 5000);

  // Theme: system, dark, light.
  const button = document.getElementById("theme");
  if (button) {
    const show = () => { button.textContent = `Theme: ${root.dataset.theme ?? "system"}`; };
    button.hidden = false;
    button.addEventListener("click", () => {
      const next = { undefined: "dark", dark: "light" }[root.dataset.theme];
      if (next) root.dataset.theme = next; else delete root.dataset.theme;
      try { next ? localStorage.setItem("theme", next) : localStorage.removeItem("theme"); } catch { /* storage may be off */ }
      show();
      document.dispatchEvent(new Event("themechange"));
    });
    show();
  }

  // One stream of events a page, closed while nobody looks: browsers allow six a host.
  const sign = document.getElementById("live");
  const follow = (path, handlers) => {
    let source, opened = false;
    const state = (on, text) => {
      if (!sign) return;
      sign.hidden = false;
      sign.classList.toggle("off", !on);
      sign.lastElementChild.textContent = text;
    };
    const open = () => {
      source = new EventSource(path);
      source.addEventListener("open", () => {
        state(true, "Live");
        // What happened while the connection was down was not told.
        if (opened) handlers.lagged?.({ missed: 0 });
        opened = true;
      });
      source.addEventListener("error", () => state(false, source.readyState === 2 ? "Not live" : "Reconnecting"));
      source.addEventListener("hello", event => { skew = JSON.parse(event.data).hub_ms - Date.now(); });
      for (const [name, handler] of Object.entries(handlers)) source.addEventListener(name, event => handler(JSON.parse(event.data)));
    };
    document.addEventListener("visibilitychange", () => {
      source?.close();
      if (!document.hidden) open();
    });
    open();
  };

  const main = document.getElementById("main");
  if (main && "follow" in main.dataset) {
    let due = 0, timer;
    const refresh = async () => {
      timer = undefined;
      const fields = [...main.querySelectorAll("input, textarea, select")];
      const written = fields.some(field => field === document.activeElement || "defaultValue" in field && field.value !== field.defaultValue);
      if (document.hidden || written || main.querySelector("button.asked")) return;
      try {
        const answer = await fetch(location.href, { headers: { accept: "text/html" } });
        if (!answer.ok || answer.redirected) return;
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const focused = document.activeElement?.getAttribute?.("href");
        const open = [...main.querySelectorAll("details")].map(details => details.open);
        main.replaceChildren(...page.getElementById("main").childNodes);
        document.querySelector(".side nav").replaceWith(page.querySelector(".side nav"));
        const now = [...main.querySelectorAll("details")];
        if (now.length === open.length) now.forEach((details, at) => { details.open = open[at]; });
        if (focused) document.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
        times();
      } catch { /* the hub is away; the events say so */ }
    };
    const soon = ms => {
      const at = Date.now() + ms;
      if (timer && due <= at) return;
      clearTimeout(timer);
      due = at;
      timer = setTimeout(refresh, ms);
    };
    follow("/api/v1/live", {
      decision: () => soon(500), inference: () => soon(500), source: () => soon(1000),
      node: event => soon(event.state === "silent" ? 500 : 10000), summary: () => soon(10000), lagged: () => soon(500),
      rollout: () => soon(500),
    });
  }
  return { follow, local, ago, times, now: () => Date.now() + skew };
})();
