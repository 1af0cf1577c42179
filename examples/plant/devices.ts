import { parseArgs } from "node:util";
import { stringify } from "yaml";
import type { EdgeDeviceSpec } from "../../src/api/edge-device.ts";
import { GROUP, VERSION } from "../../src/api/resource.ts";

/** An EdgeDevice as it is applied: the fields of its spec that say something, and no others. */
export type DeviceManifest = {
  readonly apiVersion: string;
  readonly kind: "EdgeDevice";
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly labels: Readonly<Record<string, string>>;
  };
  readonly spec: Pick<EdgeDeviceSpec, "deviceClass" | "site" | "tags">;
};

export const EXAMPLE_SITES = ["hall-1", "hall-2", "hall-3", "hall-4"] as const;
const LINES = 6;
/** Ten devices in a row: half of them new, three older, two old. */
const CLASSES = [
  "jetson-orin-nano",
  "jetson-xavier",
  "jetson-orin-nano",
  "jetson-nano",
  "jetson-orin-nano",
  "jetson-xavier",
  "jetson-orin-nano",
  "jetson-nano",
  "jetson-orin-nano",
  "jetson-xavier",
] as const;

/** `cam-0001` and so on: `count` cameras of three classes in four halls, each with the labels site, class and line. */
export function exampleDevices(count: number, namespace: string): readonly DeviceManifest[] {
  return Array.from({ length: count }, (_, index) => {
    const site = EXAMPLE_SITES[Math.floor((index * EXAMPLE_SITES.length) / count)] ?? EXAMPLE_SITES[0];
    const deviceClass = CLASSES[index % CLASSES.length] ?? CLASSES[0];
    const line = String(1 + (index % LINES));
    return {
      apiVersion: `${GROUP}/${VERSION}`,
      kind: "EdgeDevice",
      metadata: {
        name: `cam-${String(index + 1).padStart(4, "0")}`,
        namespace,
        labels: { site, class: deviceClass, line },
      },
      spec: { deviceClass, site, tags: { line } },
    };
  });
}

const HELP = `usage: npx node examples/plant/devices.ts COUNT [--namespace NAME] | kubectl apply -f -

Prints COUNT EdgeDevices as YAML, cam-0001 and so on: three classes in four halls, with the labels site, class and line.

  --namespace NAME  namespace of the devices (default plant-a)
  --help            this text
`;

function main(): void {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      namespace: { type: "string", default: "plant-a" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  const count = Number(positionals[0]);
  if (!Number.isInteger(count) || count < 1 || positionals.length !== 1) {
    process.stderr.write(HELP);
    process.exitCode = 2;
    return;
  }
  for (const device of exampleDevices(count, values.namespace))
    process.stdout.write(`---\n${stringify(device)}`);
}

if (import.meta.main) main();
