import { type ChildProcess, type SpawnOptions, spawn as spawnProcess } from "node:child_process";
import { SYSTEM_TIMERS, type Timers } from "../transfer/timers.ts";
import type { ReadyMessage } from "./child-side.ts";
import { OutputLines } from "./output-lines.ts";
import { RESTART_LIMITS, type RestartLimits, RestartPolicy } from "./restart-policy.ts";

export interface SupervisorLimits extends RestartLimits {
  /** A child that has not reported ready by then is killed, which counts as a crash. Loading a model takes a while. */
  readonly readyTimeoutMs: number;
  /** Between SIGTERM and SIGKILL. */
  readonly stopGraceMs: number;
  /** Characters of one line of output that are passed on. */
  readonly maxLineLength: number;
}

export const SUPERVISOR_LIMITS: SupervisorLimits = {
  ...RESTART_LIMITS,
  readyTimeoutMs: 60_000,
  stopGraceMs: 5000,
  maxLineLength: 8192,
};

/** What to run. */
export interface ChildSpec {
  /** Names the child in reports. */
  readonly name: string;
  /** The script and its arguments. Everybody on the machine can read them: no secrets. */
  readonly args: readonly string[];
  /**
   * Variables on top of this process's own, made anew for each start (counted from 0), so that a restarted worker gets a
   * new id. Secrets belong here: only this user can read a process's environment.
   */
  readonly env: (incarnation: number) => Readonly<Record<string, string>>;
}

/**
 * - `starting`: runs, has not reported ready
 * - `ready`: runs and works
 * - `backing-off`: crashed, waits for its restart
 * - `failed`: crashed too often; only `restart()` starts it again
 * - `stopping`, `stopped`: as asked
 */
export type ChildState = "starting" | "ready" | "backing-off" | "failed" | "stopping" | "stopped";

/** A change of one child's state, with what there is to say about it. */
export interface ChildReport {
  readonly name: string;
  readonly state: ChildState;
  readonly pid: number | null;
  readonly incarnation: number;
  /** Why: how it ended, when it will start again, what went wrong. Empty when all goes well. */
  readonly reason: string;
  /** With `ready`: what the child said of itself. Not validated. */
  readonly payload?: unknown;
}

export interface OutputLine {
  readonly name: string;
  readonly stream: "stdout" | "stderr";
  readonly line: string;
}

export interface SupervisorOptions {
  /** Called at every change of state, in order per child. */
  readonly onReport: (report: ChildReport) => void;
  readonly onOutput: (line: OutputLine) => void;
  readonly limits?: Partial<SupervisorLimits>;
  readonly timers?: Timers;
  /** Uniform in [0, 1). */
  readonly random?: () => number;
  /** Flags for node itself; this process's own by default. */
  readonly execArgv?: readonly string[];
  /** Starts a process; replaced in tests. */
  readonly spawn?: (command: string, args: readonly string[], options: SpawnOptions) => ChildProcess;
}

export interface SupervisedChild {
  readonly name: string;
  readonly state: ChildState;
  readonly pid: number | null;
  /** SIGTERM, then SIGKILL after the grace; resolves when the process is gone. Idempotent. */
  stop(): Promise<void>;
  /** Starts a child that failed, was stopped, or waits for its restart; its crashes are forgotten. */
  restart(): void;
}

export interface Supervisor {
  /** Starts a child and keeps it running. Throws when the name is taken or the supervisor is closed. */
  start(spec: ChildSpec): SupervisedChild;
  children(): readonly SupervisedChild[];
  /** Stops all children at once and starts none any more. Idempotent. */
  close(): Promise<void>;
}

/**
 * Keeps child processes of this node binary running. Children report over an IPC channel (see child-side.ts), whose
 * end they also take as the sign that their parent is gone, so that none is left behind.
 */
export function createSupervisor(options: SupervisorOptions): Supervisor {
  const children = new Map<string, Child>();
  let isClosed = false;
  return {
    start(spec) {
      if (isClosed) throw new Error("the supervisor has been closed");
      if (children.has(spec.name)) throw new Error(`a child named ${spec.name} exists already`);
      const child = new Child(spec, options);
      children.set(spec.name, child);
      child.restart();
      return child;
    },
    children: () => [...children.values()],
    async close() {
      isClosed = true;
      await Promise.all([...children.values()].map((child) => child.close()));
    },
  };
}

class Child implements SupervisedChild {
  readonly name: string;
  readonly #spec: ChildSpec;
  readonly #options: SupervisorOptions;
  readonly #limits: SupervisorLimits;
  readonly #timers: Timers;
  readonly #policy: RestartPolicy;
  #state: ChildState = "stopped";
  #incarnation = -1;
  #process: ChildProcess | null = null;
  /** The one thing that is being waited for: readiness, the restart, or the end. */
  #timer: { cancel(): void } | null = null;
  #onGone: Array<() => void> = [];
  #isClosed = false;
  /** Why this side killed the process, to be told when it has ended. */
  #killReason: string | null = null;

