import { describe, expect, it } from "vitest";
import { BUILT_IN_CATALOG as CATALOG } from "./catalog.ts";
import { type CatalogEntry, ENTRY_KINDS } from "./entry.ts";
import type { Figure } from "./figure.ts";
import {
  ACCELERATOR_FIGURES,
  type FigureKind,
  LINK_FIGURES,
  MODEL_FIGURES,
  RACK_FIGURES,
} from "./figure-keys.ts";
import { countParameters, kvElementsPerToken } from "./model-size.ts";
import { sumOfParts } from "./rack-spec.ts";

const KINDS = {
  accelerator: ACCELERATOR_FIGURES,
  rack: RACK_FIGURES,
  link: LINK_FIGURES,
  model: MODEL_FIGURES,
} as const;

const ALL: readonly CatalogEntry[] = ENTRY_KINDS.flatMap((kind): readonly CatalogEntry[] =>
  CATALOG.all(kind),
);

const figuresOf = (entry: CatalogEntry): Array<[string, Figure, FigureKind]> => {
  const kinds: Readonly<Record<string, FigureKind>> = KINDS[entry.kind];
  return Object.entries(entry.figures).map(([key, figure]) => [key, figure, kinds[key]!]);
};

describe.each(ALL.map((entry) => [`${entry.kind} ${entry.id}`, entry] as const))("%s", (_, entry) => {
  it("names only sources that exist, and at least one per figure", () => {
    for (const [key, figure] of figuresOf(entry)) {
      expect(figure.sources.length, key).toBeGreaterThan(0);
      for (const source of figure.sources)
        expect(CATALOG.sources.has(source), `${key}: ${source}`).toBe(true);
    }
    for (const { sources } of entry.contradictions ?? []) {
      for (const source of sources) expect(CATALOG.sources.has(source), source).toBe(true);
    }
    if (entry.kind === "accelerator") {
      for (const { source } of entry.history ?? []) expect(CATALOG.sources.has(source), source).toBe(true);
    }
    if (entry.kind === "model") {
      for (const source of entry.sources) expect(CATALOG.sources.has(source), source).toBe(true);
    }
  });

  it("keeps its figures inside their bounds and ranges, and calls nothing known that is null", () => {
    for (const [key, { value, range, confidence }, kind] of figuresOf(entry)) {
      expect(kind, key).toBeDefined();
      if (value === null) {
        expect(confidence, key).toBe("unknown");
        continue;
      }
      expect(value, key).toBeGreaterThanOrEqual(kind.min);
      expect(value, key).toBeLessThanOrEqual(kind.max);
      if (range === undefined) continue;
      expect(range[0], key).toBeLessThanOrEqual(value);
      expect(range[1], key).toBeGreaterThanOrEqual(value);
    }
  });

  it("says of every derived figure how it was derived", () => {
    const silent = figuresOf(entry).filter(([, { confidence, note }]) => confidence === "derived" && !note);
    expect(silent.map(([key]) => key)).toEqual([]);
  });

  it("has a lower-case id and a date as its revision", () => {
    expect(entry.id).toMatch(/^[a-z0-9][a-z0-9.-]*$/);
    expect(entry.revision).toMatch(/^20\d\d(-\d\d(-\d\d)?)?$/);
  });

  it("has contradictions about figures that it has", () => {
    for (const { figure } of entry.contradictions ?? []) {
      if (figure !== undefined) expect(Object.keys(entry.figures)).toContain(figure);
    }
  });
});

describe("names", () => {
  it("belong to one entry each, over all kinds", () => {
    const names = ALL.flatMap((entry) => [entry.id, ...(entry.aliases ?? [])]).map((name) =>
      name.toLowerCase(),
    );
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
    const families = new Set(ALL.map((entry) => entry.family));
    expect(names.filter((name) => families.has(name))).toEqual([]);
  });

  it("of links and parts exist", () => {
    for (const entry of CATALOG.all("accelerator")) {
      for (const link of Object.values(entry.links)) expect(CATALOG.has("link", link), link).toBe(true);
    }
    for (const entry of CATALOG.all("rack")) {
      for (const part of Object.keys(entry.parts)) expect(CATALOG.has("accelerator", part), part).toBe(true);
    }
  });
});

