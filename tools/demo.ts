import { execFile } from "node:child_process";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { startControlPlane } from "./control-plane/control-plane.ts";
import { type Demo, EXAMPLES, type Kubectl, printTables, type Say } from "./demo/cluster.ts";
import { playStory } from "./demo/story.ts";
import { startLocalStack } from "./stack/local-stack.ts";

// The main job on real parts, from nothing to the summary: exit code 0 only if all of it really happened.

const HELP = `make demo (node tools/demo.ts): the whole product on this machine, in about three minutes

A real kube-apiserver, the IoT Hub simulator with simulated devices, Azurite, the verifier and the operator.
A good release goes out in steps, a better one follows, a slow one is rolled back automatically, and three bad ones
never leave verification. Exit code 0 only if all of that was seen.

  --devices N   simulated devices (default 200)
  --keep        leave everything running at the end and print how to reach it (Ctrl-C stops it)
  --help        this text
`;

const run = promisify(execFile);

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      devices: { type: "string" },
      keep: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  const count = Number(values.devices ?? 200);
  if (!Number.isInteger(count) || count < 20 || count > 5000)
    throw new Error(`--devices: "${values.devices}" is not a whole number from 20 to 5000`);

  const began = Date.now();
  const clock = () => `${((Date.now() - began) / 1000).toFixed(1).padStart(6)}s`;
  const { say, show } = createView(clock);

  say("starting the control plane (built from Go modules the first time, about five minutes)");
  const controlPlane = await startControlPlane({ crds: join(EXAMPLES, "../crds"), progress: say });
  const stopping: (() => Promise<void>)[] = [controlPlane.stop];
  const stop = async () => {
    for (const end of stopping.splice(0).reverse()) await end();
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => {
      void stop().finally(() => process.exit(130));
    });
  try {
    const kubectl: Kubectl = async (...args) => {
      const { stdout } = await run(controlPlane.kubectl, ["--kubeconfig", controlPlane.kubeconfig, ...args], {
        maxBuffer: 64 * 1024 * 1024,
      });
      return stdout;
    };
    const stack = await startLocalStack({
      kubeconfig: controlPlane.kubeconfig,
      progress: say,
      simulatorArgs: [
        ...["--tier", "S3", "--units", "5", "--seed", "7", "--evaluation-interval", "10s"],
        ...["--report-interval", "2s", "--state-delay", "200ms"],
        ...["--behaviours", join(EXAMPLES, "plant/behaviours.yaml")],
      ],
    });
    stopping.push(stack.stop);
    const demo: Demo = { kubectl, stack, say, show };
    const facts = await playStory(demo, count);
    await printTables(demo);
    process.stdout.write(`\nWhat was seen\n\n${facts.map((fact) => `  ${fact}`).join("\n")}\n\n`);
    if (values.keep) {
      say(`left running: export KUBECONFIG=${controlPlane.kubeconfig}`);
      say(`logs are in ${stack.directory}; Ctrl-C stops everything`);
      await new Promise(() => setInterval(() => undefined, 60_000));
    }
  } finally {
    await stop();
  }
  say("done");
}

/** Lines that stay, and in a terminal one line below them that is drawn over again and again. */
function createView(clock: () => string): { readonly say: Say; readonly show: Say } {
  const { stdout } = process;
  const clear = stdout.isTTY ? "\r\x1b[K" : "";
  return {
    say: (line) => void stdout.write(`${clear}${clock()}  ${line}\n`),
    show: (line) => {
      if (stdout.isTTY) stdout.write(`${clear}${clock()}  ${line.slice(0, stdout.columns - 12)}`);
    },
  };
}

await main().catch((error: unknown) => {
  process.stderr.write(`\ndemo failed: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
