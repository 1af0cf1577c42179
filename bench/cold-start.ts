import { setTimeout as sleep } from "node:timers/promises";
import { eventually, type Operator } from "../tools/stack/local-stack.ts";
import { devicesAsked, say } from "./shared/command.ts";
import { percentile, publish, secondsText } from "./shared/figures.ts";
import {
  deviceName,
  grown,
  inWorld,
  type LiveDevice,
  PATHS,
  reconcilesOf,
  usageOf,
  type World,
} from "./shared/world.ts";

const HELP = `node bench/cold-start.ts [--devices N]        (default 1000)

N EdgeDevices are new, and one operator meets them: identity, twin tags, finalizer and status of each. Then the operator
starts again with nothing to do, and last some devices are changed one by one. Real API server and etcd, simulator over
HTTPS, the operator as a process of its own, all on this machine.`;

// A controller-runtime controller in Go that does the same work for one device, on two cores, in another run.
const GO = {
  cpu: "3.0 ms",
  writes: "2",
  warm: "7.2 s at 10,000",
  warmCpu: "0.5 ms",
  rss: "127 MiB at 10,000",
  change: "16 / 32 ms at 10,000",
} as const;
const CHANGES = 100;

const count = devicesAsked(HELP, 1000);
if (count !== null) await inWorld({}, (world) => measure(world, count));

async function measure(world: World, devices: number): Promise<void> {
  await world.createDevices(devices);
  const cold = await reconcileAll(world, devices, "cold");
  const calm = await quiet(world, cold.operator);
  const rest = await usageOf(cold.operator.pid);
  say("the operator is stopped, and starts again");
  await world.stack.stopOperator("cold");
  // Stopping lets go of the Lease; what is measured is the start.
  const warm = await reconcileAll(world, devices, "warm");
  const warmRest = await usageOf(warm.operator.pid);
  const changes = await changeOneByOne(world, devices);

  const each = (total: number) => (total / devices).toFixed(2);
  publish(`cold start and warm restart of ${devices} devices`, [
    { what: "cold: all registered after", value: secondsText(cold.took) },
    { what: "cold: devices per second", value: (devices / (cold.took / 1000)).toFixed(0) },
    { what: "cold: own CPU per device", value: `${each(cold.cpu)} ms`, against: quoted(GO.cpu) },
    {
      what: "cold: writes to the API server per device",
      value: each(cold.apiWrites),
      against: quoted(GO.writes),
    },
    {
      what: "cold: writes to the hub per device",
      value: each(cold.hubWrites),
      against: "1 identity, 1 twin",
    },
    {
      what: "cold: the same until nothing moves any more",
      value: `${each(calm.apiWrites)} API, ${each(calm.hubWrites)} hub`,
    },
    {
      what: "RSS after it (highest)",
      value: `${rest.rssMiB.toFixed(0)} (${rest.peakMiB.toFixed(0)}) MiB`,
      against: `${quoted(GO.rss)}; goal ≤ 150 MiB at 10,000`,
    },
    { what: "warm: all reconciled after", value: secondsText(warm.took), against: quoted(GO.warm) },
    {
      what: "warm: own CPU per device, with the start",
      value: `${each(warm.cpu)} ms`,
      against: quoted(GO.warmCpu),
    },
    {
      what: "warm: writes to API server and hub",
      value: `${warm.apiWrites} and ${warm.hubWrites}`,
      against: "goal 0 and 0",
    },
    {
      what: "RSS after the warm restart (highest)",
      value: `${warmRest.rssMiB.toFixed(0)} (${warmRest.peakMiB.toFixed(0)}) MiB`,
    },
    {
      what: `spec change → status, p50 / p95 of ${CHANGES}`,
      value: `${percentile(changes, 0.5).toFixed(0)} / ${percentile(changes, 0.95).toFixed(0)} ms`,
      against: quoted(GO.change),
    },
  ]);
}

function quoted(figure: string): string {
  return `Go, another run: ${figure}`;
}

type Run = {
  readonly operator: Operator;
  readonly took: number;
  readonly cpu: number;
  readonly apiWrites: number;
  readonly hubWrites: number;
};

