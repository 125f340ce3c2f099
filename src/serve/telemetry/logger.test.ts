import { expect, test } from "vitest";
import { createLogger } from "./logger.ts";

test("credentials and prompts are blanked at the top level and up to two levels down, and the rest is kept", () => {
  const lines: string[] = [];
  const logger = createLogger({ destination: { write: (line) => lines.push(line) } });
  logger.info(
    {
      apiKey: "s1",
      options: { cacheSecret: "s2" },
      request: { headers: { authorization: "s3" }, body: { messages: ["s4"] } },
      status: 200,
    },
    "hello",
  );
  expect(lines[0]).not.toMatch(/s[1-4]"/);
  expect(JSON.parse(lines[0]!)).toMatchObject({ level: 30, msg: "hello", status: 200, apiKey: "[redacted]" });
});

test("lines below the level are not written", () => {
  const lines: string[] = [];
  const logger = createLogger({ level: "warn", destination: { write: (line) => lines.push(line) } });
  logger.info("no");
  logger.warn("yes");
  expect(lines).toHaveLength(1);
});
