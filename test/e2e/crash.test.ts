import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Operator } from "../../tools/stack/local-stack.ts";
import { seededRandom } from "../builders/verifier/onnx-model.ts";
import { deploymentObject, type Fleet, releaseObject, startFleet } from "./fleet.ts";

const SEED = Number(process.env["EDGEFLEET_SEED"] ?? Date.now() % 1_000_000);
const COUNT = 18;
let fleet: Fleet;
let operator: Operator;

beforeAll(async () => {
  fleet = await startFleet("crash", {
    behaviours: [
      { match: { release: "*" }, effects: { latency: { p50: 30, p95: 45, p99: 60 } } },
      { match: { release: "*.digits-slow" }, effects: { latency: { p50: 180, p95: 260, p99: 300 } } },
    ],
  });
  operator = await start();
});
afterAll(() => fleet.stop());

test(`kill -9 at random moments of a rollout ends in the same state as without (EDGEFLEET_SEED=${SEED})`, async () => {
  const random = seededRandom(SEED);
  await fleet.apply(
    ...fleet.deviceObjects(COUNT),
    await releaseObject("digits-1.0.0"),
    deploymentObject("digits-1.0.0"),
  );
  await killWhile(random, "digits-1.0.0", "Completed");

  await fleet.apply(
    await releaseObject("digits-2.0.0", { file: "digits/2.0.0/model.onnx" }),
    deploymentObject("digits-2.0.0"),
  );
  await killWhile(random, "digits-2.0.0", "Completed");
  const done = await fleet.completed("digits-2.0.0");
  expect(done.status?.devices).toMatchObject({ matched: COUNT, updated: COUNT, failed: 0 });
  expect(await fleetConfigurations()).toHaveLength(2); // the base, and stable

  await fleet.apply(
    await releaseObject("digits-slow", { file: "digits/2.1.0/model.onnx" }),
    deploymentObject("digits-slow"),
  );
  await killWhile(random, "digits-slow", "RolledBack");
  const { status } = await fleet.deployment();
  expect(status?.stable?.release).toBe("digits-2.0.0");
  expect(status?.quarantinedReleases?.map(({ release }) => release)).toEqual(["digits-slow"]);
  expect(await fleetConfigurations()).toHaveLength(2);
});

/** Kills and restarts the operator, a few times, until the rollout is where it belongs. */
async function killWhile(random: () => number, release: string, goal: string): Promise<void> {
  for (let kills = 0; kills < 4; kills += 1) {
    await sleep(300 + random() * 3500);
    operator.kill("SIGKILL");
    expect(await operator.ended).toBe("SIGKILL");
    operator = await start();
  }
  await fleet.until(
    `${release} is ${goal}`,
    ({ status }) =>
      status?.phase === goal &&
      (goal === "RolledBack" ? status.rollback?.release : status.stable?.release) === release,
    { within: 90_000 },
  );
}

// Without an election a restarted operator need not wait for the Lease of the one that was killed.
function start(): Promise<Operator> {
  return fleet.startOperator("operator", ["--leader-election", "false"]);
}

async function fleetConfigurations(): Promise<readonly string[]> {
  const { configurations } = (await fleet.stack.control("GET", "/sim/fleet")) as {
    readonly configurations: readonly string[];
  };
  return configurations;
}