describe("accelerators", () => {
  it.each(CATALOG.all("accelerator").map((entry) => [entry.id, entry] as const))(
    "%s is at least as fast sparse as dense, and idles on less power than it decodes with",
    (_, { figures }) => {
      for (const precision of ["bf16", "fp8", "fp4"] as const) {
        const sparse = figures[`sparse.${precision}`]?.value ?? null;
        const dense = figures[`dense.${precision}`]?.value ?? null;
        if (sparse !== null && dense !== null) expect(sparse, precision).toBeGreaterThanOrEqual(dense);
      }
      const states = ["power.idle", "power.transfer", "power.decode", "power.prefill"] as const;
      const watts = states.map((key) => figures[key]?.value ?? null).filter((value) => value !== null);
      expect([...watts].sort((a, b) => a - b)).toEqual(watts);
    },
  );

  it("never have a sparse rate of twice the dense one where the vendor broke that rule", () => {
    for (const id of ["gb300", "b300-sxm", "rubin-r200", "rubin-cpx-2025"]) {
      const { figures } = CATALOG.get("accelerator", id);
      expect(figures["sparse.fp4"]!.value! / figures["dense.fp4"]!.value!).toBeLessThan(1.6);
    }
  });
});

describe("systems", () => {
  /** Headlines are rounded; more than this is a contradiction and has to be listed as one. */
  const ROUNDING = 0.025;

  it.each(CATALOG.all("rack").map((entry) => [entry.id, entry] as const))(
    "%s is the sum of its parts, or says that it is not",
    (_, entry) => {
      const sums = sumOfParts(CATALOG, entry);
      for (const [key, sum] of Object.entries(sums)) {
        const stated = Object.entries(entry.figures).find(([name]) => name === key)?.[1].value ?? null;
        if (stated === null) continue;
        const listed = entry.contradictions?.find(({ figure }) => figure === key)?.recomputed;
        if (listed === undefined) {
          expect(Math.abs(stated / sum - 1), `${key}: ${stated} stated, ${sum} summed`).toBeLessThan(
            ROUNDING,
          );
        } else {
          expect(sum, key).toBeGreaterThanOrEqual(listed[0] * 0.999);
          expect(sum, key).toBeLessThanOrEqual(listed[1] * 1.001);
        }
      }
    },
  );

  it.each(CATALOG.all("rack").map((entry) => [entry.id, entry] as const))(
    "%s takes at least the power of its accelerators",
    (_, entry) => {
      let watts = 0;
      for (const [id, count] of Object.entries(entry.parts)) {
        watts +=
          (CATALOG.get("accelerator", id).figures["power.tdp"]?.range?.[0] ??
            CATALOG.get("accelerator", id).figures["power.tdp"]?.value ??
            0) * count;
      }
      const stated = entry.figures["power.rack"]?.value ?? null;
      if (stated !== null) expect(stated * 1000).toBeGreaterThanOrEqual(watts * 0.9);
    },
  );
});

describe("models", () => {
  it.each(CATALOG.all("model").map((entry) => [entry.id, entry] as const))(
    "%s has a shape whose parameters add up to the published number within 3 %",
    (_, { shape, figures }) => {
      const { total, active } = countParameters(shape);
      expect(Math.abs(total / 1e9 / figures["params.total"]!.value! - 1)).toBeLessThan(0.03);
      const published = figures["params.active"]?.value ?? null;
      if (published !== null) {
        expect(Math.abs(active / 1e9 / published - 1)).toBeLessThan(0.09);
      }
    },
  );

  it.each([
    ["llama-2-70b", 327_680],
    ["llama-3.1-8b", 131_072],
    ["llama-3.1-405b", 516_096],
    ["qwen3-235b-a22b", 192_512],
    ["mixtral-8x7b", 131_072],
    ["deepseek-v3", 70_272],
    ["kimi-k2", 70_272],
    ["gpt-oss-120b", 73_728],
    ["bloom-176b", 4_014_080],
    ["opt-13b", 819_200],
    ["opt-66b", 2_359_296],
    ["gpt3-175b", 4_718_592],
    ["smollm2-135m", 23_040],
  ])("%s keeps %i bytes of KV per token in BF16", (id, bytes) => {
    expect(kvElementsPerToken(CATALOG.get("model", id).shape).all * 2).toBe(bytes);
  });

  it("with windows stop growing in those layers", () => {
    expect(kvElementsPerToken(CATALOG.get("model", "gpt-oss-120b").shape).growing * 2).toBe(36_864);
  });
});
