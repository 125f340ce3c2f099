import { emptyStepTime } from "../core/perf/perf-model.ts";
import { ProfileModel } from "../core/perf/profile-model.ts";
import { StepLoad } from "../core/perf/step-load.ts";
import { type Profile, toEngineProfile } from "../protocol/profile-file.ts";
import type { ComparedMetric } from "../twin/validate/run-comparison.ts";

/** A profile for people: what typical steps take, the times around them, and how good the fit is. */
export function renderProfile(profile: Profile): string {
  const model = new ProfileModel(toEngineProfile(profile));
  const load = new StepLoad();
  const time = emptyStepTime();
  const priceOf = (fill: () => void): string => {
    load.clear();
    fill();
    model.stepTime(load, time);
    return `${(time.deviceMs + time.hostMs).toPrecision(3)} ms${time.isExtrapolated ? " (extrapolated)" : ""}`;
  };
  const { machine, host, handoff, fit, range } = profile;
  const context = Math.min(512, Math.floor(range.contextTokens / 2));
  const chunk = Math.min(profile.settings.chunkTokens, range.stepTokens);
  const decode = (count: number): string =>
    priceOf(() => {
      for (let i = 0; i < count; i++) load.addDecode(context);
    });
  const lines = [
    `${profile.model.name} on ${machine.cpu}, ${profile.settings.threads} thread(s) per worker, ${profile.measuredAt}`,
    `load average ${machine.loadAverage.join(" before, ")} after`,
    "",
    `  decode 1 x ${context}            ${decode(1)}`,
    `  decode 4 x ${context}            ${decode(4)}`,
    `  prefill ${chunk} at 0          ${priceOf(() => load.addPrefill(0, chunk, true))}`,
    `  prefill ${chunk} at ${context}        ${priceOf(() => load.addPrefill(context, chunk, true))}`,
    `  request until its first step ${host.requestMs.toPrecision(3)} ms; token until the client ${host.outputMs.toPrecision(3)} ms`,
  ];
  if (handoff !== null) {
    const { export: out, import: into, link } = handoff;
    lines.push(
      `  handoff of ${chunk} tokens: out ${(out.callMs + out.tokenMs * chunk).toPrecision(3)} ms, in ${(into.callMs + into.tokenMs * chunk).toPrecision(3)} ms, between ${link.latencyMs.toPrecision(3)} ms`,
    );
  }
  const { steps } = fit;
  lines.push(
    `  fit of ${steps.n} steps: half within ${steps.medianAbsPct.toPrecision(2)} %, nine in ten within ${steps.p90AbsPct.toPrecision(2)} %`,
  );
  return `${lines.join("\n")}\n`;
}

/** A live run beside its replay. */
export function renderComparison(metrics: readonly ComparedMetric[]): string {
  const rows = metrics.map(({ name, measured, predicted }) => {
    const errorPct = 100 * (predicted / measured - 1);
    const sign = errorPct > 0 ? "+" : "";
    return `  ${name.padEnd(10)} ${measured.toFixed(2).padStart(10)} ${predicted.toFixed(2).padStart(10)} ${`${sign}${errorPct.toFixed(1)} %`.padStart(9)}`;
  });
  return `\n  ${"ms".padEnd(10)} ${"measured".padStart(10)} ${"twin".padStart(10)} ${"error".padStart(9)}\n${rows.join("\n")}\n`;
}
