import type { Catalog } from "./catalog.ts";
import type { AcceleratorEntry, RackEntry } from "./entry.ts";
import type { AcceleratorFigureKey, RackFigureKey } from "./figure-keys.ts";

/** Accelerators and CPUs of a system with their number. */
type RackParts = ReadonlyArray<{ readonly part: AcceleratorEntry; readonly count: number }>;

function partsOf(catalog: Catalog, entry: RackEntry): RackParts {
  return Object.entries(entry.parts).map(([id, count]) => ({ part: catalog.get("accelerator", id), count }));
}

/**
 * What a system's parts add up to, in the units of its figures. A sum over parts with an unknown figure is left out. CPUs count
 * for `memory.cpu` only.
 */
export function sumOfParts(catalog: Catalog, entry: RackEntry): Partial<Record<RackFigureKey, number>> {
  const parts = partsOf(catalog, entry);
  const devices = parts.filter(({ part }) => part.processor !== "cpu");
  const cpus = parts.filter(({ part }) => part.processor === "cpu");
  const sum = (of: RackParts, key: AcceleratorFigureKey, factor = 1e-3): number | null => {
    let total = 0;
    for (const { part, count } of of) {
      const value = part.figures[key]?.value ?? null;
      if (value === null) return null;
      total += value * count * factor;
    }
    return of.length === 0 ? null : total;
  };
  const memory = sum(devices, "memory.capacity");
  const cpuMemory = sum(cpus, "memory.capacity");
  const bothWays = 2e-3;
  const sums: Partial<Record<RackFigureKey, number | null>> = {
    "compute.fp4Dense": sum(devices, "dense.fp4"),
    "compute.fp4Sparse": sum(devices, "sparse.fp4"),
    "compute.fp8Dense": sum(devices, "dense.fp8"),
    "memory.capacity": memory,
    "memory.bandwidth": sum(devices, "memory.bandwidth"),
    "memory.cpu": cpuMemory,
    "memory.fast": memory === null || cpuMemory === null ? null : memory + cpuMemory,
    "scaleUp.bandwidth": sum(devices, "scaleUp.bandwidth", bothWays),
    "scaleOut.bandwidth": sum(devices, "scaleOut.bandwidth", bothWays),
  };
  const known = Object.entries(sums).filter((pair): pair is [RackFigureKey, number] => pair[1] !== null);
  return Object.fromEntries(known);
}
