import type { ServerResponse } from "node:http";
import { describe, expect, it } from "vitest";
import { IDLE_LOAD } from "../../../test/support/link-worker.ts";
import type { WorkerEvent } from "../../protocol/worker-rpc.ts";
import { EventFeed } from "./event-feed.ts";

/** A response whose reader has so much to read, and takes nothing. */
class StalledResponse {
  writableLength = 0;
  isDestroyed = false;
  written = "";

  write(text: string): void {
    this.written += text;
    this.writableLength += text.length;
  }

  destroy(): void {
    this.isDestroyed = true;
  }
}

const load: WorkerEvent = { kind: "load", load: IDLE_LOAD };
const report: WorkerEvent = { kind: "transfer", to: "d", bytes: 1, ms: 1 };

describe("EventFeed", () => {
  it("leaves reports out for a reader that falls behind, and cuts it when even the rest does not fit", async () => {
    const response = new StalledResponse();
    const feed = new EventFeed(response as unknown as ServerResponse, 10_000);
    feed.push(report);
    await Promise.resolve();
    expect(response.written).toContain("transfer");
    response.writableLength = 5001;
    response.written = "";
    feed.push(report);
    feed.push(load);
    await Promise.resolve();
    expect(response.written).toContain("load");
    expect(response.written).not.toContain("transfer");
    expect(response.isDestroyed).toBe(false);
    response.writableLength = 9_999;
    feed.push(load);
    expect(response.isDestroyed).toBe(true);
  });
});