  constructor(spec: ChildSpec, options: SupervisorOptions) {
    this.name = spec.name;
    this.#spec = spec;
    this.#options = options;
    this.#limits = { ...SUPERVISOR_LIMITS, ...options.limits };
    this.#timers = options.timers ?? SYSTEM_TIMERS;
    this.#policy = new RestartPolicy(this.#limits);
  }

  get state(): ChildState {
    return this.#state;
  }

  get pid(): number | null {
    return this.#process?.pid ?? null;
  }

  restart(): void {
    if (this.#isClosed || this.#process !== null) return;
    this.#policy.reset();
    this.#start();
  }

  async stop(): Promise<void> {
    const child = this.#process;
    if (child === null) {
      this.#wait(null);
      if (this.#state !== "stopped") this.#report("stopped", "stopped while it was not running");
      return;
    }
    const gone = new Promise<void>((resolve) => this.#onGone.push(resolve));
    // A second call waits for the end that the first one has set in motion.
    if (this.#state !== "stopping") {
      this.#wait(this.#limits.stopGraceMs, () => child.kill("SIGKILL"));
      this.#report("stopping", "");
      child.kill("SIGTERM");
    }
    await gone;
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return this.stop();
  }

  #start(): void {
    this.#incarnation++;
    this.#killReason = null;
    const { execArgv = process.execArgv, spawn = spawnProcess } = this.#options;
    const child = spawn(process.execPath, [...execArgv, ...this.#spec.args], {
      env: { ...process.env, ...this.#spec.env(this.#incarnation) },
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    this.#process = child;
    this.#forward(child, "stdout");
    this.#forward(child, "stderr");
    child.on("message", (message) => this.#onMessage(child, message));
    child.once("exit", (code, signal) => {
      this.#onEnd(
        child,
        this.#killReason ?? (signal === null ? `exited with code ${code}` : `was ended by ${signal}`),
      );
    });
    child.on("error", (error) => {
      // The same event also tells of a signal that could not be sent, to a process that will still report its exit.
      if (child.pid === undefined) this.#onEnd(child, `could not be started: ${error.message}`);
    });
    this.#wait(this.#limits.readyTimeoutMs, () => {
      this.#killReason = `was not ready after ${this.#limits.readyTimeoutMs} ms`;
      child.kill("SIGKILL");
    });
    this.#report("starting", "");
  }

  #onMessage(child: ChildProcess, message: unknown): void {
    if (child !== this.#process || this.#state !== "starting" || !isReady(message)) return;
    this.#wait(null);
    this.#policy.onReady();
    this.#report("ready", "", message.payload);
  }

  #onEnd(child: ChildProcess, how: string): void {
    if (child !== this.#process) return;
    this.#wait(null);
    this.#process = null;
    if (this.#state === "stopping") {
      this.#report("stopped", how);
      const waiting = this.#onGone;
      this.#onGone = [];
      for (const resolve of waiting) resolve();
      return;
    }
    const random = this.#options.random ?? Math.random;
    const decision = this.#policy.onCrash(this.#timers.nowMs(), random());
    if (decision.kind === "give-up") {
      this.#report("failed", `${how}; no more restarts: ${decision.reason}`);
      return;
    }
    this.#wait(decision.delayMs, () => this.#start());
    this.#report("backing-off", `${how}; restarts in ${Math.round(decision.delayMs)} ms: ${decision.reason}`);
  }

  #forward(child: ChildProcess, stream: "stdout" | "stderr"): void {
    const source = child[stream];
    if (source === null) return;
    const lines = new OutputLines(this.#limits.maxLineLength, (line) => {
      this.#options.onOutput({ name: this.name, stream, line });
    });
    source.setEncoding("utf8");
    source.on("data", (text: string) => lines.push(text));
    source.on("error", () => undefined);
    source.once("close", () => lines.end());
  }

  #wait(delayMs: number, callback: () => void): void;
  #wait(nothing: null): void;
  #wait(delayMs: number | null, callback: () => void = () => undefined): void {
    this.#timer?.cancel();
    this.#timer = delayMs === null ? null : this.#timers.after(delayMs, callback);
  }

  #report(state: ChildState, reason: string, payload?: unknown): void {
    this.#state = state;
    const { name, pid } = this;
    const report: ChildReport = { name, state, pid, incarnation: this.#incarnation, reason };
    this.#options.onReport(payload === undefined ? report : { ...report, payload });
  }
}

function isReady(message: unknown): message is ReadyMessage {
  return (
    typeof message === "object" && message !== null && "kind" in message && message.kind === "twofold-ready"
  );
}
