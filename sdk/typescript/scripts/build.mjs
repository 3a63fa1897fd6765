/** Builds the package into dist/, and fails if what a browser loads has become too large. */

import { execFileSync } from "node:child_process";
import { rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { slim } from "./slim.mjs";

const MAX_GZIPPED_BYTES = 60_000;
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, "dist");

await rm(dist, { recursive: true, force: true });
execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", root], { stdio: "inherit" });
await slim(join(dist, "gen"));

async function gzippedBytes(contents) {
  const made = await build({
    stdin: { contents, resolveDir: root },
    bundle: true,
    minify: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    write: false,
    logLevel: "error",
  });
  return gzipSync(made.outputFiles[0].contents, { level: 9 }).length;
}

const kb = (bytes) => `${(bytes / 1000).toFixed(1)} KB`;
const all = await gzippedBytes('export * from "./dist/index.js";');
const page = await gzippedBytes(
  'export { connect, logIn, signUp, takeSlot, IndexedDbStore } from "./dist/index.js";',
);
console.log(`minified and gzipped, with all dependencies: everything ${kb(all)}, what a page needs ${kb(page)}`);
if (all > MAX_GZIPPED_BYTES) {
  console.error(`the bundle is larger than ${kb(MAX_GZIPPED_BYTES)}`);
  process.exit(1);
}
