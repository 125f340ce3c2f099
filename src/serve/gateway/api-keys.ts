import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { OPEN_TENANT } from "../../protocol/fleet-file.ts";
import { GatewayConfigError } from "./options.ts";

/** Who may use the gateway. The key itself is not kept. */
export interface ApiKey {
  /** Name of the tenant. Keys with the same name share a tenant, and with it the prefix cache. */
  readonly name: string;
  /** SHA-256 of the key, as 64 hexadecimal digits. */
  readonly sha256: string;
}

/** The hash under which a key is configured. */
export function hashApiKey(key: string): string {
  return createHash("sha256").update(key, "utf8").digest("hex");
}

/** Who is asking, as far as the prefix cache is concerned. */
export interface Tenant {
  readonly name: string;
  /** HMAC-SHA256 of the tenant's name: what others cannot guess, their prompts cannot probe. */
  readonly cacheSalt: string;
  /** The most of a worker's prefix cache that the tenant's unused blocks may take, in [0, 1]. */
  readonly cacheShare: number;
}

/** The salt of blocks that all tenants share. No tenant's name begins like this one. */
export function publicCacheSalt(cacheSecret: Buffer): string {
  return createHmac("sha256", cacheSecret).update("\0public", "utf8").digest("hex");
}

/** Tells tenants by their keys. */
export interface Authenticator {
  /** The tenant of an `Authorization` header, or null when the key is missing or unknown. */
  authenticate(authorization: string | undefined): Tenant | null;
}

/**
 * @param keys who may come in; when empty, everybody is one tenant and no header is needed
 * @param cacheShares of tenants that may not have all of the prefix cache
 * @throws GatewayConfigError when a hash is not one
 */
export function createAuthenticator(
  keys: readonly ApiKey[],
  cacheSecret: Buffer,
  cacheShares: ReadonlyMap<string, number> = new Map(),
): Authenticator {
  const tenantOf = (name: string): Tenant => ({
    name,
    cacheShare: cacheShares.get(name) ?? 1,
    cacheSalt: createHmac("sha256", cacheSecret).update(name, "utf8").digest("hex"),
  });
  if (keys.length === 0) {
    const everybody = tenantOf(OPEN_TENANT);
    return { authenticate: () => everybody };
  }
  const known = keys.map((key) => {
    if (!/^[0-9a-f]{64}$/i.test(key.sha256))
      throw new GatewayConfigError(`The API key '${key.name}' needs its SHA-256 as 64 hexadecimal digits.`);
    return { hash: Buffer.from(key.sha256, "hex"), tenant: tenantOf(key.name) };
  });
  return {
    authenticate(authorization) {
      const key = /^bearer +(\S+)$/i.exec(authorization ?? "")?.[1];
      if (key === undefined) return null;
      const hash = createHash("sha256").update(key, "utf8").digest();
      let tenant: Tenant | null = null;
      // Every key is compared, so that the time does not tell which one came close.
      for (const candidate of known) if (timingSafeEqual(candidate.hash, hash)) tenant = candidate.tenant;
      return tenant;
    },
  };
}
