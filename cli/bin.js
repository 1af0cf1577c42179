#!/usr/bin/env node
// What npm links as edgefleet: plain JavaScript, so that an older Node can at least say what it lacks.
import { join } from "node:path";

const { dirname } = import.meta;
if (Number(process.versions.node.split(".")[0]) < 24) {
  console.error(`edgefleet needs Node 24 or newer, and this is ${process.version}. Run it with the one that npm has installed:
  ${join(dirname, "../node_modules/.bin/node")} ${join(dirname, "main.ts")}`);
  process.exit(3);
}
await import("./main.ts");
