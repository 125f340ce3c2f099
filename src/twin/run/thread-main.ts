import { parentPort, workerData } from "node:worker_threads";
import { parseScenarioFile } from "../../protocol/scenario-file.ts";
import { PRODUCTION_PARTS, partsWithTables } from "../production-parts.ts";
import type { ScenarioText } from "./messages.ts";
import { serveRuns } from "./thread.ts";

// `run-pool.ts` starts this file as a thread, with a scenario as its data.
if (parentPort !== null) {
  const scenario = workerData as ScenarioText;
  const { tables, text, fileName, overrides } = scenario;
  const file = parseScenarioFile(text, fileName, overrides);
  serveRuns(parentPort, scenario, tables === null ? PRODUCTION_PARTS : await partsWithTables(tables, file));
}
