import { randomBytes } from "node:crypto";
import { link, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isAlive, type ProcessName, processName } from "./process-name.ts";

/**
 * A claim is an empty file whose name says whose it is; beside it lies one that ends with `.held` once the claim has prevailed. A name is
 * given to one claim only, ever, so that removing what a dead process has left can't hit what another one has made meanwhile.
 */
const CLAIM = /^lock-(\d{1,10})-(\d{0,20})-([0-9a-f]{0,12})-[0-9a-f]{16}(\.held)?$/;
const HELD = ".held";
/** How often, and for how long, a process looks whether one that came at the same time withdraws. */
const POLL_MS = 10;
const MAX_POLLS = 200;

/** Claims of this process, by name. */
const ownClaims = new Set<string>();

/** A folder that is in use by another process. */
export class FolderInUseError extends Error {
  override name = "FolderInUseError";
}

/** Somebody's claim that is there. */
interface Claim {
  readonly name: string;
  readonly process: ProcessName;
  readonly isHeld: boolean;
}

/**
 * Takes a folder for this process. What processes that are gone have left behind is removed; a process number that has been given to another
 * process since does not count as the one that left it, where the system tells when processes began.
 *
 * Everybody announces a claim before looking at those of others, so of two that come at the same time one sees the other at least: never
 * both succeed. The one whose claim comes first by name then waits for the other to withdraw.
 *
 * Rejects with {@link FolderInUseError}, or a system error.
 */
export async function lockFolder(path: string): Promise<{ release(): Promise<void> }> {
  const { pid, start, boot } = await processName(process.pid);
  const name = `lock-${pid}-${start}-${boot}-${randomBytes(8).toString("hex")}`;
  const claim = join(path, name);
  const release = async (): Promise<void> => {
    await rm(claim + HELD, { force: true });
    await rm(claim, { force: true });
    ownClaims.delete(name);
  };
  ownClaims.add(name);
  try {
    await writeFile(claim, "", { mode: 0o600, flag: "wx" });
    await prevail(path, name);
    await link(claim, claim + HELD);
  } catch (error) {
    await release();
    throw error;
  }
  return { release };
}

/** Resolves when nobody else claims the folder. */
async function prevail(path: string, own: string): Promise<void> {
  for (let numPolls = 0; numPolls < MAX_POLLS; numPolls++) {
    const others = await livingClaims(path, own);
    const [first] = others;
    if (first === undefined) return;
    const stronger = others.find(({ name, isHeld }) => isHeld || name < own);
    if (stronger !== undefined)
      throw new FolderInUseError(`${path} is in use by the worker with process id ${stronger.process.pid}`);
    // Either it has not seen this claim, and is about to hold the folder, or it withdraws.
    await delay(POLL_MS);
  }
  throw new FolderInUseError(`${path} is being claimed by another worker, which does not end`);
}

/** Claims of others that live; what is left of the others is removed. */
async function livingClaims(path: string, own: string): Promise<Claim[]> {
  const names = new Set(await readdir(path));
  const claims: Claim[] = [];
  for (const file of names) {
    const [, pid, start, boot, held] = CLAIM.exec(file) ?? [];
    if (pid === undefined) continue;
    const name = file.slice(0, file.length - (held?.length ?? 0));
    // Seen by the claim itself, if that is there.
    if (name === own || (held !== undefined && names.has(name))) continue;
    const owner = { pid: Number(pid), start: start!, boot: boot! };
    // Where nobody tells when processes began, a former one may have had this one's number.
    const isFormer = start === "" && owner.pid === process.pid && !ownClaims.has(name);
    if (!isFormer && (await isAlive(owner)))
      claims.push({ name, process: owner, isHeld: names.has(name + HELD) });
    else {
      await rm(join(path, name + HELD), { force: true });
      await rm(join(path, name), { force: true });
    }
  }
  return claims;
}
