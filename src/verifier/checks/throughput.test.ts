import { expect, test } from "vitest";
import type { Duration } from "../../base/time.ts";
import { judgeThroughput } from "./throughput.ts";

test.each<[number, string | null]>([
  [1000, null],
  [1001, "ThroughputTooLow"],
])("a throughput of 1000/s held against %d/s", (minimumPerSecond, reason) => {
  const measured = { inferences: 5000, milliseconds: 5000, input: "batch 1" };
  const wanted = { minimumPerSecond, batchSize: 1, duration: "5s" as Duration };
  expect(judgeThroughput(wanted, measured, 1).reason).toBe(reason);
});
