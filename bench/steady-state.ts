import { setTimeout as sleep } from "node:timers/promises";
import { eventually, type Operator } from "../tools/stack/local-stack.ts";
import { devicesAsked, say } from "./shared/command.ts";
import { publish } from "./shared/figures.ts";
import {
  deploymentObject,
  grown,
  inWorld,
  PATHS,
  reconcilesOf,
  usageOf,
  type World,
} from "./shared/world.ts";

const HELP = `node bench/steady-state.ts [--devices N]        (default 1000)

A fleet that runs what it is meant to run, looked at for a minute: what the operator writes to the API server and to the
hub (nothing but renewals of its Lease), what it reads, and what it takes of the machine.

Writes to the API server are taken from the API server's own metrics, by resource, so that renewals of the Lease
(resource "leases", those of the control plane among them) are a number of their own and nothing is subtracted. Writes to
the hub are the simulator's count of requests that changed something.`;

const SECONDS = 60;

const asked = devicesAsked(HELP, 1000);
if (asked !== null)
  await inWorld({ simulatorArgs: ["--evaluation-interval", "10s", "--report-interval", "15s"] }, (world) =>
    measure(world, asked),
  );

async function measure(world: World, devices: number): Promise<void> {
  await world.createDevices(devices);
  await world.createRelease("digits-1.0.0", "digits/1.0.0/model.onnx");
  const operator = await world.startOperator("operator");
  await world.api.create(
    PATHS.deployments,
    [deploymentObject("digits-1.0.0", [{ percent: 100 }])],
    world.signal,
  );
  await world.completed("digits-1.0.0", 1_800_000);
  await quiet(world, operator);

  say(`steady for ${SECONDS} s`);
  const before = await look(world, operator);
  await sleep(SECONDS * 1000);
  const after = await look(world, operator);
  const { leases = 0, ...writes } = grown(before.api, after.api);
  publish(`${devices} devices, ${SECONDS} s of steady state`, [
    { what: "writes to the API server", value: amount(writes), against: "goal 0" },
    { what: "renewals of Leases, counted apart", value: String(leases) },
    { what: "writes to the hub", value: amount(grown(before.hub, after.hub)), against: "goal 0" },
    { what: "requests to the hub", value: amount(grown(before.requests, after.requests)) },
    { what: "reconciles of devices", value: String(after.reconciles - before.reconciles) },
    { what: "CPU of the operator", value: `${((after.cpu - before.cpu) / 1000).toFixed(2)} s per minute` },
    {
      what: "RSS (highest since its start)",
      value: `${after.rss.toFixed(0)} (${after.peak.toFixed(0)}) MiB`,
    },
  ]);
}

type Look = {
  readonly api: Readonly<Record<string, number>>;
  readonly hub: Readonly<Record<string, number>>;
  readonly requests: Readonly<Record<string, number>>;
  readonly reconciles: number;
  readonly cpu: number;
  readonly rss: number;
  readonly peak: number;
};

async function look(world: World, operator: Operator): Promise<Look> {
  const usage = await usageOf(operator.pid);
  return {
    api: await world.apiWrites(),
    hub: { ...(await world.hubWrites()) },
    requests: await world.hubRequests(),
    reconciles: (await reconcilesOf(operator, "devices")).done,
    cpu: usage.cpuMilliseconds,
    rss: usage.rssMiB,
    peak: usage.peakMiB,
  };
}

/** Until nothing but Leases has been written for three sweeps of the hub, and no reconcile is queued. */
async function quiet(world: World, operator: Operator): Promise<void> {
  say("waiting until the last status is written");
  let last = "";
  let since = Date.now();
  await eventually(
    "nothing moves any more",
    async () => {
      const { leases: _, ...writes } = await world.apiWrites();
      const { waiting } = await reconcilesOf(operator, "devices");
      const now = JSON.stringify([writes, await world.hubWrites(), waiting]);
      if (now !== last) since = Date.now();
      last = now;
      return Date.now() - since > 35_000;
    },
    { within: 900_000, every: 1000 },
  );
}

/** `0`, or how many of what. */
function amount(grew: Readonly<Record<string, number>>): string {
  const parts = Object.entries(grew).map(([name, count]) => `${count} ${name}`);
  return parts.length === 0 ? "0" : parts.join(", ");
}
