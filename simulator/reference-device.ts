import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { parseDuration } from "./base/duration.ts";
import { createReferenceDevice, type ReferenceDevice } from "./reference-device/device.ts";
import { connectHub } from "./reference-device/hub-client.ts";
import { lookAtModel, runModel } from "./reference-device/model-runner.ts";

// One real device as a program: the device contract over MQTT, by the vendor's client.

const HELP = `usage: DEVICE_CONNECTION_STRING='…' simulator/reference-device.ts [flags]

A device, or a module where the connection string names one, that keeps the device contract: it downloads the model that
its twin points at, checks the digest, loads it, and reports. The connection string comes from the environment alone.

  --ca FILE                   certificate of an authority to trust, such as the simulator's ca.crt
  --directory DIR             where models are kept (default models)
  --report-interval DURATION  time between two reports (default 60s)
  --run                       really run the model with ONNX Runtime, and report how long it takes
  --inference-interval DURATION  time between two inferences (default 1s)
`;

const problems: string[] = [];

function readFlags() {
  try {
    return parseArgs({
      options: {
        help: { type: "boolean", short: "h" },
        ca: { type: "string" },
        directory: { type: "string", default: "models" },
        "report-interval": { type: "string", default: "60s" },
        "inference-interval": { type: "string", default: "1s" },
        run: { type: "boolean" },
      },
    }).values;
  } catch (problem) {
    problems.push(problem instanceof Error ? problem.message : String(problem));
    return null;
  }
}

function duration(name: string, written: string | undefined): number {
  const length = parseDuration(written ?? "");
  if (length !== null && length > 0) return length;
  problems.push(`--${name} must be a duration such as 60s`);
  return 1000;
}

function certificate(path: string | undefined): string | null {
  if (path === undefined) return null;
  try {
    return readFileSync(path, "utf8");
  } catch {
    problems.push(`--ca ${path} cannot be read`);
    return null;
  }
}

const flags = readFlags();
if (flags?.help === true) {
  console.log(HELP);
  process.exit(0);
}
// What a file or a Secret adds around it, a byte order mark or a newline, is no part of it.
const connectionString = (process.env["DEVICE_CONNECTION_STRING"] ?? "").trim();
if (!/HostName=/i.test(connectionString))
  problems.push("DEVICE_CONNECTION_STRING must hold the connection string of a device or a module");
const ca = certificate(flags?.ca);
const reportInterval = duration("report-interval", flags?.["report-interval"] ?? "60s");
const inferenceInterval = duration("inference-interval", flags?.["inference-interval"] ?? "1s");
if (problems.length > 0) {
  for (const problem of problems) console.error(problem);
  console.error("see --help");
  process.exit(2);
}

const log = (text: string) => console.log(`${new Date().toISOString()} ${text}`);
let device: ReferenceDevice | null = null;
const hub = connectHub(connectionString, ca, { desired: (desired) => device?.desired(desired), log });
device = createReferenceDevice({
  directory: flags?.directory ?? "models",
  reportInterval,
  inferenceInterval,
  load: flags?.run === true ? runModel : lookAtModel,
  report: async (patch) => (await hub).report(patch),
  log,
});

for (const signal of ["SIGTERM", "SIGINT"] as const)
  process.once(signal, () => {
    void Promise.resolve(device?.stop())
      .then(async () => (await hub).close())
      .then(() => process.exit(0));
  });
