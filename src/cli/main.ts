#!/usr/bin/env node
import { fileURLToPath } from "node:url";
import { processIo } from "./io.ts";
import { runCli } from "./program.ts";
import { createProduct } from "./serving.ts";

for (const stream of [process.stdout, process.stderr]) {
  // Whoever reads our output has left, as in `twofold catalog | head`: there is nobody to tell.
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    process.exit();
  });
}

const product = createProduct(fileURLToPath(import.meta.url));
process.exitCode = await runCli(process.argv.slice(2), processIo(), product);
// The channel to a process that started this one would keep it alive.
if (process.connected) process.exit();
