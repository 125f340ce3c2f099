import type { LoadStage, SharedPrefixPrompts } from "./load-stages.ts";

/** A load that measurements name. */
export interface NamedLoad {
  readonly stages: readonly LoadStage[];
  readonly prompts: SharedPrefixPrompts;
}

const GENERAL: SharedPrefixPrompts = {
  systemPrompts: 9,
  usersPerSystemPrompt: 5,
  systemTokens: 100,
  promptTokens: 575,
  outputTokens: 248,
};

const CODEGEN: SharedPrefixPrompts = {
  systemPrompts: 11,
  usersPerSystemPrompt: 4,
  systemTokens: 100,
  promptTokens: 593,
  outputTokens: 247,
};

const ROLEPLAY: SharedPrefixPrompts = {
  systemPrompts: 10,
  usersPerSystemPrompt: 5,
  systemTokens: 150,
  promptTokens: 785,
  outputTokens: 251,
};

const REASONING: SharedPrefixPrompts = {
  systemPrompts: 23,
  usersPerSystemPrompt: 1,
  systemTokens: 100,
  promptTokens: 1081,
  outputTokens: 1448,
};

/** Two stages of ten minutes each. */
function twoStages(first: number, second: number): readonly LoadStage[] {
  return [
    { rate: first, durationS: 600 },
    { rate: second, durationS: 600 },
  ];
}

function oneStage(rate: number): readonly LoadStage[] {
  return [{ rate, durationS: 1200 }];
}

/**
 * Loads by name. Rates and lengths of the four full loads are those that measurements with their settings state (prompt lengths as
 * the server counted them); outputs run to their full length. Of the "lite" loads only names are known. The mean of a whole run
 * weighs its stages by 5 to 12, and how token times grow with the rate in the full loads puts `general-lite` at 2.5 and 6 requests per
 * second and `reasoning-lite` at 1; the other two are scaled alike and are assumptions.
 */
const LOADS: Readonly<Record<string, NamedLoad>> = {
  general: { stages: twoStages(8, 20), prompts: GENERAL },
  codegen: { stages: twoStages(5, 10), prompts: CODEGEN },
  roleplay: { stages: oneStage(6), prompts: ROLEPLAY },
  reasoning: { stages: oneStage(4), prompts: REASONING },
  "general-lite": { stages: twoStages(2.5, 6), prompts: GENERAL },
  "codegen-lite": { stages: twoStages(1.5, 3), prompts: CODEGEN },
  "roleplay-lite": { stages: oneStage(2), prompts: ROLEPLAY },
  "reasoning-lite": { stages: oneStage(1), prompts: REASONING },
};

export const LOAD_NAMES: readonly string[] = Object.keys(LOADS);

/** The load of that name, or null. */
export function namedLoad(name: string): NamedLoad | null {
  return Object.hasOwn(LOADS, name) ? LOADS[name]! : null;
}
