/** Where text goes: a stream of the process, or a list in a test. */
interface TextSink {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

/** Everything that the command line touches outside itself. */
export interface CliIo {
  readonly stdout: TextSink;
  readonly stderr: TextSink;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Relative paths of arguments start here. */
  readonly cwd: string;
  /** Calls back on each SIGINT and SIGTERM, instead of ending the process, until it is unsubscribed. */
  onSignal(listener: (signal: "SIGINT" | "SIGTERM") => void): { unsubscribe(): void };
  /** Ends the process at once. Only for a second signal: everything else returns an exit code. */
  exitNow(code: number): void;
}

/** Exit codes of every verb. */
export const EXIT = { ok: 0, failure: 1, usage: 2 } as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** An expected failure: its message is printed as it is, without a stack, and says what to do. */
export class CliError extends Error {
  override name = "CliError";
  readonly exitCode: ExitCode;

  constructor(exitCode: ExitCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

/** The streams, environment and signals of this process. */
export function processIo(): CliIo {
  return {
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    onSignal(listener) {
      process.on("SIGINT", listener);
      process.on("SIGTERM", listener);
      return {
        unsubscribe: () => {
          process.off("SIGINT", listener);
          process.off("SIGTERM", listener);
        },
      };
    },
    exitNow: (code) => process.exit(code),
  };
}
