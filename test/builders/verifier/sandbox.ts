import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { argv, stdout } from "node:process";
import { seconds } from "../../../src/base/time.ts";
import { startModelProcess } from "../../../src/verifier/process/model-process.ts";
import { buildSandbox, type SandboxSession } from "../../../src/verifier/process/sandbox.ts";

// As a program: what a hostile child can do to the user who runs this, in a directory of that user, as JSON. Another user than
// that of the tests can run it. With a third argument it prints the id of a child, and lets that one stop.

/** Every restriction but Node's own, which would apply first. */
export function withoutPermissions(session: SandboxSession): SandboxSession {
  return {
    ...session,
    command: (program, limits) => {
      const [file, ...args] = session.command(program, limits);
      return [file, ...args.filter((arg) => !/^--(permission|allow-)/.test(arg))];
    },
  };
}

if (import.meta.main) {
  const [, , directory = "", program = "", forEver] = argv;
  const { features, lacking, prepare } = await buildSandbox();
  const session = withoutPermissions(await prepare(directory));
  await writeFile(join(directory, "model.onnx"), "model");
  const limits = { memoryBytes: 2 ** 29, deadline: seconds(30), threads: 1 };
  const child = await startModelProcess(limits, session, new AbortController().signal, program);
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
    // A sidecar that shares its user with other processes has no count of its own: this must not be tried.
    ...(features.processes ? { "forks 1": "forks 1" } : {}),
  };
  const came: Record<string, string> = {};
  for (const [name, path] of Object.entries(deeds)) {
    const answer = await child.value.ask({ kind: "load", path, threads: 1 });
    came[name] = answer.ok && answer.value.kind === "broken" ? answer.value.message : JSON.stringify(answer);
  }
  await child.value.end();
  stdout.write(JSON.stringify({ features, lacking, came }));
}
