import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

type Entry = { readonly version?: string; readonly optionalDependencies?: Readonly<Record<string, string>> };

const lock: Readonly<Record<string, Entry>> = JSON.parse(
  readFileSync(join(import.meta.dirname, "..", "package-lock.json"), "utf8"),
).packages;

/** Where npm finds `name` for the package at `key`: in its own node_modules, or in one further out. */
function isLocked(key: string, name: string): boolean {
  for (let at = key; ; at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))) {
    if (`${at === "" ? "" : `${at}/`}node_modules/${name}` in lock) return true;
    if (at === "") return false;
  }
}

// npm leaves out the packages of other platforms when it writes a lock where they cannot be looked up, and `npm ci`
// refuses such a lock on every platform: a fresh clone could not be installed.
test("packages of every platform are in the lock file", () => {
  const missing = Object.entries(lock).flatMap(([key, entry]) =>
    Object.keys(entry.optionalDependencies ?? {}).filter((name) => !isLocked(key, name)),
  );
  expect(missing).toEqual([]);
});

test("the lock file names no registry, so that everybody's own is used", () => {
  const named = Object.entries(lock).filter(([, entry]) => "resolved" in entry);
  expect(named.map(([key]) => key)).toEqual([]);
});
