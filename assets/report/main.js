// Puts plots and timelines into their places, and draws them again when the scheme or the width changes.

import { drawPlot } from "./plots.js";
import { Timeline } from "./timeline.js";

const data = JSON.parse(document.getElementById("data").textContent);
const timelines = [...document.querySelectorAll("[data-timeline]")].map(
  (place) => new Timeline(place, data.timelines[Number(place.dataset.timeline)], data.kinds),
);
let plots = data.plots.map(drawPlot);

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  plots = data.plots.map(drawPlot);
  for (const timeline of timelines) timeline.draw();
});

let width = document.body.clientWidth;
addEventListener("resize", () => {
  if (document.body.clientWidth === width) return;
  width = document.body.clientWidth;
  for (const plot of plots) {
    if (plot !== null) plot.setSize({ width: plot.root.parentElement.clientWidth, height: 260 });
  }
});

// A part of a run can be linked to: #timeline=0&from=1200&to=1300 (milliseconds).
const wanted = new URLSearchParams(location.hash.slice(1));
const chosen = timelines[Number(wanted.get("timeline") ?? -1)];
if (chosen !== undefined)
  chosen.show(Number(wanted.get("from") ?? 0), Number(wanted.get("to") ?? chosen.endMs));
