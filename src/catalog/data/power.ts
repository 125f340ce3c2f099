import { derived, type Figure } from "../figure.ts";
import type { AcceleratorFigureKey } from "../figure-keys.ts";

/** SplitwiseSim's watts of an H100 (75 idle, 700 prompt, 380 token) over its 700 W. */
const IDLE_SHARE = 75 / 700;
const DECODE_SHARE = 380 / 700;

type PowerFigures = Partial<Record<AcceleratorFigureKey, Figure>>;

/**
 * Power by state for a part whose maker publishes a design power only: the shares of an H100 in Splitwise's simulator. For
 * transfer see {@link transferPower}.
 */
export function powerLikeH100(tdpW: number, linkGBps: number, memoryGBps: number): PowerFigures {
  const idle = Math.round(tdpW * IDLE_SHARE);
  const decode = Math.round(tdpW * DECODE_SHARE);
  const note = "design power x the share of an H100 in Splitwise's simulator; an assumption for this part";
  return {
    "power.idle": derived(idle, "splitwise-sim", note),
    "power.prefill": derived(tdpW, "splitwise-sim", note),
    "power.decode": derived(decode, "splitwise-sim", note),
    "power.transfer": transferPower(idle, decode, linkGBps, memoryGBps),
  };
}

/**
 * Power of an accelerator that only sends or receives KV, which nobody publishes: idle power plus the energy per byte of memory
 * traffic in decode, at the speed of the link.
 */
export function transferPower(idleW: number, decodeW: number, linkGBps: number, memoryGBps: number): Figure {
  const watts = idleW + (decodeW - idleW) * Math.min(1, linkGBps / memoryGBps);
  const note = "idle + (decode - idle) x scale-out bandwidth / memory bandwidth; an assumption";
  return derived(Math.round(watts), ["splitwise-sim", "arithmetic"], note);
}
