import { hkdfSync } from "node:crypto";

/** Keys that follow from a fleet's secret. Each has one use, so that losing one gives nothing else away. */
export interface FleetKeys {
  /** Proves to other workers that this one belongs to the fleet. */
  readonly linkSecret: Buffer;
  /** Bearer token between gateway and workers, 64 hexadecimal digits. */
  readonly rpcToken: string;
  /** Key of the tenants' cache salts. The same secret gives the same salts, so caches stay valid over a restart. */
  readonly cacheSecret: Buffer;
  /** Authenticates KV on disk. The same secret reads it again after a restart. */
  readonly tierKey: Buffer;
}

const KEY_BYTES = 32;

/** Derives the keys by HKDF-SHA256 (RFC 5869) with a label per use. */
export function fleetKeys(secret: string): FleetKeys {
  const derive = (label: string): Buffer =>
    Buffer.from(hkdfSync("sha256", secret, "", `twofold ${label}`, KEY_BYTES));
  return {
    linkSecret: derive("worker link"),
    rpcToken: derive("rpc token").toString("hex"),
    cacheSecret: derive("cache salt"),
    tierKey: derive("kv on disk"),
  };
}
