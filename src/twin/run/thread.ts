import type { MessagePort } from "node:worker_threads";
import { parseScenarioFile } from "../../protocol/scenario-file.ts";
import type { TwinParts } from "../parts.ts";
import type { RunProgress } from "../record/recorder.ts";
import { Simulation } from "../simulate.ts";
import type { ScenarioText, ThreadReply, ThreadRequest } from "./messages.ts";

/** Names of errors that blame the input, not the program. */
const EXPECTED: ReadonlySet<string> = new Set([
  "ConfigError",
  "PartError",
  "WorkloadError",
  "CatalogError",
  "TableError",
  "CsvError",
  "TwinSpecError",
]);

/** Runs one task after another of one scenario, in a thread of its own. Each answer is sent through `port`. */
export function serveRuns(port: MessagePort, scenario: ScenarioText, parts: TwinParts): void {
  const { text, fileName, overrides, folder } = scenario;
  const simulation = new Simulation(parseScenarioFile(text, fileName, overrides), parts, folder);
  const reply = (message: ThreadReply): void => port.postMessage(message);
  port.on("message", ({ index, task }: ThreadRequest) => {
    try {
      const onProgress = (progress: RunProgress) => reply({ kind: "progress", index, progress });
      const { result, detail } = simulation.run(task.fleet, task.seed, onProgress, task.record);
      reply({ kind: "done", index, outcome: { result, detail: task.wantsDetail ? detail : null } });
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      const isBug = !EXPECTED.has(error.name);
      const message = isBug ? (error.stack ?? error.message) : error.message;
      reply({ kind: "failed", index, name: error.name, message, isBug });
    }
  });
}
