import { expect, test } from "vitest";
import { MovedBlocks, PrefetchCounts } from "./prefetch-counts.ts";

const BLOCK_BYTES = 10;

function started() {
  const counts = new PrefetchCounts(BLOCK_BYTES);
  const moved = new MovedBlocks(counts);
  moved.add("host", 2, 8);
  moved.add("device", 0, 4);
  counts.checkInvariants([moved]);
  return { counts, moved, settled: () => counts.stats(0).bytes };
}

test("what the turn finds was used, and what it does not find had gone", () => {
  const { counts, moved, settled } = started();
  moved.settle({ host: 5, device: 4 }, true);
  counts.checkInvariants([moved]);
  expect(settled()).toEqual({
    host: { started: 60, used: 30, wasted: 30, gone: 30 },
    device: { started: 40, used: 40, wasted: 0, gone: 0 },
  });
});

test("for a turn that does not come all is wasted, of which some had gone", () => {
  const { counts, moved, settled } = started();
  moved.settle({ host: 8, device: 1 }, false);
  counts.checkInvariants([moved]);
  expect(settled()).toEqual({
    host: { started: 60, used: 0, wasted: 60, gone: 0 },
    device: { started: 40, used: 0, wasted: 40, gone: 30 },
  });
});

test("what is brought up again had gone", () => {
  const { counts, moved, settled } = started();
  moved.add("device", 1, 4);
  counts.checkInvariants([moved]);
  expect(settled().device).toEqual({ started: 70, used: 0, wasted: 30, gone: 30 });
  moved.settle({ host: 0, device: 4 }, true);
  expect(settled().device).toEqual({ started: 70, used: 40, wasted: 30, gone: 30 });
});
