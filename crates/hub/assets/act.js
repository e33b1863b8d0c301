// What hands do: keys, a second press where one cannot be taken back, and copying. Every page works without it.
"use strict";
(() => {
  const pages = { o: "/", f: "/nodes", r: "/rollouts", e: "/experiments", p: "/packages", g: "/groups", l: "/alerts", a: "/audit",
    s: "/settings", n: "/rollouts/new", i: "/enrol" };
  const dialog = document.getElementById("keys");
  const writes = element => element?.matches?.("input, textarea, select, [contenteditable]");
  // `g` waits a second for the letter behind it.
  let went = 0;
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.key === "Escape") {
      if (writes(document.activeElement)) document.activeElement.blur();
      for (const open of document.querySelectorAll("details.others[open]")) open.open = false;
      return;
    }
    if (writes(event.target) || dialog?.open && event.key !== "?") return;
    if (Date.now() - went < 1000) {
      went = 0;
      const page = pages[event.key];
      if (page) {
        event.preventDefault();
        location.assign(page);
      }
    } else if (event.key === "g") {
      went = Date.now();
    } else if (event.key === "/") {
      const search = document.querySelector("main form[role=search] input:not([type=hidden]), main input[name=where]");
      event.preventDefault();
      if (search) {
        search.focus();
        search.select();
      } else {
        location.assign("/nodes");
      }
    } else if (event.key === "?" && dialog) {
      event.preventDefault();
      dialog.open ? dialog.close() : dialog.showModal();
    }
  });

  // The first press of a button that cannot be taken back only asks.
  document.addEventListener("click", event => {
    const button = event.target.closest?.("button[data-sure]");
    if (!button || button.dataset.asked) return;
    event.preventDefault();
    const words = button.textContent;
    button.dataset.asked = "yes";
    button.textContent = button.dataset.sure;
    button.classList.add("asked");
    setTimeout(() => {
      delete button.dataset.asked;
      button.textContent = words;
      button.classList.remove("asked");
    }, 4000);
  });

  // A command to paste; only where the browser lets us.
  const copies = () => {
    if (!navigator.clipboard) return;
    for (const button of document.querySelectorAll("button[data-copy]")) button.hidden = false;
  };
  document.addEventListener("click", async event => {
    const button = event.target.closest?.("button[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it by hand";
    }
  });
  // How many nodes an expression means, while it is written.
  let asks = 0;
  document.addEventListener("input", event => {
    const field = event.target, shown = document.getElementById(field.dataset?.count ?? "");
    if (!shown) return;
    const turn = ++asks;
    setTimeout(async () => {
      if (turn !== asks) return;
      const where = field.value.trim();
      shown.textContent = "";
      if (!where) return;
      try {
        const answer = await fetch(`/groups/matched?where=${encodeURIComponent(where)}`);
        const told = answer.ok ? await answer.text() : "";
        if (turn === asks) shown.textContent = told;
      } catch { /* the hub is away; the preview says so */ }
    }, 300);
  });
  copies();
  new MutationObserver(copies).observe(document.getElementById("main"), { childList: true });
})();
