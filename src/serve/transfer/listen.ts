import { once } from "node:events";
import { chmod, lstat, mkdir, stat, unlink } from "node:fs/promises";
import { connect, type ListenOptions, type Server } from "node:net";
import { dirname } from "node:path";
import { type Address, AddressError, formatAddress, isLoopback } from "../../protocol/address.ts";

/** How long a probe of an existing unix socket waits for an answer. */
const STALE_PROBE_TIMEOUT_MS = 1000;

/** Refuses to send what is not encrypted over a network, unless the operator has said that it is isolated. */
export function checkPlaintext(address: Address, allowPlaintext: boolean): void {
  if (isLoopback(address) || allowPlaintext) return;
  throw new AddressError(
    `${formatAddress(address)} is not on this machine and links between workers are authenticated but not encrypted: ` +
      "use a loopback address or a unix socket, or allow plaintext if the network is isolated",
  );
}

/**
 * Listens on an address and returns the actual one (with the port that the system chose, where it did).
 *
 * A unix socket gets mode 0600 in a folder with mode 0700 that belongs to this user; the folder is created if it does
 * not exist, and refused if others can enter it. A socket file that nobody listens on is left from a process that
 * died, and is replaced. Rejects with {@link AddressError}, or with the system's error.
 */
export async function listenOn(
  server: Server,
  address: Address,
  options: { readonly allowPlaintext: boolean },
): Promise<Address> {
  checkPlaintext(address, options.allowPlaintext);
  if (address.kind === "unix") {
    await preparePrivateFolder(dirname(address.path));
    await listenOnPath(server, address.path);
    return address;
  }
  await listen(server, { host: address.host, port: address.port, exclusive: true });
  const bound = server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : address.port;
  return { kind: "tcp", host: address.host, port };
}

async function listenOnPath(server: Server, path: string): Promise<void> {
  try {
    await listen(server, { path });
  } catch (error) {
    if (!isCode(error, "EADDRINUSE")) throw error;
    await removeStaleSocket(path);
    await listen(server, { path });
  }
  // The folder lets nobody else in, so there is no moment at which the wider mode of a new socket could be used.
  await chmod(path, 0o600);
}

async function preparePrivateFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const { mode, uid } = await stat(folder);
  const own = process.getuid?.();
  if ((mode & 0o077) !== 0 || (own !== undefined && uid !== own)) {
    throw new AddressError(
      `folder ${folder} has mode 0${(mode & 0o777).toString(8)} and owner ${uid}; sockets of workers need a folder ` +
        "that only this user can enter: name one that does not exist yet, or set mode 0700",
    );
  }
}

async function removeStaleSocket(path: string): Promise<void> {
  const found = await lstat(path);
  if (!found.isSocket()) throw new AddressError(`${path} exists and is not a socket: choose another path`);
  if (await answers(path)) throw new AddressError(`another process listens on ${path}: choose another path`);
  await unlink(path);
}

/** Whether somebody accepts connections on the path. Anything but a plain refusal counts as yes. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path, timeout: STALE_PROBE_TIMEOUT_MS });
    const settle = (isAnswered: boolean) => {
      probe.destroy();
      resolve(isAnswered);
    };
    probe.once("connect", () => settle(true));
    probe.once("timeout", () => settle(true));
    probe.once("error", (error) => settle(!isCode(error, "ECONNREFUSED") && !isCode(error, "ENOENT")));
  });
}

async function listen(server: Server, options: ListenOptions): Promise<void> {
  server.listen(options);
  // `once` rejects when the server emits an error first.
  await once(server, "listening");
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
