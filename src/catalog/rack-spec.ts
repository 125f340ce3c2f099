import type { Catalog } from "./catalog.ts";
import type { AcceleratorEntry, RackEntry } from "./entry.ts";
import type { AcceleratorFigureKey, RackFigureKey } from "./figure-keys.ts";
import { type Assumptions, type Conversion, takeFromRack } from "./resolve.ts";

/** A system as cost and power reports need it. */
export interface RackSpec {
  readonly id: string;
  readonly numRacks: number;
  /** Accelerators and CPUs with their number. */
  readonly parts: ReadonlyArray<{ readonly part: AcceleratorEntry; readonly count: number }>;
  /** Of all its cabinets. */
  readonly powerW: number;
}

/** The system's parts and its power, which is an assumption wherever nobody publishes it. */
export function toRackSpec(
  catalog: Catalog,
  entry: RackEntry,
  assumptions?: Assumptions,
): Conversion<RackSpec> {
  const taker = takeFromRack(entry, assumptions);
  return taker.conversion({
    id: entry.id,
    numRacks: entry.numRacks,
    parts: partsOf(catalog, entry),
    powerW: taker.take("power.rack") * 1000,
  });
}

/** Purchase price in USD, or what is missing. */
export function toRackPrice(entry: RackEntry, assumptions?: Assumptions): Conversion<number> {
  const taker = takeFromRack(entry, assumptions);
  return taker.conversion(taker.take("price.purchase"));
}

function partsOf(catalog: Catalog, entry: RackEntry): RackSpec["parts"] {
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
  const sum = (of: RackSpec["parts"], key: AcceleratorFigureKey, factor = 1e-3): number | null => {
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
