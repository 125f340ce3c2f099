import { mkdirSync } from "node:fs";
import { resolve } from "node:path";
import type { Command } from "commander";
import { monotonicClock } from "../bench/clock.ts";
import { renderReport } from "../bench/report-table.ts";
import { type LoadProgress, runLoad } from "../bench/run-load.ts";
import { toRecordedRequest } from "../bench/run-recorder.ts";
import type { RecordedRequest } from "../protocol/run-record.ts";
import { BENCH_SETTINGS, loadBenchOptions } from "./bench-settings.ts";
import { type CliIo, EXIT, type ExitCode } from "./io.ts";
import { writeRun } from "./live-run.ts";
import { ProgressLine } from "./progress-line.ts";
import { addSettings } from "./settings.ts";

const EXAMPLES = `
Examples:
  twofold bench http://127.0.0.1:8080 --rate 5 --requests 200 --isl 512 --osl 64
  twofold bench http://127.0.0.1:8080 --concurrency 8 --duration 60 --isl lognormal:800:400 --osl uniform:16:128
  twofold bench http://127.0.0.1:8080 --workload conversation_trace.jsonl --time-scale 0.5 --duration 300
  twofold bench http://127.0.0.1:8080 --rate 2 --slo-ttft-ms 500 --slo-itl-ms 50 --json > report.json

An open loop (--rate) sends on schedule, whatever the server does, and counts TTFT and E2E from the schedule.
Ctrl-C stops the run and prints what there is. Exit code 1: interrupted, or no request completed.`;

/** Adds `twofold bench`. */
export function addBench(program: Command, io: CliIo, exit: (code: ExitCode) => void): void {
  const command = program
    .command("bench")
    .summary("load on any OpenAI-compatible server: TTFT, ITL, goodput")
    .description(
      "Puts load on an OpenAI-compatible server (Twofold, vLLM, llama-server) and measures every token.",
    )
    .argument("<url>", "the server, such as http://127.0.0.1:8080");
  addSettings(command, BENCH_SETTINGS);
  command.option("--record <folder>", "write every request there, for `twofold validate own`");
  command.option("--json", "print one JSON object instead of a table");
  command.addHelpText("after", EXAMPLES);
  command.action(async (url: string, flags: Record<string, unknown>) => {
    const options = loadBenchOptions(url, flags, io.env);
    const interrupt = new AbortController();
    const subscription = io.onSignal(() => {
      if (interrupt.signal.aborted) io.exitNow(EXIT.failure);
      interrupt.abort();
    });
    const progress = new ProgressLine(io);
    const folder = typeof flags.record === "string" ? resolve(io.cwd, flags.record) : null;
    // Before the run: a folder that cannot be made shall not cost a measurement.
    if (folder !== null) mkdirSync(folder, { recursive: true });
    const requests: RecordedRequest[] = [];
    try {
      const report = await runLoad(options, {
        clock: monotonicClock,
        signal: interrupt.signal,
        startedAt: new Date(),
        onProgress: (state) => progress.show(() => describe(state)),
        onRecord(record, trace, startMs) {
          if (folder === null) return;
          const request = toRecordedRequest(record, trace, startMs);
          if (request !== null) requests.push(request);
        },
      });
      progress.clear();
      if (folder !== null) writeRun(folder, { report, requests });
      io.stdout.write(flags.json === true ? `${JSON.stringify(report)}\n` : renderReport(report));
      exit(report.isInterrupted || report.requests.completed === 0 ? EXIT.failure : EXIT.ok);
    } finally {
      progress.clear();
      subscription.unsubscribe();
    }
  });
}

function describe(state: LoadProgress): string {
  const counts = `${state.numCompleted} completed, ${state.numInFlight} in flight`;
  const losses = `${state.numFailed} failed, ${state.numDropped} dropped`;
  return `${state.phase}: ${state.numScheduled} sent, ${counts}, ${losses}`;
}
