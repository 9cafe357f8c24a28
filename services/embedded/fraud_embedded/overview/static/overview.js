"use strict";

const POLL_MS = 2000;
const STALE_SECONDS = 15;
const DAY = 86400;
const whole = new Intl.NumberFormat();
const compact = new Intl.NumberFormat(undefined, { maximumFractionDigits: 3 });
const byId = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const charts = {};
let latest = 0;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function clock(seconds) {
  return seconds === null ? "–" : new Date(seconds * 1000).toLocaleTimeString();
}

function chart(id, labels, data) {
  const strokes = [colour("--accent"), colour("--attention"), colour("--safe"), colour("--danger")];
  if (charts[id]) {
    charts[id].setData(data);
    return;
  }
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  charts[id] = new uPlot({
    width: byId(id).clientWidth,
    height: 180,
    axes: [axis, { ...axis, size: 60 }],
    series: [{}, ...labels.map((label, number) => ({
      label, stroke: strokes[number], width: 2, points: { show: data[0].length < 3 },
      value: (_, value) => (value === null ? "–" : compact.format(value)),
    }))],
    scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high ?? 1) * 1.1 || 1] } },
  }, data, byId(id));
}

function rows(id, items, cells) {
  byId(`${id}-none`).hidden = items.length > 0;
  byId(id).hidden = items.length === 0;
  byId(id).tBodies[0].replaceChildren(...items.map((item) => {
    const row = element("tr");
    row.append(...cells(item));
    return row;
  }));
}

function showDrift(drift) {
  const features = Object.entries(drift?.features ?? {});
  byId("drift-none").hidden = features.length > 0;
  byId("drift").replaceChildren(...features.map(([feature, cells]) => {
    const row = element("tr");
    row.append(element("th", feature), ...cells.map((cell, number) => {
      const made = element("td", undefined, cell?.severity);
      const value = cell ? `PSI ${compact.format(cell.value ?? 0)}, ${cell.severity}` : "not measured";
      made.title = `${feature}, ${new Date(drift.at[number] * 1000).toLocaleString()}: ${value}`;
      return made;
    }));
    return row;
  }));
}

function showPerformance(performance) {
  const names = Object.keys(performance ?? {}).filter((name) => performance[name].length > 0);
  byId("performance-none").hidden = names.length > 0;
  byId("performance").hidden = names.length === 0;
  if (names.length === 0) return;
  const times = [...new Set(names.flatMap((name) => performance[name].map((one) => one.at)))].sort((a, b) => a - b);
  const lines = names.map((name) => {
    const values = new Map(performance[name].map((one) => [one.at, one.value]));
    return times.map((time) => values.get(time) ?? null);
  });
  // A single point would be drawn on an axis of its own choice.
  if (times.length === 1) {
    times.unshift(times[0] - DAY);
    lines.forEach((values) => values.unshift(null));
  }
  chart("performance", names, [times, ...lines]);
}

function showModel(model) {
  const shown = model ? {
    version: model.version,
    gate: `${model.gate_policy}, ${model.gate_passed ? "passed" : "failed"}`,
    registered: new Date(model.created_at * 1000).toLocaleString(),
    ...Object.fromEntries(["recall", "precision", "f1", "fpr", "average_precision"]
      .filter((name) => typeof model.metrics[name] === "number")
      .map((name) => [`${name.replace("_", " ")} (held out)`, compact.format(model.metrics[name])])),
  } : { version: "not in the records of versions, or no decision was made yet" };
  byId("model").replaceChildren(...Object.entries(shown).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function release(one, title) {
  const shown = {
    [title]: `version ${one.version}, ${one.state.replace("_", " ")}`
      + (one.percent > 0 ? `, ${one.percent} % of the cards; the others have version ${one.champion}` : ""),
    [one.ended === null ? "since" : "ended"]: new Date((one.ended ?? one.started) * 1000).toLocaleString(),
  };
  if (one.ended !== null) {
    if (one.reason) shown.why = one.reason;
  } else if (one.verdict) {
    shown["verdict so far"] = one.verdict.replace("_", " ");
    shown.why = one.sentence;
  } else {
    shown["verdict so far"] = "not judged yet";
  }
  const list = element("dl");
  list.append(...Object.entries(shown).flatMap(([name, value]) => {
    const level = name === title ? one.state : name === "verdict so far" ? one.verdict : "";
    return [element("dt", name), element("dd", value, level || undefined)];
  }));
  return list;
}

function showReleases(releases) {
  const { running, last } = releases ?? {};
  byId("releases-none").hidden = Boolean(running || last);
  byId("releases").replaceChildren(
    ...(running ? [release(running, "running")] : []), ...(last ? [release(last, "last")] : []));
}

function show(snapshot) {
  latest = snapshot.at;
  byId("verdict").className = snapshot.verdict.level;
  byId("sentence").textContent = snapshot.verdict.sentence;
  byId("links").replaceChildren(...Object.entries(snapshot.links).map(([name, address]) => {
    const link = document.createElement("a");
    link.href = address;
    link.textContent = name;
    return link;
  }));
  byId("parts").replaceChildren(...Object.entries(snapshot.parts).map(
    ([name, up]) => element("li", up ? name : `${name} does not answer`, up ? "up" : "")));
  for (const name of ["approve", "review", "block"]) {
    byId(name).textContent = snapshot.decisions ? whole.format(snapshot.decisions[name].count) : "–";
  }
  byId("blocked-amount").textContent = snapshot.decisions ? whole.format(Math.round(snapshot.decisions.block.amount)) : "–";
  byId("lag").textContent = snapshot.lag === null ? "unknown" : whole.format(snapshot.lag);
  if (snapshot.minutes?.at.length) {
    const minutes = snapshot.minutes;
    // The current minute is not over: it would look like a fall.
    const part = (name) => minutes[name].slice(0, -1);
    chart("throughput", ["decisions"], [part("at"), part("decisions")]);
    chart("latency", ["p50", "p99"], [part("at"), part("p50_seconds"), part("p99_seconds")]);
  }
  showPerformance(snapshot.performance);
  showModel(snapshot.model);
  showReleases(snapshot.releases);
  showDrift(snapshot.drift);
  rows("alerts", snapshot.alerts ?? [], (one) => [
    element("td", clock(one.at)), element("td", one.severity, one.severity), element("td", one.title)]);
  rows("quality", snapshot.quality ?? [], (one) => [
    element("td", one.check), element("td", one.status, one.status),
    element("td", one.value === null ? "–" : compact.format(one.value))]);
  rows("dags", snapshot.dags, (one) => [
    element("td", one.dag), element("td", one.paused ? "paused" : one.state ?? "never ran", one.state ?? ""),
    element("td", clock(one.started)), element("td", one.seconds === null ? "–" : compact.format(one.seconds))]);
}

async function poll() {
  try {
    const response = await fetch("/overview.json", { signal: AbortSignal.timeout(15000) });
    if (response.ok) show(await response.json());
  } catch {
    // The age below tells that nothing new has come.
  }
  setTimeout(poll, document.hidden ? 5 * POLL_MS : POLL_MS);
}

function showAge() {
  const age = Math.round(Date.now() / 1000 - latest);
  byId("age").textContent = latest ? `updated ${age <= 3 ? "now" : `${age} s ago`}` : "loading …";
  byId("age").classList.toggle("stale", latest > 0 && age > STALE_SECONDS);
}

addEventListener("resize", () => {
  for (const [id, one] of Object.entries(charts)) one.setSize({ width: byId(id).clientWidth, height: 180 });
});
setInterval(showAge, 1000);
poll();
