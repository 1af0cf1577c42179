import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { argv, stdout } from "node:process";
import { seconds } from "../../src/base/time.ts";
import { startModelProcess } from "../../src/verifier/process/model-process.ts";
import { buildSandbox, type Cell } from "../../src/verifier/process/sandbox.ts";

// As a program: what a hostile child can do to whoever runs this, in a directory of theirs, as JSON. Another user than
// that of the tests can run it. With a third argument it tells the id of a child, and lets that one stop.

/** All walls but Node's own, which would be met first. */
export function withoutPermissions(cell: Cell): Cell {
  return {
    ...cell,
    command: (program, limits) => {
      const [file, ...args] = cell.command(program, limits);
      return [file, ...args.filter((arg) => !/^--(permission|allow-)/.test(arg))];
    },
  };
}

if (import.meta.main) {
  const [, , directory = "", program = "", forEver] = argv;
  const { walls, lacking, prepare } = await buildSandbox();
  const cell = withoutPermissions(await prepare(directory));
  await writeFile(join(directory, "model.onnx"), "model");
  const limits = { memoryBytes: 2 ** 29, deadline: seconds(30), threads: 1 };
  const child = await startModelProcess(limits, cell, new AbortController().signal, program);
  if (!child.ok) throw new Error(JSON.stringify(child.error));
  if (forEver !== undefined) {
    stdout.write(`${child.value.pid}\n`);
    await child.value.ask({ kind: "load", path: "die SIGSTOP", threads: 1 });
  }
  const deeds = {
    "create here": "create here",
    "append ../model.onnx": "append ../model.onnx",
    "connect 1": "connect 1",
    "read environ": `read /proc/${process.pid}/environ`,
    // A sidecar that shares its user with others has no count of its own: nobody must try.
    ...(walls.processes ? { "forks 1": "forks 1" } : {}),
  };
  const came: Record<string, string> = {};
  for (const [name, path] of Object.entries(deeds)) {
    const answer = await child.value.ask({ kind: "load", path, threads: 1 });
    came[name] = answer.ok && answer.value.kind === "broken" ? answer.value.message : JSON.stringify(answer);
  }
  await child.value.end();
  stdout.write(JSON.stringify({ walls, lacking, came }));
}
