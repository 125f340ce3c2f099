import type { CliIo } from "../../src/cli/io.ts";

/** Streams, environment and signals of a command line in a test. */
export class FakeIo implements CliIo {
  readonly out: string[] = [];
  readonly err: string[] = [];
  readonly exits: number[] = [];
  readonly env: Record<string, string | undefined>;
  readonly cwd: string;
  readonly stdout = { write: (text: string): number => this.#written(this.out, text), columns: 100 };
  readonly stderr = { write: (text: string): number => this.#written(this.err, text) };
  readonly #listeners = new Set<(signal: "SIGINT" | "SIGTERM") => void>();
  readonly #readers: { readonly text: string; readonly resolve: () => void }[] = [];

  constructor(options: { env?: Record<string, string | undefined>; cwd?: string } = {}) {
    this.env = options.env ?? {};
    this.cwd = options.cwd ?? "/";
  }

  get outText(): string {
    return this.out.join("");
  }

  get errText(): string {
    return this.err.join("");
  }

  get numSignalListeners(): number {
    return this.#listeners.size;
  }

  onSignal(listener: (signal: "SIGINT" | "SIGTERM") => void): { unsubscribe(): void } {
    this.#listeners.add(listener);
    return { unsubscribe: () => this.#listeners.delete(listener) };
  }

  exitNow(code: number): void {
    this.exits.push(code);
  }

  signal(name: "SIGINT" | "SIGTERM"): void {
    for (const listener of this.#listeners) listener(name);
  }

  /** Resolves once the text has been written to either stream. */
  wrote(text: string): Promise<void> {
    return new Promise((resolve) => {
      this.#readers.push({ text, resolve });
      this.#notify();
    });
  }

  #written(lines: string[], text: string): number {
    lines.push(text);
    this.#notify();
    return text.length;
  }

  #notify(): void {
    for (const { text, resolve } of this.#readers) {
      if (this.outText.includes(text) || this.errText.includes(text)) resolve();
    }
  }
}
