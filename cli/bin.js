#!/usr/bin/env node
// What npm links as edgefleet: plain JavaScript, so that an older Node can at least say what it lacks.
import { enableCompileCache } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";

const { dirname } = import.meta;
if (Number(process.versions.node.split(".")[0]) < 24) {
  console.error(`edgefleet needs Node 24 or newer, and this is ${process.version}. Run it with the one that npm has installed:
  ${join(dirname, "../node_modules/.bin/node")} ${join(dirname, "main.ts")}`);
  process.exit(3);
}
// What Node makes of the source is kept among the user's own files: in the temporary directory, which is Node's choice,
// another user might have put something else in its place. Where it cannot be written, everything is only slower.
const caches = process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache");
enableCompileCache(join(caches, "edge-fleet-operator", "compiled"));
await import("./main.ts");
