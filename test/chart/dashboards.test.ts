import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { digestOf } from "../../src/base/digest.ts";
import { DASHBOARDS } from "../../tools/dashboards/dashboards.ts";
import { drawDashboard } from "../../tools/dashboards/picture.ts";
import { eventually } from "../../tools/stack/local-stack.ts";
import { queriesOf, withVariables } from "../builders/grafana.ts";
import { deploymentObject, type Fleet, releaseObject, startFleet } from "../e2e/fleet.ts";
import { type Prometheus, type Range, type Series, startPrometheus } from "./prometheus.ts";

// The dashboards over a real Prometheus, which has read the metrics of a short story: two good releases, one that devices
// are too slow for, and one that fails its verification.

const ROOT = join(import.meta.dirname, "..", "..");
const FILES = join(ROOT, "examples/models/files");
const COUNT = 24;
/** That of the operator, as a label of its metrics. */
const NAMESPACE = "edgefleet-system";
/** Grafana's own choice is four times the interval of scrapes, at least. */
const INTERVAL = "5s";
/** Of a line in a picture, at most. */
const POINTS = 25;
/** The folder that pictures are written to; `npm run docs:dashboards` sets it. */
const PICTURES = process.env["DASHBOARD_PICTURES"] ?? "";

let fleet: Fleet;
let prometheus: Prometheus;
let range: Omit<Range, "step">;

beforeAll(async () => {
  fleet = await startFleet("dashboards", {
    verifierArgs: ["--probe-address", "127.0.0.1:0"],
    behaviours: [
      { match: { release: "*" }, effects: { latency: { p50: 30, p95: 45, p99: 60 } } },
      { match: { release: "*.digits-slow" }, effects: { latency: { p50: 180, p95: 260, p99: 300 } } },
    ],
  });
  const { probePort } = await fleet.startOperator();
  const verifierPort = await eventually(
    "the verifier serves its metrics",
    async () => /"port":(\d+)/.exec(fleet.stack.verifier.output())?.[1],
    { within: 30_000 },
  );
  prometheus = await startPrometheus(join(fleet.stack.directory, "prometheus"), [
    { address: `127.0.0.1:${probePort}`, labels: { namespace: NAMESPACE, instance: "operator:8080" } },
    { address: `127.0.0.1:${verifierPort}`, labels: { namespace: NAMESPACE, instance: "verifier:8081" } },
  ]);
  const start = seconds();
  await playStory();
  range = { start, end: seconds() };
}, 1_800_000);
afterAll(async () => {
  await prometheus?.stop();
  await fleet?.stop();
});

describe.each(DASHBOARDS)("dashboard $name", (dashboard) => {
  const file = join(ROOT, "charts/edge-fleet-operator/files/dashboards", `${dashboard.name}.json`);

  test.each(queriesOf(readFileSync(file, "utf8")))("$panel: $expression finds series", async (query) => {
    const found = await answer(query.expression);
    expect(found.length).toBeGreaterThan(0);
    const numbers = found.flatMap(({ values }) => values.map(([, value]) => Number(value)));
    expect(numbers.some(Number.isFinite)).toBe(true);
    // What the legend names distinguishes every series from the others.
    const names = found.map(({ metric }) => nameOf(query.legend, metric));
    expect(new Set(names).size).toBe(names.length);
    for (const label of labelsIn(query.legend))
      expect(found.map(({ metric }) => metric[label])).toContainEqual(expect.any(String));
  });

  test("can be drawn, small enough for the documents", async () => {
    const step = Math.ceil((range.end - range.start) / POINTS);
    const picture = await drawDashboard(dashboard, async ({ expression, legend }) =>
      (await answer(expression, step)).map(({ metric, values }) => ({
        name: nameOf(legend, metric),
        points: values.map(([at, value]) => [at - range.start, Number(value)] as const),
      })),
    );
    expect(picture).toMatch(/^<svg /);
    expect(picture.length).toBeLessThan(100_000);
    if (PICTURES === "") return;
    mkdirSync(PICTURES, { recursive: true });
    writeFileSync(join(PICTURES, `${dashboard.name}.svg`), picture);
  });
});

