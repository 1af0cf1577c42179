import { posix } from "node:path";
import { expect, test } from "vitest";
import { importsOf, type Source, sourcesIn } from "./builders/sources.ts";

// Files that import each other cannot be read, moved or tested one without the other. Imports of types count too.

const ROOTS = ["src", "simulator", "cli", "tools", "bench"];

test("no files import each other in a circle", () => {
  const sources = ROOTS.flatMap((root) =>
    sourcesIn(root).map(({ path, text }) => ({ path: `${root}/${path}`, text })),
  );
  expect(circlesIn(sources)).toEqual([]);
});

test.each<[string, Readonly<Record<string, string>>, readonly string[]]>([
  [
    "types alone",
    { "a.ts": `import type { B } from "./b.ts";`, "b.ts": `import { type A } from "./a.ts";` },
    ["a.ts, b.ts"],
  ],
  [
    "folders in between",
    {
      "x/a.ts": `export { b } from "../y/b.ts";`,
      "y/b.ts": `import { c } from "./c.ts";`,
      "y/c.ts": `type A = import("../x/a.ts").A;`,
    },
    ["x/a.ts, y/b.ts, y/c.ts"],
  ],
  ["a file that imports itself", { "a.ts": `import { a } from "./a.ts";` }, ["a.ts"]],
  [
    "two ways to the same file, and packages, are none",
    {
      "a.ts": `import { b } from "./b.ts";\nimport { c } from "./c.ts";\nimport "a.ts";`,
      "b.ts": `import { c } from "./c.ts";`,
      "c.ts": "",
    },
    [],
  ],
])("circles are found: %s", (_, files, circles) => {
  const sources = Object.entries(files).map(([path, text]) => ({ path, text }));
  expect(circlesIn(sources)).toEqual(circles);
});

/** Each set of files that reach each other by imports (Tarjan's strongly connected components). */
function circlesIn(sources: readonly Source[]): readonly string[] {
  const targets = new Map(
    sources.map(({ path, text }) => [
      path,
      importsOf(text)
        .filter(({ target }) => target.startsWith("."))
        .map(({ target }) => posix.join(posix.dirname(path), target)),
    ]),
  );
  const circles: string[] = [];
  const order = new Map<string, number>();
  const open: string[] = [];
  /** Answers with the earliest open file that can be reached from `file`. */
  const visit = (file: string): number => {
    const own = order.size;
    order.set(file, own);
    open.push(file);
    let earliest = own;
    for (const target of targets.get(file) ?? []) {
      if (!targets.has(target)) continue;
      if (!order.has(target)) earliest = Math.min(earliest, visit(target));
      else if (open.includes(target)) earliest = Math.min(earliest, order.get(target) ?? own);
    }
    if (earliest < own) return earliest;
    const circle = open.splice(open.indexOf(file));
    if (circle.length > 1 || targets.get(file)?.includes(file)) circles.push(circle.sort().join(", "));
    return earliest;
  };
  for (const file of targets.keys()) if (!order.has(file)) visit(file);
  return circles.sort();
}
