import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../../tools/stack/local-stack.ts";
import { deploymentObject, type Fleet, releaseObject, startFleet } from "./fleet.ts";

let fleet: Fleet;

beforeAll(async () => {
  fleet = await startFleet("leader");
});
afterAll(() => fleet.stop());

test("of two operators one leads; killed, the other takes over within 20 s and finishes the rollout", async () => {
  const [one, two] = [await fleet.startOperator("one"), await fleet.startOperator("two")];
  const leaders = async () => [await leads(one.logFile), await leads(two.logFile)];
  await eventually("one leads", async () => (await leaders()).filter(Boolean).length === 1, {
    within: 30_000,
  });
  const [first, second] = (await leads(one.logFile)) ? [one, two] : [two, one];

  await fleet.apply(
    ...fleet.deviceObjects(12),
    await releaseObject("digits-1.0.0"),
    deploymentObject("digits-1.0.0"),
  );
  await fleet.until("the rollout is under way", ({ status }) => (status?.devices?.exposed ?? 0) > 0);
  expect(await leads(second.logFile)).toBe(false);
  const killedAt = Date.now();
  first.kill("SIGKILL");
  await eventually("the other leads", () => leads(second.logFile), { within: 20_000, every: 100 });
  expect(Date.now() - killedAt).toBeLessThan(20_000);
  await fleet.completed("digits-1.0.0");

  // No double action: each device was created once, and each configuration too.
  const counters = (await fleet.stack.control("GET", "/sim/counters")) as {
    readonly results?: Readonly<Record<string, Readonly<Record<string, number>>>>;
  };
  expect(counters.results?.["identity"]?.["409"] ?? 0).toBe(0);
  expect(counters.results?.["configuration"]?.["409"] ?? 0).toBe(0);
});

test("an operator that is asked to stop lets go of the Lease, and the next one leads at once", async () => {
  const three = await fleet.startOperator("three");
  await eventually("all but the leader wait", async () => !(await leads(three.logFile)), { within: 5000 });
  const old = ["one", "two"].map((name) => `${fleet.stack.directory}/${name}.log`);
  expect((await Promise.all(old.map(leads))).filter(Boolean).length).toBeGreaterThan(0);
  await fleet.stack.stopOperator("one");
  await fleet.stack.stopOperator("two");
  await eventually("the third leads", () => leads(three.logFile), { within: 6000, every: 100 });
});

async function leads(logFile: string): Promise<boolean> {
  const lines = (await readFile(logFile, "utf8")).split("\n");
  return lines.some((line) => line.includes('"message":"leading"'));
}
