import { afterAll, beforeAll, expect, test } from "vitest";
import { deploymentObject, type Fleet, releaseObject, startFleet } from "../e2e/fleet.ts";
import { CHART, helm, install, startUnderAccount, stopInstalled } from "./installed-chart.ts";

// An upgrade of the chart in the middle of a rollout: the old operator dies, and a new one continues under the chart's rights.

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet("upgrade");
  await install(fleet, false);
}, 900_000);
afterAll(() => stopInstalled(fleet));

test("a rollout in progress continues after an upgrade, from the step that it had reached", async () => {
  const old = await startUnderAccount(fleet, "old");
  await fleet.apply(
    ...fleet.deviceObjects(8),
    await releaseObject("digits-1.0.0"),
    deploymentObject("digits-1.0.0"),
  );
  await fleet.completed("digits-1.0.0");
  const strategy = {
    steps: [{ percent: 25 }, { percent: 50, hold: "5s" }, { percent: 100 }],
    progressDeadline: "2m",
  };
  await fleet.apply(
    await releaseObject("digits-2.0.0", { file: "digits/2.0.0/model.onnx" }),
    deploymentObject("digits-2.0.0", { strategy }),
  );
  const before = await fleet.until(
    "half of the devices are exposed",
    ({ status }) => status?.step?.percent === 50,
  );
  old.kill("SIGKILL");
  await old.ended;

  const values = ["--reuse-values", "--set", "operator.workers=3,replicaCount=2"];
  await helm(fleet, "upgrade", "fleet", CHART, ...values);
  await startUnderAccount(fleet, "new");
  const widths = new Set<number>();
  await fleet.until(
    "digits-2.0.0 is completed",
    ({ status }) => {
      if (status?.candidate !== undefined && status.step !== undefined) widths.add(status.step.percent);
      return status?.phase === "Completed" && status.stable?.release === "digits-2.0.0";
    },
    { within: 120_000 },
  );
  expect([...widths].filter((width) => width < 50)).toEqual([]);
  const after = await fleet.deployment();
  expect(after.metadata.generation).toBe(before.metadata.generation);
  const beginnings = after.status?.history?.filter(({ message }) => message.startsWith("starts with"));
  expect(beginnings?.filter(({ release }) => release === "digits-2.0.0")).toHaveLength(1);
}, 300_000);
