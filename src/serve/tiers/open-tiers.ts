import { join } from "node:path";
import { KvEventLog } from "../../core/kv/kv-event-log.ts";
import { KvTiers } from "../../core/kv/tiers/kv-tiers.ts";
import { parseByteSize } from "../../protocol/byte-size.ts";
import type { WorkerConfig } from "../../protocol/worker-config.ts";
import type { Engine } from "../engine/engine.ts";
import { DiskStore, reasonOf } from "./disk-store.ts";
import { FolderInUseError, lockFolder } from "./folder-lock.ts";
import { HostStore } from "./host-store.ts";
import { fingerprintOf } from "./segment-file.ts";
import { TierDriver } from "./tier-driver.ts";
import { openTierFolder, type TierFiles } from "./tier-files.ts";
import type { TierStore } from "./tier-store.ts";

/** Folders that are tried for a worker that has no name of its own. */
const MAX_UNNAMED_FOLDERS = 64;

/** The tiers of KV below a worker's engine: who decides, and who carries it out. */
export interface WorkerTiers {
  readonly tiers: KvTiers;
  readonly driver: TierDriver;
  /** Told of what is in the tiers; the engine's caches report to the same one. */
  readonly kvEvents: KvEventLog;
  close(): Promise<void>;
}

/** A folder that this process has to itself. */
interface Folder {
  readonly files: TierFiles;
  release(): Promise<void>;
}

/**
 * Opens the tiers that a worker's configuration names; null when it names none. Never rejects: a disk tier that can't be used is
 * told to `warn`, once, and left out.
 */
export async function openTiers(
  config: WorkerConfig,
  engine: Engine,
  options: { readonly key: Buffer; readonly warn: (message: string) => void },
): Promise<WorkerTiers | null> {
  const { hostBytes, diskPath, diskBytes, eviction } = config.tiers;
  const { blockSizeTokens } = config;
  const stores: TierStore[] = [];
  const bounds: Array<{ tier: "host" | "disk"; maxBytes: number }> = [];
  if (hostBytes !== undefined) {
    stores.push(new HostStore());
    bounds.push({ tier: "host", maxBytes: parseByteSize(hostBytes)! });
  }
  const warnOff = (reason: string): void =>
    options.warn(`KV on disk in ${diskPath} is off until the worker starts again: ${reason}`);
  const offFor = (error: unknown): null => {
    warnOff(reasonOf(error));
    return null;
  };
  const folder = diskPath === undefined ? null : await openFolder(config, diskPath).catch(offFor);
  let driver: TierDriver | null = null;
  let disk: DiskStore | null = null;
  let scan: Awaited<ReturnType<DiskStore["scan"]>> | null = null;
  if (folder !== null) {
    const { modelId, kvType } = engine.info;
    disk = new DiskStore({
      files: folder.files,
      identity: { fingerprint: fingerprintOf({ modelId, kvType, blockSizeTokens }), key: options.key },
      onOff: (reason) => {
        warnOff(reason);
        driver?.turnOff("disk");
      },
    });
    scan = await disk.scan().catch(offFor);
    if (scan !== null) {
      stores.push(disk);
      bounds.push({ tier: "disk", maxBytes: parseByteSize(diskBytes)! });
    }
  }
  if (stores.length === 0) {
    await folder?.release();
    return null;
  }
  const { kvBytesPerToken: bytesPerToken } = engine.info;
  const kvEvents = new KvEventLog();
  const tiers = new KvTiers({ tiers: bounds, eviction, blockSizeTokens, bytesPerToken, kvEvents });
  if (disk !== null && scan !== null) {
    for (const segment of tiers.restore("disk", scan.found, scan.numBad)) disk.delete(segment);
  }
  driver = new TierDriver({ engine, blockSizeTokens, stores, nowMs: () => performance.now() });
  return {
    tiers,
    driver,
    kvEvents,
    close: async () => {
      await driver.close();
      await folder?.release();
    },
  };
}

/** The folder of a worker's name; for a worker without one the first that no other worker uses. */
async function openFolder({ role, tiers }: WorkerConfig, diskPath: string): Promise<Folder> {
  if (tiers.diskFolder !== undefined) return takeFolder(join(diskPath, tiers.diskFolder));
  for (let number = 1; number < MAX_UNNAMED_FOLDERS; number++) {
    try {
      return await takeFolder(join(diskPath, `${role}-${number}`));
    } catch (error) {
      if (!(error instanceof FolderInUseError)) throw error;
    }
  }
  return takeFolder(join(diskPath, `${role}-${MAX_UNNAMED_FOLDERS}`));
}

async function takeFolder(path: string): Promise<Folder> {
  const files = await openTierFolder(path);
  const lock = await lockFolder(path);
  return { files, release: () => lock.release() };
}
