import type { DeviceFits } from "../device-fits.ts";
import { A100_80G_SXM } from "./a100-80g-sxm.ts";
import { B200_SXM } from "./b200-sxm.ts";
import { GB200 } from "./gb200.ts";
import { H100_SXM } from "./h100-sxm.ts";
import { H200_SXM } from "./h200-sxm.ts";
import { L40S } from "./l40s.ts";
import { RTX_PRO_6000_BSE } from "./rtx-pro-6000-bse.ts";

/** Fitted efficiencies by catalogue id. */
export const COEFFICIENTS: Readonly<Record<string, DeviceFits>> = {
  "a100-80g-sxm": A100_80G_SXM,
  "b200-sxm": B200_SXM,
  gb200: GB200,
  "h100-sxm": H100_SXM,
  "h200-sxm": H200_SXM,
  l40s: L40S,
  "rtx-pro-6000-bse": RTX_PRO_6000_BSE,
};
