import type { AcceleratorEntry, ModelEntry } from "../entry.ts";
import { AMD } from "./amd.ts";
import { CPUS } from "./cpu.ts";
import { GROQ } from "./groq.ts";
import { LLAMA_MODELS } from "./models-llama.ts";
import { MOE_MODELS } from "./models-moe.ts";
import { OPT_MODELS } from "./models-opt.ts";
import { QWEN_MODELS } from "./models-qwen.ts";
import { ADA } from "./nvidia-ada.ts";
import { AMPERE } from "./nvidia-ampere.ts";
import { BLACKWELL_PARTS } from "./nvidia-blackwell.ts";
import { HOPPER_PARTS } from "./nvidia-hopper.ts";
import { RUBIN_PARTS } from "./nvidia-rubin.ts";

export const ACCELERATORS: readonly AcceleratorEntry[] = [
  ...AMPERE,
  ...ADA,
  ...HOPPER_PARTS,
  ...BLACKWELL_PARTS,
  ...RUBIN_PARTS,
  ...GROQ,
  ...AMD,
  ...CPUS,
];

export const MODELS: readonly ModelEntry[] = [...LLAMA_MODELS, ...QWEN_MODELS, ...MOE_MODELS, ...OPT_MODELS];
