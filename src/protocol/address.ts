import { BlockList, isIP } from "node:net";

/** Where a process listens or is reached. */
export type Address =
  | { readonly kind: "unix"; readonly path: string }
  /** `host` is a name or an IP address, IPv6 without brackets. Port 0 asks the system for a free one. */
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

/** `sockaddr_un.sun_path` has 108 bytes on Linux, one of which ends the string. */
export const MAX_UNIX_PATH_BYTES = 107;

/** A DNS name has at most 253 characters (RFC 1035, section 2.3.4). */
const MAX_HOST_LENGTH = 253;

/** An address that cannot be used; the message says what is wrong and what would be right. */
export class AddressError extends Error {
  override name = "AddressError";
}

/** Reads `unix:/path` or `tcp:host:port` (IPv6 in brackets: `tcp:[::1]:9000`). Throws {@link AddressError}. */
export function parseAddress(text: string): Address {
  if (text.startsWith("unix:")) return parseUnix(text.slice("unix:".length));
  if (text.startsWith("tcp:")) return parseTcp(text.slice("tcp:".length), text);
  throw new AddressError(`address ${quote(text)} is neither unix:/path nor tcp:host:port`);
}

/** The text that {@link parseAddress} reads back to the same address. */
export function formatAddress(address: Address): string {
  if (address.kind === "unix") return `unix:${address.path}`;
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  return `tcp:${host}:${address.port}`;
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/**
 * Whether bytes sent to the address stay on this machine: unix sockets, 127.0.0.0/8, `::1` (also IPv4-mapped) and the
 * name `localhost`, which RFC 6761 reserves for it. Other names are not resolved and count as remote.
 */
export function isLoopback(address: Address): boolean {
  if (address.kind === "unix") return true;
  const family = isIP(address.host);
  if (family === 0) return address.host.toLowerCase() === "localhost";
  return LOOPBACK.check(address.host, family === 4 ? "ipv4" : "ipv6");
}

function parseUnix(path: string): Address {
  if (!path.startsWith("/")) throw new AddressError(`unix socket path ${quote(path)} must start with /`);
  if (path.includes("\0")) throw new AddressError("a unix socket path cannot contain a NUL byte");
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_UNIX_PATH_BYTES) {
    throw new AddressError(
      `unix socket path ${quote(path)} has ${bytes} bytes; the system allows ${MAX_UNIX_PATH_BYTES}: use a shorter folder`,
    );
  }
  return { kind: "unix", path };
}

function parseTcp(rest: string, text: string): Address {
  const match = /^(?:\[(?<v6>[^\]]*)\]|(?<host>[^:[\]]*)):(?<port>\d{1,5})$/.exec(rest);
  if (match?.groups === undefined) {
    throw new AddressError(`address ${quote(text)} is not tcp:host:port (IPv6 in brackets: tcp:[::1]:9000)`);
  }
  const { v6, host: name } = match.groups;
  const port = Number(match.groups.port);
  if (port > 65_535) throw new AddressError(`port ${port} in ${quote(text)} is above 65535`);
  if (v6 !== undefined) {
    if (isIP(v6) !== 6) throw new AddressError(`${quote(v6)} in ${quote(text)} is not an IPv6 address`);
    return { kind: "tcp", host: v6, port };
  }
  if (name === undefined || !isHost(name)) {
    throw new AddressError(`${quote(name ?? "")} in ${quote(text)} is not a host name or an IP address`);
  }
  return { kind: "tcp", host: name, port };
}

function isHost(name: string): boolean {
  if (isIP(name) === 4) return true;
  if (name.length > MAX_HOST_LENGTH || /^[\d.]+$/.test(name)) return false;
  return /^[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?$/.test(name);
}

/** Quotes what came from outside, with control characters escaped and a bound on its length. */
function quote(text: string): string {
  return JSON.stringify(text.length > 160 ? `${text.slice(0, 160)}…` : text);
}
