"use strict";
// The dashboard's charts, drawn by uPlot from the figures in the page.
(() => {
  const series = JSON.parse(document.getElementById("series").textContent);
  const zone = series.zone;
  const shown = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options });
  const [day, hour, moment] = [{ day: "numeric", month: "short" }, { hour: "2-digit", minute: "2-digit" }, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }].map(shown);
  // A tick at midnight is named by its day.
  const tick = (seconds) => (hour.format(seconds * 1e3) === "00:00" ? day : hour).format(seconds * 1e3);
  const percent = (value) => (value == null ? "–" : `${(100 * value).toFixed(1)} %`);
  const amount = (value) => (value == null ? "–" : Math.round(value).toLocaleString("en"));
  const charts = {
    quality: { format: percent, range: [0, 1], lines: [["Recall", "recall", "--chart-1"], ["Precision", "precision", "--chart-2"], ["F1", "f1", "--chart-3"]] },
    volume: { format: amount, lines: [["Decisions", "decided", "--chart-1"], ["Flagged", "flagged", "--chart-4"]] },
    flagged: { format: amount, lines: [["Flagged", "flagged", "--chart-1"]] },
    money: { format: amount, lines: [["Stopped", "saved", "--chart-2"], ["Missed", "lost", "--chart-4"]] },
  };
  const drawn = [];

  function draw() {
    drawn.splice(0).forEach((plot) => plot.destroy());
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    document.querySelectorAll("[data-chart]").forEach((place) => {
      place.replaceChildren();
      if (!series.time.length) {
        const text = document.createElement("p");
        text.className = "muted";
        text.textContent = "No decisions in this period.";
        place.append(text);
        return;
      }
      const chart = charts[place.dataset.chart];
      const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
      const one = series.time.length < 2;
      drawn.push(new uPlot({
        width: place.clientWidth, height: 210,
        cursor: { points: { size: 7 }, y: false }, legend: { live: true },
        scales: { y: { range: chart.range ? () => chart.range : (_, low, high) => [0, Math.max(high * 1.1, 1)] } },
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), zone),
        axes: [{ ...axis, values: (_, ticks) => ticks.map(tick) }, { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => chart.range ? `${Math.round(100 * tick)} %` : tick >= 1e4 ? `${Math.round(tick / 1e3)}k` : tick.toLocaleString("en")) }],
        series: [{ label: "Time", value: (_, value) => (value == null ? "–" : moment.format(value * 1e3)) }, ...chart.lines.map(([label, , name]) => ({ label, stroke: colour(name), width: 2, spanGaps: true, points: { show: one, size: 6 }, value: (_, value) => chart.format(value) }))],
      }, [series.time, ...chart.lines.map(([, key]) => series[key])], place));
    });
  }

  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 150); });
  document.addEventListener("theme", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
