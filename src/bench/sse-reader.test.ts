import fc from "fast-check";
import { expect, test } from "vitest";
import { MAX_EVENT_LENGTH, SseError, SseReader } from "./sse-reader.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test("events are the same wherever the network cuts the stream", () => {
  const stream =
    "data: one\n\n: ping\n\ndata:two\r\ndata: zwei\r\n\r\nevent: x\rid: 3\rdata: drei 🌊\r\rdata: [DONE]\n\n";
  const whole = bytes(stream);
  const expected = ["one", "two\nzwei", "drei 🌊", "[DONE]"];
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: whole.length }), { maxLength: 12 }), (cuts) => {
      const reader = new SseReader();
      const borders = [0, ...cuts.sort((a, b) => a - b), whole.length];
      const events = borders
        .slice(1)
        .flatMap((end, index) => reader.push(whole.subarray(borders[index], end)));
      expect(events).toEqual(expected);
    }),
  );
});

test("a comment or an empty line alone is no event", () => {
  expect(new SseReader().push(bytes(": ping\n\n\n\n:\n\n"))).toEqual([]);
});

test("an event without its closing empty line is not given out", () => {
  const reader = new SseReader();
  expect(reader.push(bytes("data: half"))).toEqual([]);
  expect(reader.push(bytes("\n"))).toEqual([]);
  expect(reader.push(bytes("\n"))).toEqual(["half"]);
});

test("an event without end and bytes that are not UTF-8 are errors", () => {
  const endless = new SseReader();
  endless.push(bytes("data: "));
  expect(() => endless.push(bytes("x".repeat(MAX_EVENT_LENGTH + 1)))).toThrow(SseError);
  const manyLines = new SseReader();
  expect(() => {
    for (let index = 0; index <= MAX_EVENT_LENGTH / 1000; index++)
      manyLines.push(bytes(`data: ${"x".repeat(1000)}\n`));
  }).toThrow("longer than");
  expect(() => new SseReader().push(new Uint8Array([0x64, 0xff, 0xfe]))).toThrow("not UTF-8");
});
