import type { Profile } from "../../src/protocol/profile-file.ts";

/** A profile of a machine that there is not. */
export function madeUpProfile(overrides: Partial<Profile> = {}): Profile {
  const fit = { n: 100, medianAbsPct: 2, p90AbsPct: 8 };
  return {
    profileVersion: 1,
    measuredAt: "2026-01-02T03:04:05.000Z",
    machine: { cpu: "abacus", cores: 2, platform: "linux-x64", node: "20.0.0", loadAverage: [0.1, 0.4] },
    engine: "llama",
    model: { name: "tiny", id: "0123" },
    settings: {
      threads: 1,
      chunkTokens: 256,
      contextTokens: 8192,
      maxRunning: 16,
      prefixCacheTokens: 4096,
    },
    kvCapacityTokens: 16_384,
    kvBytesPerToken: 816,
    step: {
      stepMs: 1,
      tokenMs: [0.4, 0.4, 0.3, 0.3, 0.25, 0.25, 0.2],
      sequenceMs: 0.05,
      sampleMs: 0.1,
      decodeContextMs: 0.001,
      prefillPairMs: 0.0008,
      cellPairMs: 0,
    },
    host: { requestMs: 3, outputMs: 1, stepMs: 0.1, sequenceMs: 0.02 },
    handoff: {
      export: { callMs: 0.2, tokenMs: 0.001 },
      import: { callMs: 0.3, tokenMs: 0.001 },
      link: { latencyMs: 0.4, bytesPerSecond: 1e9 },
    },
    range: { stepTokens: 256, decodes: 16, contextTokens: 1024 },
    fit: { steps: fit, decodes: fit, prefills: fit, mixed: fit },
    ...overrides,
  };
}
