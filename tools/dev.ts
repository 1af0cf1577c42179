import { execFile } from "node:child_process";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { startControlPlane } from "./control-plane/control-plane.ts";
import { startLocalStack } from "./stack/local-stack.ts";
import { uploadFolder } from "./upload.ts";

const HELP = `make dev (node tools/dev.ts): everything on this machine, left running until Ctrl-C

A kube-apiserver with our CRDs, the IoT Hub simulator, Azurite with the example models, the verifier and the operator.
Prints what to export. Then: kubectl apply -f examples/plant/00-namespace.yaml -f examples/plant/10-devices.yaml …

  --no-operator  leave the operator out, and print the environment it needs (to run it under a debugger)
  --help         this text
`;

const ROOT = join(import.meta.dirname, "..");
const run = promisify(execFile);

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { "no-operator": { type: "boolean" }, help: { type: "boolean", short: "h" } },
  });
  if (values.help) return void process.stdout.write(HELP);
  const say = (line: string) => process.stderr.write(`${line}\n`);
  const stopping: (() => Promise<void>)[] = [];
  const stop = async () => {
    for (const end of stopping.splice(0).reverse()) await end();
  };
  const interrupted = new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
  });
  try {
    const controlPlane = await startControlPlane({ crds: join(ROOT, "crds"), progress: say });
    stopping.push(controlPlane.stop);
    const stack = await startLocalStack({
      kubeconfig: controlPlane.kubeconfig,
      progress: say,
      simulatorArgs: [
        ...["--tier", "S3", "--units", "5", "--evaluation-interval", "30s", "--report-interval", "5s"],
        ...["--behaviours", join(ROOT, "examples/plant/behaviours.yaml")],
      ],
    });
    stopping.push(stack.stop);
    const kubectl = (...args: readonly string[]) =>
      run(controlPlane.kubectl, ["--kubeconfig", controlPlane.kubeconfig, ...args]);
    await kubectl("create", "namespace", "edgefleet-system");
    await uploadFolder({
      connectionString: stack.azurite.connectionString,
      container: "models",
      folder: join(ROOT, "examples/models/files"),
    });
    const settings = [
      "--hub-tier",
      "S3",
      "--hub-units",
      "5",
      "--analysis-interval",
      "2s",
      "--fleet-interval",
      "2s",
      "--tenancy",
      "open",
    ];
    if (!values["no-operator"]) await stack.startOperator("operator", settings);
    const exports = {
      KUBECONFIG: controlPlane.kubeconfig,
      ...(values["no-operator"] ? stack.operatorEnv : {}),
    };
    for (const [name, value] of Object.entries(exports)) process.stdout.write(`export ${name}='${value}'\n`);
    process.stdout.write(`alias kubectl='${controlPlane.kubectl}'\n`);
    if (values["no-operator"]) process.stdout.write(`# node src/operator.ts ${settings.join(" ")}\n`);
    say(
      `simulator: https://127.0.0.1:${stack.simulator.port}/sim/fleet   logs: ${stack.directory}   Ctrl-C stops everything`,
    );
    await interrupted;
  } finally {
    await stop();
  }
}

await main().catch((error: unknown) => {
  process.stderr.write(`dev: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
