/** The message with which a child tells its supervisor that it works. */
export interface ReadyMessage {
  readonly kind: "twofold-ready";
  readonly payload: unknown;
}

/** How long a child that has lost its parent may clean up. */
export const ORPHAN_GRACE_MS = 2000;

/** Tells the supervisor, if there is one, that this process works; `payload` must survive JSON. */
export function reportReady(payload: unknown): void {
  const message: ReadyMessage = { kind: "twofold-ready", payload };
  if (process.connected) process.send?.(message);
}

/** Whether a supervisor started this process. */
export function isSupervised(): boolean {
  return process.send !== undefined;
}

/**
 * Ends this process when its supervisor ends, however that happens: the kernel closes the parent's end of the channel
 * even when the parent was killed. Call it first thing in a child's main; in a process without a supervisor it does
 * nothing. The channel keeps the process alive until then; a child that is done must exit by itself.
 *
 * Ctrl-C reaches every process of a terminal at once, but how to shut down is the parent's decision, so the child
 * ignores it.
 *
 * `cleanUp` has {@link ORPHAN_GRACE_MS}; then the process kills itself, as an ordinary exit would wait for native
 * threads that may be in the middle of a computation, and nobody is left to see an exit code.
 */
export function exitWithParent(cleanUp: () => Promise<void> | void = () => undefined): void {
  if (!isSupervised()) return;
  const onOrphaned = () => {
    const kill = () => process.kill(process.pid, "SIGKILL");
    setTimeout(kill, ORPHAN_GRACE_MS);
    // A clean-up that fails is over as well.
    void Promise.resolve().then(cleanUp).then(kill, kill);
  };
  process.on("SIGINT", () => undefined);
  if (process.connected) process.once("disconnect", onOrphaned);
  else onOrphaned();
}
