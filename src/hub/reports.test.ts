import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fleetTagsOf, pointerOf, reportOf } from "./reports.ts";

const WHOLE = {
  contract: 1,
  active: {
    release: "a.r1",
    digest: "sha256:1",
    variant: "fp32",
    executionProvider: "cuda",
    since: "2026-01-01T00:00:00Z",
  },
  update: {
    release: "a.r2",
    digest: "sha256:2",
    state: "Failed",
    error: { code: "Digest", message: "no" },
    at: "2026-01-01T00:00:00Z",
  },
  window: {
    release: "a.r1",
    seconds: 60,
    inferences: 600,
    errors: 2,
    framesPerSecond: 10.5,
    latencyMilliseconds: { p50: 20, p95: 40.5, p99: 60 },
    endedAt: "2026-01-01T00:00:00Z",
  },
  resources: { cpuPercent: 50, gpuCelsius: 61 },
  restarts: 3,
  heartbeatAt: "2026-01-01T00:00:00Z",
};

describe("reports", () => {
  test("that are whole stay whole", () => {
    expect(reportOf(WHOLE)).toEqual(WHOLE);
  });
  test("lose what the contract does not know", () => {
    expect(reportOf({ ...WHOLE, extra: "x".repeat(10_000), active: { ...WHOLE.active, more: 1 } })).toEqual(
      WHOLE,
    );
  });
  test("that are missing are null", () => {
    for (const nothing of [undefined, null, 7, "text", []]) expect(reportOf(nothing)).toBeNull();
  });
  test("lose a part of a wrong shape and keep the rest", () => {
    expect(reportOf({ ...WHOLE, update: { ...WHOLE.update, state: "Dancing" } })?.update).toBeUndefined();
    expect(reportOf({ ...WHOLE, active: { release: 1 } })).toEqual({ ...WHOLE, active: undefined });
    expect(reportOf({ heartbeatAt: 7 })).toEqual({ contract: 1, heartbeatAt: "" });
  });
  test("have a window only where all of its numbers are present: an invented number would be evidence", () => {
    const { p99: _, ...latency } = WHOLE.window.latencyMilliseconds;
    expect(
      reportOf({ ...WHOLE, window: { ...WHOLE.window, latencyMilliseconds: latency } })?.window,
    ).toBeUndefined();
    expect(reportOf({ ...WHOLE, window: { ...WHOLE.window, inferences: "600" } })?.window).toBeUndefined();
    expect(
      reportOf({ ...WHOLE, window: { ...WHOLE.window, errors: Number.POSITIVE_INFINITY } })?.window,
    ).toBeUndefined();
  });
  test("lose numbers out of range: at the end of its range a number would be a good one", () => {
    const odd = {
      ...WHOLE,
      contract: -1,
      restarts: -4,
      resources: { cpuPercent: 250, diskPercent: -1, gpuPercent: 100, gpuCelsius: 1e9, memoryPercent: 0 },
    };
    expect(reportOf(odd)).toEqual({
      ...WHOLE,
      contract: 0,
      restarts: undefined,
      resources: { gpuPercent: 100, memoryPercent: 0 },
    });
    expect(reportOf({ ...WHOLE, restarts: 1.5 })?.restarts).toBeUndefined();
    expect(reportOf({ ...WHOLE, restarts: 1e300 })?.restarts).toBeUndefined();
  });
  test("keep the numbers of a window as they are, so that implausible ones are seen", () => {
    const window = {
      ...WHOLE.window,
      seconds: -60,
      errors: -1,
      inferences: 10.7,
      framesPerSecond: 1e300,
      latencyMilliseconds: { p50: -20, p95: -1, p99: 1e300 },
    };
    expect(reportOf({ ...WHOLE, window })?.window).toEqual(window);
  });
  test("have their texts cut", () => {
    const report = reportOf({
      ...WHOLE,
      update: { ...WHOLE.update, error: { code: "c".repeat(9999), message: "m".repeat(9999) } },
    });
    expect(report?.update?.error?.code.length).toBe(256);
    expect(report?.update?.error?.message.length).toBe(512);
  });
  test("of any kind at all never throw, and what comes out reads the same again", () => {
    const part = fc.oneof(
      fc.jsonValue(),
      fc.record(
        Object.fromEntries(
          ["release", "digest", "state", "error", "seconds"].map((key) => [key, fc.jsonValue()]),
        ),
        { requiredKeys: [] },
      ),
    );
    const keys = ["active", "update", "window", "resources", "restarts", "heartbeatAt", "contract"];
    const any = fc.oneof(
      fc.anything(),
      fc.record(Object.fromEntries(keys.map((key) => [key, part])), { requiredKeys: [] }),
    );
    fc.assert(
      fc.property(any, (value) => {
        const report = reportOf(value);
        expect(reportOf(report)).toEqual(report);
      }),
    );
  });
});

test("a digest that a device reports in upper case is the same digest", () => {
  const [upper, lower] = [`SHA256:${"AB".repeat(32)}`, `sha256:${"ab".repeat(32)}`];
  const report = reportOf({
    ...WHOLE,
    active: { ...WHOLE.active, digest: upper },
    update: { ...WHOLE.update, digest: upper },
  });
  expect(report).toMatchObject({ active: { digest: lower }, update: { digest: lower } });
  expect(reportOf({ ...WHOLE, active: { ...WHOLE.active, digest: "SHA256:AB" } })?.active?.digest).toBe(
    "SHA256:AB",
  );
});

describe("fleet tags", () => {
  const ours = {
    managed: true,
    namespace: "plant-a",
    device: "cam-1",
    class: "nano",
    site: "hall",
    bucket: 5,
    iotEdge: true,
    deployments: { inference: "plant-a.x" },
  };
  test("are read where they are whole", () => {
    expect(fleetTagsOf({ edgefleet: ours, line: "7" })).toEqual(ours);
  });
  test("need neither a site nor a deployment", () => {
    const { site: _, deployments: __, ...rest } = ours;
    expect(fleetTagsOf({ edgefleet: rest })).toEqual({ ...ours, site: "", deployments: {} });
  });
  test.each([
    {},
    { edgefleet: null },
    { edgefleet: { ...ours, bucket: "5" } },
    { edgefleet: { ...ours, bucket: 1_000_000 } },
    { edgefleet: { ...ours, bucket: 0.5 } },
    { edgefleet: { ...ours, managed: "true" } },
    { edgefleet: { ...ours, namespace: undefined } },
    { edgefleet: { ...ours, deployments: { inference: 7 } } },
    { edgefleet: { ...ours, deployments: [] } },
  ])("are null where they are not: %j", (tags) => {
    expect(fleetTagsOf(tags)).toBeNull();
  });
});

test("a pointer is read without its url", () => {
  const pointer = { deployment: "a.d", release: "a.r", digest: "sha256:1" };
  expect(pointerOf({ ...pointer, url: "https://store/x?sig=secret", name: "x" })).toEqual(pointer);
  expect(pointerOf({ ...pointer, digest: undefined })).toBeNull();
  expect(pointerOf(null)).toBeNull();
});

test("half a character that a device reports is replaced as the API server would, and a whole one is not cut in two", () => {
  const message = `${"x".repeat(511)}😀`;
  const said = {
    release: "r\ud83d",
    digest: "d",
    state: "Failed",
    error: { code: "\ude00", message },
    at: "x",
  };
  const update = reportOf({ update: said, heartbeatAt: "x" })?.update;
  expect(update).toMatchObject({ release: "r\ufffd", error: { code: "\ufffd", message: "x".repeat(511) } });
});
