import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { type ApiObjects, createApiObjects } from "../../tools/stack/api-objects.ts";
import { eventually } from "../../tools/stack/local-stack.ts";
import {
  deploymentObject,
  type Fleet,
  type LiveDeployment,
  type LiveDevice,
  releaseObject,
  startFleet,
} from "./fleet.ts";

// A whole rollout through many devices: `make test` takes a few hundred, `make test-scale` ten thousand.

const COUNT = Number(process.env["EDGEFLEET_SCALE"] ?? 200);
const IS_LARGE = COUNT > 1000;
/** What one device may take of a stage, on two cores that the API server and the simulator share with the operator. */
const STAGE = 120_000 + COUNT * 120;
const STEPS = [{ percent: 5, minimumDevices: 2, hold: "1s" }, { percent: 25, hold: "1s" }, { percent: 100 }];
/** One variant here: a step changes one condition, and its first one creates the configuration. */
const WRITES_OF_A_STEP = 2;

const signal = AbortSignal.timeout(3 * STAGE);
let fleet: Fleet;
let api: ApiObjects;
let devicesPath: string;

beforeAll(async () => {
  fleet = await startFleet("scale", {
    simulatorArgs: ["--report-interval", IS_LARGE ? "15s" : "5s"],
  });
  api = createApiObjects(inject("kubeconfig"));
  devicesPath = `/apis/edgefleet.dev/v1alpha1/namespaces/${fleet.namespace}/edgedevices`;
});

afterAll(async () => {
  // Ten thousand finalizers, taken off side by side: the fleet's own end does it one after the other.
  await fleet.stack.stopOperator("operator");
  await api.unbind(devicesPath, signal);
  await api.deleteAll(devicesPath, signal);
  await api.close();
  await fleet.stop();
}, STAGE);

test(
  `${COUNT} devices are installed, and a better release goes out in steps`,
  async () => {
    await api.create(devicesPath, fleet.deviceObjects(COUNT), signal);
    await fleet.apply(
      await releaseObject("digits-1.0.0"),
      deploymentObject("digits-1.0.0", { strategy: { steps: [{ percent: 100 }], progressDeadline: "2h" } }),
    );
    await fleet.startOperator("operator", [
      ...["--fleet-interval", IS_LARGE ? "10s" : "2s"],
      ...["--analysis-interval", IS_LARGE ? "5s" : "1s"],
    ]);
    const installed = await fleet.completed("digits-1.0.0", STAGE);
    expect(installed.status?.devices?.updated).toBe(COUNT);

    const before = await fleet.writes();
    await fleet.apply(
      await releaseObject("digits-2.0.0", { file: "digits/2.0.0/model.onnx" }),
      deploymentObject("digits-2.0.0", { strategy: { steps: STEPS, progressDeadline: "2h" } }),
    );
    const most = new Map<number, number>();
    const isOut = ({ status }: LiveDeployment) => {
      const exposed = status?.devices?.exposed ?? 0;
      if (status?.candidate?.release === "digits-2.0.0" && status.step !== undefined)
        most.set(status.step.percent, Math.max(most.get(status.step.percent) ?? 0, exposed));
      return status?.phase === "Completed" && status.stable?.release === "digits-2.0.0";
    };
    await fleet.until("digits-2.0.0 is completed", isOut, { within: STAGE });
    await fleet.completed("digits-2.0.0", STAGE);
    for (const { percent, minimumDevices = 0 } of STEPS)
      expect(most.get(percent)).toBeLessThanOrEqual(
        Math.max(minimumDevices, Math.ceil((percent / 100) * COUNT)),
      );
    expect(most.get(100)).toBe(COUNT);

    // As many writes as for ten devices: the steps, and what the end replaces.
    const after = await fleet.writes();
    const grew = (name: string) => (after[name] ?? 0) - (before[name] ?? 0);
    expect(grew("configuration")).toBeLessThanOrEqual(STEPS.length * WRITES_OF_A_STEP + 3);
    expect(grew("twin")).toBe(0);
    expect(grew("identity")).toBe(0);
  },
  2 * STAGE,
);

test(
  "a fleet that runs what it is meant to run is not written to, on the API server or the hub",
  async () => {
    await eventually("every device runs 2.0.0, and nothing moves", quiet, {
      within: STAGE,
      // A list of ten thousand objects is work for the API server that this waits for.
      every: IS_LARGE ? 30_000 : 5000,
    });
    const before = { objects: await versions(), writes: await fleet.writes() };
    expect(before.objects.size).toBe(COUNT);
    await sleep(IS_LARGE ? 60_000 : 10_000);
    const after = { objects: await versions(), writes: await fleet.writes() };
    expect(changed(before.objects, after.objects)).toEqual([]);
    expect(after.writes).toEqual(before.writes);
  },
  STAGE + 120_000,
);

let last: ReadonlyMap<string, string> = new Map();
async function quiet(): Promise<boolean> {
  const now = await versions();
  const isStill = now.size === COUNT && changed(last, now).length === 0;
  last = now;
  return isStill;
}

/** Of the devices that run the release; the others are missing. */
async function versions(): Promise<ReadonlyMap<string, string>> {
  const devices = await api.list<LiveDevice>(devicesPath, signal);
  const arrived = devices.filter(
    ({ status }) => status?.model?.release === "digits-2.0.0" && status.model.state === "Running",
  );
  return new Map(arrived.map(({ metadata }) => [metadata.name, metadata.resourceVersion]));
}

/** At most ten names: a difference of ten thousand would drown the reason. */
function changed(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): readonly string[] {
  return [...after].flatMap(([name, version]) => (before.get(name) === version ? [] : [name])).slice(0, 10);
}
