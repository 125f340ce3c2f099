import { parentPort, workerData } from "node:worker_threads";
import { serveRuns } from "../../src/twin/run/thread.ts";
import { FAKE_PARTS } from "./fake-parts.ts";

// Started as a thread by tests of the simulation's pool, with a scenario as its data.
if (parentPort !== null) serveRuns(parentPort, workerData, FAKE_PARTS);
