import { createServer, request, type Server } from "node:http";

/** What stands between a gateway and a worker. */
export interface EventFilter {
  close(): Promise<void>;
}

/**
 * Listens on one unix socket and passes every call on to a worker's, and its answer back. Of answers to `/v1/events` only the lines that
 * `accept` says yes to arrive, so that reports get lost as on a bad link.
 */
export async function startEventFilter(
  sockets: { readonly listen: string; readonly worker: string },
  accept: (line: string) => boolean,
): Promise<EventFilter> {
  const server: Server = createServer((incoming, outgoing) => {
    const { method, url, headers } = incoming;
    const call = request({ socketPath: sockets.worker, method, path: url, headers }, (answer) => {
      const { "transfer-encoding": _, ...kept } = answer.headers;
      outgoing.writeHead(answer.statusCode!, kept);
      outgoing.flushHeaders();
      answer.on("end", () => outgoing.end());
      if (url?.startsWith("/v1/events") !== true) {
        answer.on("data", (bytes: Buffer) => outgoing.write(bytes));
        return;
      }
      let begun = "";
      answer.setEncoding("utf8").on("data", (text: string) => {
        const lines = (begun + text).split("\n");
        begun = lines.pop()!;
        for (const line of lines) if (accept(line)) outgoing.write(`${line}\n`);
      });
    });
    // Either side may hang up at any time: then the other one does.
    call.on("error", () => outgoing.destroy());
    outgoing.on("close", () => call.destroy());
    incoming.pipe(call);
  });
  await new Promise<void>((resolve) => server.listen(sockets.listen, resolve));
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
