import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

// The project's own sources, as tests of its structure read them.

const ROOT = join(import.meta.dirname, "../..");

export type Source = { readonly path: string; readonly text: string };

export type Import = {
  readonly target: string;
  /** Names that are imported as values; `*` stands for all or for none by name. */
  readonly values: readonly string[];
};

/** Sources without tests, in the order of their paths, which are relative to `directory`. */
export function sourcesIn(directory: string): readonly Source[] {
  return globSync("**/*.ts", { cwd: join(ROOT, directory) })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => !path.endsWith(".test.ts"))
    .sort()
    .map((path) => ({ path, text: readFileSync(join(ROOT, directory, path), "utf8") }));
}

const STATEMENT = /^[ \t]*(?:import|export)\s+(type\s+)?([^"';()=]*?)\s*from\s*"([^"]+)"/gm;
const EFFECT = /^[ \t]*import\s*"([^"]+)"/gm;
const LATER = /\bimport\(\s*"([^"]+)"\s*\)/g;

/** Everything that a source imports or exports again, as values or as types. */
export function importsOf(text: string): readonly Import[] {
  const statements = [...text.matchAll(STATEMENT)].map(([, type, names = "", target = ""]) => ({
    target,
    values: type === undefined ? valuesIn(names) : [],
  }));
  const others = [...text.matchAll(EFFECT), ...text.matchAll(LATER)];
  return [...statements, ...others.map(([, target = ""]) => ({ target, values: ["*"] }))];
}

/** `{ type A, b as c }` → b; `d, * as e` → d, *. */
function valuesIn(names: string): readonly string[] {
  return names
    .replaceAll(/[{}]/g, "")
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "" && !name.startsWith("type "))
    .map((name) => name.split(/\s/, 1)[0] ?? name);
}
