import { describe, expect, test } from "vitest";
import type { Duration } from "../../base/time.ts";
import { judgeLatency } from "./latency.ts";

describe("latency", () => {
  const wanted = (p95: string) => ({
    p95: p95 as Duration,
    warmup: 0,
    samples: 20,
    batchSize: 1,
    threads: 1,
  });
  const runs = Float64Array.from({ length: 100 }, (_, index) => 100 - index);

  test("is exact at its bound", () => {
    expect(judgeLatency(wanted("95ms"), runs, "batch 1").reason).toBeNull();
    expect(judgeLatency(wanted("94ms"), runs, "batch 1").reason).toBe("LatencyTooHigh");
    expect(judgeLatency(wanted("94ms"), runs, "batch 1").result).toMatchObject({
      measured: "p50 50 ms, p95 95 ms, p99 99 ms",
      bound: "p95 ≤ 94 ms",
      method: "100 runs after 0 more, batch 1, 1 thread, no run left out (0 outliers)",
      worst: { index: 0, expected: "p95 ≤ 94 ms", got: "100 ms" },
    });
  });

  test("close to its bound passes, and says that it is close", () => {
    expect(judgeLatency(wanted("95ms"), runs, "batch 1").result.message).toBe(
      "p95 is close to its bound: with 95 % confidence it lies between 90 ms and 100 ms",
    );
    expect(judgeLatency(wanted("1s"), runs, "batch 1").result.message).toBeUndefined();
  });
});
