// Sets the chosen theme before the first paint; without a choice the system's is used.
"use strict";
(() => {
  let theme = new URLSearchParams(location.hash.slice(1)).get("theme");
  try { theme ??= localStorage.getItem("theme"); } catch { /* storage may be off */ }
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
})();
