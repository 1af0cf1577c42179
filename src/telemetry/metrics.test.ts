import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { PHASES, ROLLBACK_REASONS } from "../api/inference-deployment.ts";
import { createMetrics, METRICS, VERIFIER_METRICS } from "./metrics.ts";

const ROOT = join(import.meta.dirname, "../..");

test("what is counted, set and observed is exposed", async () => {
  const { meter, expose } = createMetrics("throw");
  meter.count("edgefleet_reconcile_total", { controller: "devices", outcome: "settled" });
  meter.count("edgefleet_reconcile_total", { controller: "devices", outcome: "settled" }, 2);
  meter.gauge("edgefleet_leader", 1);
  meter.observe("edgefleet_reconcile_duration_seconds", 0.02, { controller: "devices" });
  const text = await expose();
  expect(text).toContain('edgefleet_reconcile_total{controller="devices",outcome="settled"} 3');
  expect(text).toContain("edgefleet_leader 1");
  expect(text).toContain('edgefleet_reconcile_duration_seconds_bucket{le="0.025",controller="devices"} 1');
  expect(text).toContain('edgefleet_reconcile_duration_seconds_bucket{le="0.01",controller="devices"} 0');
});

test("every metric of the table is exposed with its help, and so are the process's own", async () => {
  const text = await createMetrics("throw").expose();
  for (const [name, { help, type }] of Object.entries(METRICS)) {
    expect(text).toContain(`# HELP ${name} ${help}`);
    expect(text).toContain(`# TYPE ${name} ${type}`);
  }
  expect(text).toContain("process_cpu_seconds_total");
});

test("a name, a label or a use that the table does not know throws in development and is left out in production", async () => {
  const strict = createMetrics("throw").meter;
  expect(() => strict.count("edgefleet_no_such_total")).toThrow(/no such metric/);
  expect(() => strict.gauge("edgefleet_reconcile_total", 1)).toThrow(/no such metric/);
  expect(() => strict.count("edgefleet_reconcile_total", { device: "cam-1" })).toThrow();
  const lenient = createMetrics("ignore");
  lenient.meter.count("edgefleet_no_such_total");
  lenient.meter.count("edgefleet_reconcile_total", { device: "cam-1" });
  expect(await lenient.expose()).not.toContain("cam-1");
});

test("names have our prefix and the suffix of their type", () => {
  for (const [name, { type }] of Object.entries(METRICS)) {
    expect(name).toMatch(/^edgefleet_[a-z_]+$/);
    expect(name.endsWith("_total")).toBe(type === "counter");
    if (type === "histogram") expect(name).toMatch(/_seconds$/);
  }
});

test("a counter whose label values are known begins at 0 for each of them, so that increase() sees the first event", async () => {
  const text = await createMetrics("throw").expose();
  for (const phase of PHASES)
    expect(text).toContain(`edgefleet_rollout_transitions_total{phase="${phase}"} 0`);
  for (const reason of ROLLBACK_REASONS)
    expect(text).toContain(`edgefleet_rollbacks_total{reason="${reason}"} 0`);
  expect(text).toContain('edgefleet_reconcile_total{controller="rollouts",outcome="panic"} 0');
  expect(text).toContain('edgefleet_hub_requests_total{class="configuration",result="denied"} 0');
});

test("a histogram whose label values are known begins at 0 for each of them, so that rate() sees the first observation", async () => {
  const text = await createMetrics("throw").expose();
  expect(text).toContain('edgefleet_reconcile_duration_seconds_count{controller="rollouts"} 0');
  expect(text).toContain('edgefleet_hub_request_duration_seconds_count{class="query"} 0');
  expect(text).toContain(
    'edgefleet_hub_throttle_wait_seconds_bucket{le="0.1",class="configuration",lane="rollback"} 0',
  );
  expect(await createMetrics("throw", VERIFIER_METRICS).expose()).toContain(
    'edgefleet_verifier_verification_duration_seconds_count{outcome="failed"} 0',
  );
});

test("a histogram whose label values are known begins at 0 for each of them, so that rate() sees the first burst", async () => {
  const text = await createMetrics("throw").expose();
  for (const lane of ["normal", "rollback"])
    expect(text).toContain(
      `edgefleet_hub_throttle_wait_seconds_bucket{le="5",class="configuration",lane="${lane}"} 0`,
    );
  expect(text).toContain('edgefleet_kube_request_duration_seconds_count{method="PATCH"} 0');
});

test("values of labels that go together begin at 0 together, and no others", async () => {
  const text = await createMetrics("throw", VERIFIER_METRICS).expose();
  const name = "edgefleet_verifier_verifications_total";
  expect(text).toContain(`${name}{outcome="error",reason="VerificationError"} 0`);
  expect(text).toContain(`${name}{outcome="failed",reason="LatencyTooHigh"} 0`);
  expect(text).toContain(`${name}{outcome="passed",reason=""} 0`);
  expect(text).not.toContain(`${name}{outcome="passed",reason="LatencyTooHigh"}`);
});

test("every reason that the verifier gives begins at 0", async () => {
  const given = globSync("src/verifier/**/*.ts", { cwd: ROOT })
    .filter((path) => !path.endsWith(".test.ts"))
    .flatMap((path) => [...readFileSync(join(ROOT, path), "utf8").matchAll(/\bREASONS\.(\w+)/g)])
    .map(([, reason = ""]) => reason);
  expect(given).toContain("LatencyTooHigh");
  for (const [table, name] of [
    [METRICS, "edgefleet_verifications_total"],
    [VERIFIER_METRICS, "edgefleet_verifier_verifications_total"],
  ] as const) {
    const text = await createMetrics("throw", table).expose();
    expect(
      given.filter((reason) => !text.includes(`reason="${reason}"} 0`)),
      name,
    ).toEqual([]);
  }
});

test("label values are given for all labels of a counter or a histogram, or for none", () => {
  for (const [name, metric] of Object.entries({ ...METRICS, ...VERIFIER_METRICS }))
    if ("values" in metric) {
      expect(metric.type, name).not.toBe("gauge");
      for (const together of [metric.values].flat())
        expect(Object.keys(together), name).toEqual([...metric.labels]);
    }
});
