import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { createMetrics, METRICS, VERIFIER_METRICS } from "../src/telemetry/metrics.ts";
import { DASHBOARDS } from "../tools/dashboards/dashboards.ts";
import { queriesOf, withVariables } from "./builders/grafana.ts";
import { partsOfPromql } from "./builders/promql.ts";

// The dashboards as the chart ships them, held against the metrics that exist. That their queries find something is the
// business of chart/dashboards.test.ts.

const ROOT = join(import.meta.dirname, "..");
/** What Prometheus adds to every series, through the chart's ServiceMonitor. */
const TARGET_LABELS = ["namespace", "pod", "service", "container", "endpoint", "job", "instance"];
const VARIABLES = { namespace: "edgefleet-system", interval: "1m" };

type LabelValues = Readonly<Record<string, readonly string[]>>;
type Table = Readonly<
  Record<
    string,
    {
      readonly type: string;
      readonly labels: readonly string[];
      readonly values?: LabelValues | readonly LabelValues[];
    }
  >
>;
const OURS: Table = { ...METRICS, ...VERIFIER_METRICS };
/** What both programs export beside their tables. */
const PROCESS = new Set(
  [...(await createMetrics("throw", {}).expose()).matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name),
);

describe.each(DASHBOARDS)("dashboard $name", ({ name, rows }) => {
  const file = readFileSync(
    join(ROOT, "charts/edge-fleet-operator/files/dashboards", `${name}.json`),
    "utf8",
  );
  const queries = queriesOf(file);

  test("has every query of its panels", () => {
    const panels = rows.flatMap((row) => row.panels);
    expect(queries.map(({ panel }) => panel)).toEqual(
      expect.arrayContaining(panels.map(({ title }) => title)),
    );
    expect(queries.length).toBe(panels.flatMap((panel) => panel.queries).length);
  });

  test("gives its panels titles of their own, and says what each is for", () => {
    const panels = rows.flatMap((row) => row.panels);
    expect(new Set(panels.map(({ title }) => title)).size).toBe(panels.length);
    expect(panels.filter(({ question }) => !question.endsWith("."))).toEqual([]);
  });

  test("is in the documents: its picture, and what each panel is for", () => {
    const document = readFileSync(join(ROOT, "docs/dashboards.md"), "utf8");
    expect(document).toContain(`(images/dashboards/${name}.svg)`);
    expect(readFileSync(join(ROOT, "docs/images/dashboards", `${name}.svg`), "utf8")).toMatch(/^<svg /);
    const rowsOfPanels = rows.flatMap((row) =>
      row.panels.map((panel) => `| ${panel.title} | ${panel.question} |`),
    );
    expect(rowsOfPanels.filter((row) => !document.includes(row))).toEqual([]);
  });

  test.each(queries)("$panel: $expression is about metrics and labels that exist", (query) => {
    expect(faultsOf(query)).toEqual([]);
  });
});

test.each([
  ["sum by (state) (edgefleet_rollouts", "not PromQL at 34: "],
  ["edgefleet_device", "edgefleet_device is not exported"],
  ["edgefleet_devices_bucket", "edgefleet_devices_bucket is not exported"],
  ["edgefleet_reconcile_duration_seconds", "edgefleet_reconcile_duration_seconds is a histogram"],
  ['edgefleet_rollouts{state="failed"}', "edgefleet_rollouts has no label state"],
  ["sum by (state) (edgefleet_rollouts)", "no series of the group has a label state"],
  ["max(edgefleet_leader) and on (host) max(edgefleet_leader)", "no series of the group has a label host"],
  ['edgefleet_hub_requests_total{result="failed"}', "edgefleet_hub_requests_total has no result failed"],
  ['edgefleet_hub_requests_total{class=~"query|twin"}', "edgefleet_hub_requests_total has no class twin"],
])("the query %s would be found out", (expression, fault) => {
  expect(faultsOf({ expression, legend: "" })).toContain(fault);
});

test("a legend of a label that does not exist would be found out", () => {
  const query = { expression: "edgefleet_rollouts", legend: "{{phase}} {{state}}" };
  expect(faultsOf(query)).toEqual(["the legend has a label state, and no series has"]);
});

function faultsOf(query: { readonly expression: string; readonly legend: string }): readonly string[] {
  const { errors, selectors, groupings } = partsOfPromql(withVariables(query.expression, VARIABLES));
  const legend = [...query.legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, label = ""]) => label);
  const selected = selectors.flatMap(({ metric }) => labelsOf(metric));
  return [
    ...errors.map((error) => `not PromQL ${error}`),
    ...selectors.flatMap(({ metric, matchers }) => {
      const declared = declaredAs(metric);
      if (declared === null) return [`${metric} is not exported`];
      if (declared.type === "histogram" && metric in OURS) return [`${metric} is a histogram`];
      return matchers.flatMap(({ label, value }) => {
        if (!labelsOf(metric).includes(label)) return [`${metric} has no label ${label}`];
        const known = [declared.values ?? []].flat().flatMap((together) => together[label] ?? []);
        const values = known.length === 0 ? value.split("|") : known;
        return value
          .split("|")
          .filter((one) => !values.includes(one))
          .map((one) => `${metric} has no ${label} ${one}`);
      });
    }),
    ...groupings.flatMap(({ labels, metrics }) =>
      labels
        .filter((label) => !metrics.flatMap(labelsOf).includes(label))
        .map((label) => `no series of the group has a label ${label}`),
    ),
    ...legend
      .filter((label) => !selected.includes(label))
      .map((label) => `the legend has a label ${label}, and no series has`),
  ];
}

function declaredAs(metric: string): Table[string] | null {
  if (PROCESS.has(metric)) return { type: "gauge", labels: [] };
  const base = OURS[metric.replace(/_(?:bucket|sum|count)$/, "")];
  return OURS[metric] ?? (base?.type === "histogram" ? base : null);
}

function labelsOf(metric: string): readonly string[] {
  const labels = [...(declaredAs(metric)?.labels ?? []), ...TARGET_LABELS];
  return metric.endsWith("_bucket") ? [...labels, "le"] : labels;
}
