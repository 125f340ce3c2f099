import { FLEET_SECRET_ENV, type WorkerConfig } from "../../protocol/worker-config.ts";
import { PROTOCOL_VERSION } from "../../protocol/worker-rpc.ts";
import { exitWithParent, isSupervised, reportReady } from "../fleet/child-side.ts";
import { fleetKeys } from "../fleet/fleet-keys.ts";
import { openTiers } from "../tiers/open-tiers.ts";
import { createKvMesh } from "../transfer/kv-mesh.ts";
import { createDriver, openWorkerEngine } from "./assemble.ts";
import { createRpcServer } from "./rpc-server.ts";
import { LoggedEngine } from "./step-log.ts";

/** A worker that a gateway can use. */
export interface RunningWorker {
  /** RPC address. */
  readonly address: string;
  readonly kvAddress: string;
  /** Gives up what is under way, closes links and engine. Idempotent. */
  close(): Promise<void>;
  /** Resolves when the worker has closed; rejects when its engine has failed. */
  readonly done: Promise<void>;
}

/**
 * Starts one worker: engine, scheduler, links and RPC server. The fleet secret is read from the environment.
 * Rejects with `EngineError` or `AddressError` when it cannot start; nothing is left open then.
 */
export async function runWorker(config: WorkerConfig): Promise<RunningWorker> {
  const keys = fleetKeys(process.env[FLEET_SECRET_ENV] ?? "");
  let close: () => Promise<void> = async () => {};
  // First of all: a parent that dies while a model loads must not leave this process behind.
  exitWithParent(() => close());
  const opened = await openWorkerEngine(config);
  const engine =
    config.stepLog === undefined
      ? opened
      : new LoggedEngine(opened, config.stepLog, { id: config.workerId, role: config.role });
  let failed: (error: unknown) => void = () => {};
  const failure = new Promise<never>((_, reject) => {
    failed = reject;
  });
  const tiers = await openTiers(config, engine, {
    key: keys.tierKey,
    warn: (message) => process.stderr.write(`${message}\n`),
  });
  const driver = createDriver(config, engine, (error) => failed(error), tiers);
  const mesh = createKvMesh({
    identity: {
      workerId: config.workerId,
      modelId: engine.info.modelId,
      tokenizerId: engine.info.tokenizerId,
      kvType: engine.info.kvType,
      blockSizeTokens: config.blockSizeTokens,
      protocolVersion: PROTOCOL_VERSION,
    },
    secret: keys.linkSecret,
    onMessage: (peer, message, ms) => driver.receive(peer, message, ms),
    onPeerLost: (peer) => driver.peerLost(peer),
    onRefused: (reason) => process.stderr.write(`refused a link: ${reason}\n`),
    allowPlaintext: config.allowPlaintext,
  });
  const server = createRpcServer(driver, {
    token: keys.rpcToken,
    allowPlaintext: config.allowPlaintext,
    onDrain: () => driver.drain(),
    onInternalError: (error) =>
      process.stderr.write(`rpc: ${error instanceof Error ? error.stack : String(error)}\n`),
  });
  close = onceAsync(async () => {
    driver.drain();
    // The server that supervises a worker has let its requests finish before it stops the worker.
    if (!isSupervised()) await driver.untilIdle();
    driver.stop();
    await Promise.allSettled([server.close(), mesh.close()]);
    // Exports that are queued first, then what they have to be written to.
    await engine.close();
    await tiers?.close();
  });
  try {
    const kvAddress = await mesh.listen(config.kvListen);
    driver.attachMesh(mesh, kvAddress);
    const address = await server.listen(config.listen);
    reportReady({ address, kvAddress });
    const { closed, closeAndSignal } = signalled(close);
    const done = Promise.race([closed, failure]);
    // The caller may not be waiting yet when the engine fails.
    done.catch(() => {});
    return { address, kvAddress, close: closeAndSignal, done };
  } catch (error) {
    await close();
    throw error;
  }
}

function onceAsync(run: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | null = null;
  return () => {
    running ??= run();
    return running;
  };
}

/** Wraps `close` so that `closed` resolves when it has been called and has finished. */
function signalled(close: () => Promise<void>): {
  closed: Promise<void>;
  closeAndSignal: () => Promise<void>;
} {
  let resolveClosed: () => void = () => {};
  const closed = new Promise<void>((resolve) => {
    resolveClosed = resolve;
  });
  return { closed, closeAndSignal: () => close().then(resolveClosed) };
}
