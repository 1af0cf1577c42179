import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { deploymentObject, type Fleet, releaseObject, startFleet } from "./fleet.ts";

// The story tests have two minutes of this in virtual time; here the wires are real, and the outage is shorter.
const OUTAGE = Number(process.env["EDGEFLEET_OUTAGE_SECONDS"] ?? 10) * 1000;
let fleet: Fleet;

beforeAll(async () => {
  fleet = await startFleet("outage");
  await fleet.startOperator("operator", ["--leader-election", "false"]);
  await fleet.apply(
    ...fleet.deviceObjects(18),
    await releaseObject("digits-1.0.0"),
    deploymentObject("digits-1.0.0"),
  );
  await fleet.completed("digits-1.0.0");
});
afterAll(() => fleet.stop());

test.each([503, 429])(
  "a hub that answers %d in the middle of a canary freezes it, and it goes on by itself",
  async (status) => {
    const release = `digits-2.0.${status}`;
    const steps = [{ percent: 20, minimumDevices: 3, hold: "6s" }, { percent: 100 }];
    await fleet.apply(
      await releaseObject(release, { file: "digits/2.0.0/model.onnx" }),
      deploymentObject(release, { strategy: { steps, progressDeadline: "30s", onDeadline: "Rollback" } }),
    );
    await fleet.until(
      "the canary is out",
      ({ status: seen }) => seen?.candidate?.release === release && (seen.devices?.exposed ?? 0) > 0,
    );

    await fleet.stack.control("POST", "/sim/faults", {
      id: "outage",
      operations: ["*"],
      percent: 100,
      kind: "status",
      status,
    });
    const frozen = await fleet.until("it is frozen", ({ status: seen }) => seen?.phase === "Frozen", {
      within: 30_000,
    });
    const condition = frozen.status?.conditions?.find(({ type }) => type === "HubReachable");
    expect(condition?.status).toBe("False");
    expect(condition?.message).toMatch(status === 429 ? /throttl|429/i : /unavailable|503/i);
    const exposed = frozen.status?.exposure;
    await sleep(OUTAGE);
    const still = await fleet.deployment();
    expect(still.status?.phase).toBe("Frozen");
    expect(still.status?.exposure).toEqual(exposed);
    expect(still.status?.rollback?.release).not.toBe(release);

    await fleet.stack.control("DELETE", "/sim/faults/outage");
    const done = await fleet.completed(release, 90_000);
    expect(done.status?.rollback?.release).not.toBe(release);
  },
);
