import { readFileSync } from "node:fs";
import { join } from "node:path";
import { seconds } from "../src/base/time.ts";
import { createAzureHub } from "../src/hub/azure-hub.ts";
import { budgetsOf, createThrottle } from "../src/hub/throttle.ts";
import { systemClock } from "../src/runtime/clock.ts";
import { eachLimited } from "../src/runtime/each-limited.ts";
import { createLog } from "../src/telemetry/log.ts";
import { eventually } from "../tools/stack/local-stack.ts";
import { devicesListed, say } from "./shared/command.ts";
import { type Figure, publish, secondsText } from "./shared/figures.ts";
import { deploymentObject, deviceName, type HubWrites, inWorld, PATHS, type World } from "./shared/world.ts";

const HELP = `node bench/hub-writes.ts [--devices N,N…]        (default 100,1000)

Writes to the hub for each step of a canary: the operator's, as the simulator counts them, beside those of a loop that
patches the twin of every device of the step, as a runbook does. The loop really runs, on its own and within the twin
writes that an S1 hub allows (50 each second), up to 1,000 devices; above that its figures are arithmetic, and say so.`;

const STEPS = [
  { percent: 5, minimumDevices: 2, hold: "5s" },
  { percent: 25, hold: "5s" },
  { percent: 100, hold: "5s" },
];
const LOOP_LIMIT = 1000;
const S1_WRITES_PER_SECOND = 50;

const counts = devicesListed(HELP, [100, 1000]);
if (counts !== null) {
  for (const count of counts) {
    say(`${count} devices`);
    const figures = await inWorld({ simulatorArgs: ["--evaluation-interval", "5s"] }, (world) =>
      measure(world, count),
    );
    publish(`hub writes of a canary through ${count} devices`, figures);
  }
}

type Step = { readonly percent: number; readonly exposed: number; readonly writes: HubWrites };

async function measure(world: World, count: number): Promise<readonly Figure[]> {
  await world.createDevices(count);
  await world.createRelease("digits-1.0.0", "digits/1.0.0/model.onnx");
  await world.startOperator("operator");
  await world.api.create(
    PATHS.deployments,
    [deploymentObject("digits-1.0.0", [{ percent: 100 }])],
    world.signal,
  );
  await world.completed("digits-1.0.0", 1_800_000);

  say("a new release, in steps");
  await world.createRelease("digits-2.0.0", "digits/2.0.0/model.onnx");
  let before = await world.hubWrites();
  const patch = deploymentObject("digits-2.0.0", STEPS);
  await world.api.mergePatch(`${PATHS.deployments}/digits`, patch, world.signal);
  const steps: Step[] = [];
  for (const [index, { percent }] of STEPS.entries()) {
    const exposed = await arrived(world, index);
    const after = await world.hubWrites();
    steps.push({ percent, exposed, writes: difference(before, after) });
    say(`${percent} %: ${exposed} devices have arrived`);
    before = after;
  }
  await world.completed("digits-2.0.0", 600_000);
  const end = difference(before, await world.hubWrites());
  await world.stack.stopOperator("operator");

  const loops = await loopThrough(
    world,
    steps.map(({ exposed }, index) => ({ from: steps[index - 1]?.exposed ?? 0, to: exposed })),
  );
  return [
    ...steps.map(({ percent, exposed, writes }, index): Figure => {
      const loop = loops[index];
      return {
        what: `${percent} %: ${exposed} devices exposed`,
        value: writesText(writes),
        against: `goal ≤ 2 for each variant; loop: ${loop?.writes} twins in ${secondsText(loop?.took ?? 0)} (${loop?.how})`,
      };
    }),
    { what: "completion: the new release becomes stable", value: writesText(end), against: "loop: nothing" },
  ];
}

/** Until every device of the step runs the candidate; how many these are. */
function arrived(world: World, index: number): Promise<number> {
  return eventually(
    `step ${index + 1} has arrived`,
    async () => {
      const { status } = await world.deployment();
      const exposed = status?.devices?.exposed ?? 0;
      const whole = exposed > 0 && status?.devices?.updated === exposed;
      return status?.candidate !== undefined && status.step?.index === index && whole && exposed;
    },
    { within: 900_000, every: 200 },
  );
}

type Loop = { readonly writes: number; readonly took: number; readonly how: "measured" | "arithmetic" };

/** Patches twin after twin, eight at a time, under etag `*`: quicker than a shell loop of `az iot hub module-twin update`. */
async function loopThrough(
  world: World,
  steps: readonly { readonly from: number; readonly to: number }[],
): Promise<readonly Loop[]> {
  const loops: Loop[] = [];
  const ignore = () => undefined;
  const clock = systemClock();
  const { operatorEnv, simulator } = world.stack;
  const throttle = createThrottle({
    clock,
    budgets: budgetsOf("S1", 1),
    headroom: 1,
    reserve: 0,
    maxWait: seconds(60),
  });
  const hub = createAzureHub({
    access: {
      kind: "connectionString",
      connectionString: operatorEnv["EDGEFLEET_HUB_CONNECTION_STRING"] ?? "",
    },
    endpoint: {
      host: "127.0.0.1",
      port: simulator.port,
      ca: readFileSync(join(world.stack.directory, "simulator-ca.crt"), "utf8"),
    },
    throttle,
    clock,
    log: createLog("error"),
    meter: { count: ignore, gauge: ignore, observe: ignore },
    random: Math.random,
  });
  try {
    for (const { from, to } of steps) {
      const writes = to - from;
      if (to > LOOP_LIMIT) {
        loops.push({ writes, took: (writes / S1_WRITES_PER_SECOND) * 1000, how: "arithmetic" });
        continue;
      }
      say(`a loop over ${writes} twins`);
      const before = await world.hubWrites();
      const started = Date.now();
      const devices = Array.from({ length: writes }, (_, index) => deviceName(from + index));
      const patchOne = async (device: string) => {
        const ref = { device, module: "inference", etag: "*" };
        const done = await hub.patchTwin(ref, { desired: { model: { by: "loop" } } }, "normal", world.signal);
        if (!done.ok) throw new Error(`${device}: ${done.error.message}`);
      };
      await eachLimited(devices, 8, patchOne, world.signal);
      const counted = difference(before, await world.hubWrites()).twin;
      loops.push({ writes: counted, took: Date.now() - started, how: "measured" });
    }
  } finally {
    hub.close();
  }
  return loops;
}

function difference(before: HubWrites, after: HubWrites): HubWrites {
  return {
    identity: after.identity - before.identity,
    twin: after.twin - before.twin,
    configuration: after.configuration - before.configuration,
  };
}

function writesText({ identity, twin, configuration }: HubWrites): string {
  const others = [
    ...(twin === 0 ? [] : [`${twin} twin`]),
    ...(identity === 0 ? [] : [`${identity} identity`]),
  ];
  return [`${configuration} configuration`, ...others].join(" + ");
}