/** From the start of the process until every device was reconciled and none waits. */
async function reconcileAll(world: World, devices: number, name: string): Promise<Run> {
  const before = await writes(world);
  const started = Date.now();
  const operator = await world.startOperator(name);
  let reported = 0;
  let took = 0;
  await eventually(
    "every device is reconciled",
    async () => {
      const { done, waiting } = await reconcilesOf(operator, "devices");
      if (Date.now() - reported > 10_000) {
        reported = Date.now();
        say(`${name}: ${done} reconciles, ${waiting} wait`);
      }
      took = Date.now() - started;
      // The last ones may still be held by a worker: their objects say when they are done.
      return done >= devices && waiting === 0 && (await registered(world)) === devices;
    },
    // Each look makes the operator count its caches, which is not to be a part of what is measured.
    { within: 1_800_000, every: Math.max(100, devices / 40) },
  );
  const usage = await usageOf(operator.pid);
  const after = await writes(world);
  say(`${name}: all ${devices} reconciled after ${secondsText(took)}`);
  return {
    operator,
    took,
    cpu: usage.cpuMilliseconds,
    apiWrites: after.api - before.api,
    hubWrites: after.hub - before.hub,
  };
}

async function registered({ api, signal }: World): Promise<number> {
  const devices = await api.list<LiveDevice>(PATHS.devices, signal);
  const isRegistered = ({ status }: LiveDevice) =>
    status?.conditions?.some(({ type, status: is }) => type === "Registered" && is === "True") ?? false;
  return devices.filter(isRegistered).length;
}

/** Of our kinds on the API server (the Lease and events are counted elsewhere), and of everything on the hub. */
async function writes(world: World): Promise<{ readonly api: number; readonly hub: number }> {
  const api = await world.apiWrites();
  const hub = await world.hubWrites();
  return {
    api: (api["edgedevices"] ?? 0) + (api["inferencedeployments"] ?? 0) + (api["modelreleases"] ?? 0),
    hub: hub.identity + hub.twin + hub.configuration,
  };
}

/** Writes from the creation of the devices until the counts have stood still for a while: heartbeats have arrived. */
async function quiet(
  world: World,
  operator: Operator,
): Promise<{ readonly apiWrites: number; readonly hubWrites: number }> {
  say("waiting until nothing moves any more");
  let last = await writes(world);
  let since = Date.now();
  await eventually(
    "nothing moves any more",
    async () => {
      const now = await writes(world);
      const { waiting } = await reconcilesOf(operator, "devices");
      if (now.api !== last.api || now.hub !== last.hub || waiting > 0) since = Date.now();
      last = now;
      return Date.now() - since > 15_000;
    },
    { within: 900_000, every: 1000 },
  );
  const created = grown({}, await world.apiWrites())["edgedevices"] ?? 0;
  const { length } = await world.api.list(PATHS.devices, world.signal);
  return { apiWrites: created - length, hubWrites: last.hub };
}

/** Milliseconds from the response to a spec change until the watch delivers the status that observed it. */
async function changeOneByOne(world: World, devices: number): Promise<readonly number[]> {
  const { api, signal } = world;
  const { metadata } = await api.get<{ readonly metadata: { readonly resourceVersion: string } }>(
    `${PATHS.devices}?limit=1`,
    signal,
  );
  const stop = new AbortController();
  const watched = AbortSignal.any([signal, stop.signal]);
  const path = `${PATHS.devices}?watch=true&resourceVersion=${metadata.resourceVersion}`;
  const arrivals = new Map<string, (at: number) => void>();
  const watching = follow(await api.watch(path, watched), (device) => {
    const { name, generation } = device.metadata;
    if (device.status?.observedGeneration === generation)
      arrivals.get(`${name}@${generation}`)?.(performance.now());
  }).catch((error: unknown) => {
    if (!watched.aborted) throw error;
  });
  const times: number[] = [];
  for (let index = 0; index < CHANGES; index += 1) {
    const name = deviceName(Math.floor((index * devices) / CHANGES));
    const arrived = Promise.withResolvers<number>();
    // Each is changed once, from generation 1.
    arrivals.set(`${name}@2`, arrived.resolve);
    const started = performance.now();
    await api.mergePatch(`${PATHS.devices}/${name}`, { spec: { tags: { line: "changed" } } }, signal);
    times.push((await arrived.promise) - started);
    await sleep(20);
  }
  stop.abort();
  await watching;
  return times;
}

async function follow(lines: AsyncIterable<string>, seen: (device: LiveDevice) => void): Promise<void> {
  for await (const line of lines) {
    const { type, object } = JSON.parse(line) as { readonly type: string; readonly object: LiveDevice };
    if (type === "MODIFIED") seen(object);
  }
}
