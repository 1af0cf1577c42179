import { expect, test } from "vitest";
import { PHASES, ROLLBACK_REASONS } from "../api/inference-deployment.ts";
import { createMetrics, METRICS, VERIFIER_METRICS } from "./metrics.ts";

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

test("label values are given for all labels of a counter or a histogram, or for none", () => {
  for (const [name, metric] of Object.entries({ ...METRICS, ...VERIFIER_METRICS }))
    if ("values" in metric) {
      expect(metric.type, name).not.toBe("gauge");
      expect(Object.keys(metric.values), name).toEqual([...metric.labels]);
    }
});
