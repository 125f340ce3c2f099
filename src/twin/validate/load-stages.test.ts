import { describe, expect, it } from "vitest";
import { Rng } from "../../core/util/rng.ts";
import { LoadStages } from "./load-stages.ts";

const PROMPTS = {
  systemPrompts: 2,
  usersPerSystemPrompt: 3,
  systemTokens: 40,
  promptTokens: 100,
  outputTokens: 7,
};

function source(seed = 1): LoadStages {
  return new LoadStages(
    [
      { rate: 5, durationS: 4 },
      { rate: 10, durationS: 1 },
    ],
    PROMPTS,
    new Rng(seed).stream("arrivals"),
  );
}

describe("LoadStages", () => {
  it("sends as many requests as rate and duration say, in order, and fills the stage exactly", () => {
    const load = source();
    const requests = Array.from({ length: 20 }, () => load.take());
    const arrivals = requests.map(({ arrivalMs }) => arrivalMs);
    expect([...arrivals].sort((a, b) => a - b)).toEqual(arrivals);
    expect(arrivals.at(-1)).toBeCloseTo(4000);
    expect(load.nextArrivalMs).toBe(Number.POSITIVE_INFINITY);
    const gaps = arrivals.map((at, index) => at - (arrivals[index - 1] ?? 0));
    // Gaps are exponential and not equal: their spread is about their mean.
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length);
    expect(mean).toBeCloseTo(200);
    expect(deviation).toBeGreaterThan(80);
  });

  it("begins the next stage when the last request of the one before has ended", () => {
    const load = source();
    const requests = Array.from({ length: 20 }, () => load.take());
    for (const request of requests.slice(1)) load.ended(request, 5000);
    expect(load.nextArrivalMs).toBe(Number.POSITIVE_INFINITY);
    load.ended(requests[0]!, 6000);
    expect(load.nextArrivalMs).toBeGreaterThan(6000);
    const second = Array.from({ length: 10 }, () => load.take());
    expect(second.at(-1)!.arrivalMs).toBeCloseTo(7000);
    for (const request of second) {
      expect(request.kind).toBe("1");
      load.ended(request, 8000);
    }
    expect(load.nextArrivalMs).toBe(Number.POSITIVE_INFINITY);
  });

  it("lets users of one system prompt share its full blocks, and every user repeat one prompt", () => {
    const load = source();
    const ids = Array.from({ length: 12 }, () => load.take().blocks!.ids);
    // Users 0, 2 and 4 are in one group, 1, 3 and 5 in the other; 40 tokens are two full blocks of 16.
    expect(ids[0]!.slice(0, 2)).toEqual(ids[2]!.slice(0, 2));
    expect(ids[0]!.slice(2)).not.toEqual(ids[2]!.slice(2));
    expect(ids[0]![0]).not.toBe(ids[1]![0]);
    expect(ids[6]).toEqual(ids[0]);
    expect(new Set(ids.flat()).size).toBe(2 * 2 + 6 * 5);
  });

  it("is the same for the same seed and another for another", () => {
    expect(source(1).take()).toEqual(source(1).take());
    expect(source(2).take().arrivalMs).not.toBe(source(1).take().arrivalMs);
  });
});