test.each([
  ["fleet", "Devices", COUNT],
  ["fleet", "Share online", 1],
  ["fleet", "Out of sync", 0],
  ["fleet", "Leader", 1],
  ["rollout", "Held or frozen", 0],
  ["rollout", "Rolled back", 0],
  ["verification", "Verifiers ready", 1],
  ["verification", "Failed releases", 1],
  ["hub-budget", "Reachable", 1],
  ["hub-budget", "Ownerless", 0],
])("at the end of the story, dashboard %s shows under %s: %d", async (name, title, wanted) => {
  const panels = DASHBOARDS.filter((one) => one.name === name).flatMap(({ rows }) =>
    rows.flatMap((row) => row.panels),
  );
  const panel = panels.find((one) => one.title === title);
  const [series] = await answer(panel?.queries[0]?.expression ?? "");
  expect(Number(series?.values.at(-1)?.[1])).toBe(wanted);
});

test("the rollback is on the dashboard of rollouts, by its reason", async () => {
  const found = await answer('max_over_time(edgefleet_rollbacks_total{namespace="$namespace"}[1h])');
  const reasons = found.filter(({ values }) => Number(values.at(-1)?.[1]) > 0);
  expect(reasons.map(({ metric }) => metric["reason"])).toEqual(["ObjectiveBreached"]);
});

async function playStory(): Promise<void> {
  const verification = {
    golden: {
      blob: { container: "models", path: "digits/golden.npz" },
      digest: digestOf(readFileSync(join(FILES, "digits/golden.npz"))),
      minimumAccuracy: "0.9",
    },
    latency: { p95: "200ms", samples: 20 },
  };
  const releaseOf = (name: string, version: string) =>
    releaseObject(name, { file: `digits/${version}/model.onnx`, verification });
  await fleet.apply(
    ...fleet.deviceObjects(COUNT),
    await releaseOf("digits-1.0.0", "1.0.0"),
    deploymentObject("digits-1.0.0"),
  );
  await fleet.completed("digits-1.0.0");
  await fleet.apply(await releaseOf("digits-2.0.0", "2.0.0"), deploymentObject("digits-2.0.0"));
  await fleet.completed("digits-2.0.0");
  await fleet.apply(await releaseOf("digits-slow", "2.1.0"), deploymentObject("digits-slow"));
  await fleet.until("digits-slow is rolled back", ({ status }) => status?.phase === "RolledBack");
  await fleet.apply(await releaseOf("digits-inaccurate", "3.0.0"), deploymentObject("digits-2.0.0"));
  await fleet.completed("digits-2.0.0");
  await eventually(
    "digits-inaccurate has failed its verification",
    async () => (await fleet.release("digits-inaccurate")).status?.variants?.[0]?.verdict === "Failed",
    { within: 60_000 },
  );
  // What was last is read by Prometheus, too.
  await eventually(
    "Prometheus has read the end of the story",
    async () => {
      const now = { start: seconds(), end: seconds(), step: 1 };
      const value = async (query: string) =>
        (await prometheus.queryRange(query, now)).map(({ values }) => Number(values[0]?.[1]))[0];
      return (
        (await value('max(edgefleet_releases{verdict="Failed"})')) === 1 &&
        (await value('max(edgefleet_devices{condition="ModelInSync",status="True"})')) === COUNT &&
        (await value('max(edgefleet_devices{condition="Online",status="True"})')) === COUNT
      );
    },
    { within: 60_000, every: 500 },
  );
}

function answer(expression: string, step = 1): Promise<readonly Series[]> {
  const query = withVariables(expression, { namespace: NAMESPACE, interval: INTERVAL });
  return prometheus.queryRange(query, { ...range, step });
}

function nameOf(legend: string, metric: Series["metric"]): string {
  return legend.replaceAll(/\{\{(\w+)\}\}/g, (_, label: string) => metric[label] ?? "").trim();
}

function labelsIn(legend: string): readonly string[] {
  return [...legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, label = ""]) => label);
}

function seconds(): number {
  return Math.floor(Date.now() / 1000);
}
