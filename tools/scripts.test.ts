import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

// npm starts a script in a shell and passes signals on to that. A shell that waits for its command dies of SIGTERM and
// leaves the command running, with the whole stack that it has started; one that has become its command does not.

test("a script that is one program takes the shell's place, so that SIGTERM to npm or make reaches it", () => {
  const manifest = JSON.parse(readFileSync(join(import.meta.dirname, "..", "package.json"), "utf8"));
  const scripts = Object.entries(manifest.scripts as Record<string, string>);
  const programs = scripts.filter(([name, command]) => /\bnode /.test(command) && name !== "generate");
  expect(programs.map(([name]) => name)).toEqual(expect.arrayContaining(["dev", "demo", "start", "test"]));
  for (const [name, command] of programs) expect(command, name).toMatch(/^exec node /);
});
