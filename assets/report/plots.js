// Line plots by uPlot, which the page holds as a global. The modules of this folder are put into the page as one script.

/* global uPlot */

const DASHES = [[], [8, 4], [2, 3], [12, 3, 2, 3], [4, 8]];

/** The value of a style variable, which follows the light or dark scheme. */
export function styleOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Up to four significant digits. */
export function shortNumber(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(1);
  return String(Number(value.toPrecision(4)));
}

/** Whether a number is 1, 2 or 5 times a power of ten: those of a logarithmic axis that have room for a label. */
function isRound(value) {
  return [1, 2, 5].includes(Math.round(value / 10 ** Math.floor(Math.log10(value) + 1e-9)));
}

/** Draws one plot into its place; returns it, or null when the page has no place for it. */
export function drawPlot(plot) {
  const place = document.getElementById(`plot-${plot.id}`);
  if (place === null) return null;
  place.replaceChildren();
  const tables = plot.lines.map((line) => [line.x, line.y]);
  const data = tables.length === 1 ? tables[0] : uPlot.join(tables);
  const axis = (label) => ({
    label,
    stroke: () => styleOf("--soft"),
    grid: { stroke: () => styleOf("--line"), width: 1 },
    ticks: { stroke: () => styleOf("--line"), width: 1 },
    font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif",
  });
  const series = plot.lines.map((line) => ({
    label: line.label,
    stroke: () => styleOf(`--c${line.fleet % 8}`),
    width: 2,
    dash: DASHES[line.dash % DASHES.length],
    spanGaps: true,
    points: { show: line.x.length === 1 },
    value: (_, value) => shortNumber(value),
  }));
  const isShare = plot.yLabel === "share";
  return new uPlot(
    {
      width: place.clientWidth,
      height: 260,
      cursor: { drag: { x: true, y: false } },
      scales: {
        x: { time: false, distr: plot.isLogX ? 3 : 1 },
        y: { range: (_, _low, high) => (isShare ? [0, 1] : [0, high > 0 ? high * 1.05 : 1]) },
      },
      axes: [
        {
          ...axis(plot.xLabel),
          ...(plot.isLogX
            ? { filter: (_, splits) => splits.map((split) => (isRound(split) ? split : null)) }
            : {}),
          values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : shortNumber(tick))),
        },
        { ...axis(plot.yLabel), size: 62, values: (_, ticks) => ticks.map(shortNumber) },
      ],
      series: [{ label: plot.xLabel, value: (_, value) => shortNumber(value) }, ...series],
    },
    data,
    place,
  );
}
