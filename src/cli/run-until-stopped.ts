import { type CliIo, EXIT, type ExitCode } from "./io.ts";

/** Something that runs until it is closed or breaks. */
export interface Stoppable {
  close(): Promise<void>;
  readonly done: Promise<void>;
}

/** How a process takes its signals. */
export type Audience =
  /** Somebody at a terminal or a service manager, who is told what happens. */
  | "operator"
  /** A process that started this one: it speaks by SIGTERM alone, and a Ctrl-C at its terminal is for it to handle. */
  | "parent";

/**
 * Starts something and waits for its end. The first SIGINT or SIGTERM closes it, also when it is still starting; the second
 * ends the process at once. Failures reject.
 */
export async function runUntilStopped<T extends Stoppable>(
  io: CliIo,
  start: () => Promise<T>,
  onStarted: (running: T) => void,
  audience: Audience = "operator",
): Promise<ExitCode> {
  let isStopping = false;
  let running: T | null = null;
  let closing: Promise<void> | null = null;
  const subscription = io.onSignal((signal) => {
    if (audience === "parent" && signal === "SIGINT") return;
    if (isStopping) {
      io.stderr.write("Stopped without waiting.\n");
      io.exitNow(EXIT.failure);
      return;
    }
    isStopping = true;
    if (audience === "operator")
      io.stderr.write(`${signal}: finishing running requests; once more stops at once.\n`);
    if (running !== null) closing = running.close();
    // A failed close is reported below, when it is awaited.
    closing?.catch(() => undefined);
  });
  try {
    running = await start();
    if (isStopping) closing ??= running.close();
    else onStarted(running);
    await running.done;
    await closing;
    return EXIT.ok;
  } finally {
    subscription.unsubscribe();
  }
}
