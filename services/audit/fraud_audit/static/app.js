"use strict";
// Keys, the theme's switch and small conveniences. Every page works without this file.
(() => {
  const goals = { o: "/", q: "/manual_labeling", d: "/dashboard", f: "/frauds", l: "/non_frauds", x: "/false_cases", c: "/cases", a: "/alerts" };
  let leader = 0;
  let busy = false;

  const typing = (target) => target instanceof HTMLElement && target.matches("input, textarea, select");
  const find = (selector) => document.querySelector(selector);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (find("dialog[open]")) return;
    const key = event.key;
    if (leader && Date.now() - leader < 1500 && goals[key]) {
      event.preventDefault();
      leader = 0;
      location.assign(goals[key]);
      return;
    }
    leader = key === "g" ? Date.now() : 0;
    if (key === "?") find("#keys")?.showModal();
    else if (key === "/") focus(event, "[data-search]");
    else if (key === "n") focus(event, "[data-note]");
    else press(event, key);
  });

  function focus(event, selector) {
    const field = find(selector);
    if (!field) return;
    event.preventDefault();
    field.focus();
  }

  // One key decides one case: repeats and keys while the next case is on its way are not for it.
  function press(event, key) {
    const button = /^[a-z]$/.test(key) ? find(`[data-key="${key}"]`) : null;
    if (!button || busy || event.repeat) return;
    event.preventDefault();
    button.click();
  }

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target?.id === "workspace") busy = true;
  });
  document.addEventListener("htmx:afterRequest", () => { busy = false; });
  document.addEventListener("htmx:afterSwap", () => {
    if (find("[data-focus]")) scrollTo(0, 0);
    prepare();
  });
  document.addEventListener("htmx:sendError", () => {
    const place = find("[aria-live]");
    if (place) place.textContent = "The server does not answer: nothing was stored. Try again.";
  });
  document.addEventListener("submit", (event) => {
    // A plain form is sent once.
    const form = event.target;
    if (form.hasAttribute("hx-post") || form.method !== "post") return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
  addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent));

  find("[data-theme-switch]")?.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
    document.dispatchEvent(new Event("theme"));
  });

  // The next case comes into a page that stays or, where a form was sent the plain way, as a new page.
  function prepare() {
    const heading = find("[data-focus]");
    if (heading && !typing(document.activeElement)) heading.focus({ preventScroll: true });
    const undo = find("[data-fades]");
    if (undo) setTimeout(() => undo.remove(), Number(undo.dataset.fades) * 1000);
  }

  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
  const field = find("[data-zone]");
  if (field) field.value = zone;
  prepare();
})();
