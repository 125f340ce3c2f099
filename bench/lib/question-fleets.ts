import { readFileSync } from "node:fs";
import { parseScenarioFile, type ScenarioFile } from "../../src/protocol/scenario-file.ts";

/** What a purchase price is spread over: four years of 8,760 hours, as in the scenarios' comments. */
export const HOURS_OF_USE = 4 * 8760;

/** Watts and dollars of one accelerator with its share of the rack, from the scenario's own figures. */
interface UnitCosts {
  readonly watts: number;
  readonly dollars: number;
}

/** A budget that a fleet has to stay within: watts or dollars. */
export type Budget = keyof UnitCosts;

export interface FleetSize {
  readonly accelerators: number;
  readonly watts: number;
  readonly dollars: number;
}

export function readScenario(path: string, overrides: readonly string[] = []): ScenarioFile {
  return parseScenarioFile(readFileSync(path, "utf8"), path, overrides);
}

/** Accelerators, installed power and purchase price of a fleet. */
export function sizeOf(file: ScenarioFile, fleet: string): FleetSize {
  let [accelerators, watts, dollars] = [0, 0, 0];
  for (const pool of file.values.fleets[fleet]!.workers) {
    const { tp, pp, dp } = pool.parallelism;
    const devices = pool.count * tp * pp * dp;
    const unit = unitCosts(file, pool.device);
    accelerators += devices;
    watts += devices * unit.watts;
    dollars += devices * unit.dollars;
  }
  return { accelerators, watts, dollars };
}

function unitCosts(file: ScenarioFile, device: string): UnitCosts {
  const watts = file.values.power.devices[device]?.installed;
  const perHour = file.values.price.devices[device];
  if (watts === undefined || perHour === undefined)
    throw new Error(`the scenario has no power or price of ${device}`);
  return { watts, dollars: perHour * HOURS_OF_USE };
}

/** How eight accelerators that read and write may work together, and the tokens of a step. */
const TOGETHER = [
  ["{ pp: 8 }", 65_536],
  ["{ pp: 8 }", 16_384],
  ["{ tp: 8, ep: 8 }", 8192],
  ["{ tp: 8, ep: 8 }", 2048],
  ["{ tp: 8, ep: 8 }", 1024],
] as const;

/** Fleets whose numbers are those of a product. */
const RACKS_AS_SOLD = ["cpx-rack", "cpx-dual-rack"];

/** Candidate sizes and settings of a fleet within a budget, as overrides of the scenario. */
export function candidates(file: ScenarioFile, fleet: string, budget: Budget, limit: number): string[][] {
  const { workers } = file.values.fleets[fleet]!;
  const at = (pool: number, key: string): string => `fleets.${fleet}.workers[${pool}].${key}`;
  const cost = workers.map(({ device, parallelism: { tp, pp, dp } }) => {
    return unitCosts(file, device)[budget] * tp * pp * dp;
  });
  const [first, second] = workers;
  if (second === undefined) {
    // Tensor parallelism is quick with small chunks, pipelines need large ones.
    const count = Math.floor(limit / (unitCosts(file, first!.device)[budget] * 8));
    return TOGETHER.map(([shape, tokens]) => [
      `${at(0, "parallelism")}=${shape}`,
      `${at(0, "count")}=${count}`,
      `${at(0, "tokenBudget")}=${tokens}`,
    ]);
  }
  const third = workers[2];
  // A rack as it is sold: only the roles of its Rubin are free.
  if (third !== undefined) {
    const all = second.count + third.count;
    return [8, 7, 5, 3].map((n) => [`${at(1, "count")}=${n}`, `${at(2, "count")}=${all - n}`]);
  }
  if (RACKS_AS_SOLD.includes(fleet)) return [[]];
  return [1, 2, 3].flatMap((decodes) => {
    const prefills = Math.floor((limit - decodes * cost[1]!) / cost[0]!);
    return prefills < 1 ? [] : [[`${at(0, "count")}=${prefills}`, `${at(1, "count")}=${decodes}`]];
  });
}
