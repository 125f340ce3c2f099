import { expect, test } from "vitest";
import { parseByteSize } from "./byte-size.ts";

test.each([
  ["64KiB", 65_536],
  ["1.5 GiB", 1_610_612_736],
  ["8GB", 8e9],
  ["100000", 100_000],
  ["200000B", 200_000],
  ["2mib", 2_097_152],
])("%s is %d bytes", (text, bytes) => {
  expect(parseByteSize(text)).toBe(bytes);
});

test.each(["", "0", "1KiB", "-5GB", "3 bananas", "2PiB", "1e9", "GiB", "9999TiB"])(
  "%j is no size",
  (text) => {
    expect(parseByteSize(text)).toBeNull();
  },
);
