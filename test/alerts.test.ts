import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { seriesIn, straysIn } from "./series-in-text.ts";

// The alerts of the chart and their cases. promtool runs the cases: test/chart/rules.test.ts.

const ROOT = join(import.meta.dirname, "..");
const RULES = "charts/edge-fleet-operator/files/rules.yaml";
/** Given by the scrape, not by the code. */
const TARGET_LABELS = ["namespace", "pod", "instance"];
/** Fires always, so no case can be quiet. */
const ALWAYS = "EdgeFleetWatchdog";

type Rule = {
  readonly alert?: string;
  readonly record?: string;
  readonly expr: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
};
type Cases = {
  readonly tests: readonly {
    readonly name: string;
    readonly input_series: readonly { readonly series: string }[];
    readonly alert_rule_test?: readonly {
      readonly alertname: string;
      readonly exp_alerts?: readonly unknown[];
    }[];
    readonly promql_expr_test?: readonly { readonly expr: string }[];
  }[];
};

const groups = parse(read(RULES)) as { readonly groups: readonly { readonly rules: readonly Rule[] }[] };
const rules = groups.groups.flatMap((group) => group.rules);
const alerts = rules.flatMap(({ alert }) => alert ?? []);
const cases = globSync("test/chart/rules/*.yaml", { cwd: ROOT }).flatMap(
  (path) => (parse(read(path)) as Cases).tests,
);
const checks = cases.flatMap(({ alert_rule_test = [] }) => alert_rule_test);

describe("every alert", () => {
  test("has a name of its own", () => {
    expect(alerts.length).toBeGreaterThan(30);
    expect(alerts).toEqual([...new Set(alerts)]);
  });

  test("has a case in which it fires", () => {
    const firing = checks.flatMap((check) => ((check.exp_alerts ?? []).length > 0 ? check.alertname : []));
    expect(alerts.filter((alert) => !firing.includes(alert))).toEqual([]);
  });

  test("has a case in which it is quiet", () => {
    const quiet = checks.flatMap((check) => ((check.exp_alerts ?? []).length === 0 ? check.alertname : []));
    expect(alerts.filter((alert) => alert !== ALWAYS && !quiet.includes(alert))).toEqual([]);
  });

  test("says how bad it is, how soon to answer, what is wrong, and how much of it", () => {
    for (const { alert, labels = {}, annotations = {} } of rules.filter((rule) => rule.alert !== undefined)) {
      expect(labels["severity"], alert).toMatch(alert === ALWAYS ? /^none$/ : /^P[0-3]$/);
      expect(labels["response_time"], alert).toMatch(alert === ALWAYS ? /^-$/ : /^\d+[mhd]$/);
      expect(Object.keys(annotations), alert).toEqual(["summary", "description"]);
    }
  });
});

test("metrics.md lists every alert with its severity and response time", () => {
  const rows = [
    ...read("docs/reference/metrics.md").matchAll(
      /^\| \[?`(EdgeFleet\w+)`(?:\]\(\S+\))? \| (\w+) \| (\S+) \| (.*) \|$/gm,
    ),
  ];
  const written = rows.map(([, alert, severity, answer, when]) => [alert, severity, answer, when]);
  const given = rules.flatMap(({ alert, labels = {}, annotations = {} }) =>
    alert === undefined ? [] : [[alert, labels["severity"], labels["response_time"], annotations["summary"]]],
  );
  expect(written).toEqual(given);
});

test("every recording rule has a case that asks for it", () => {
  const asked = cases
    .flatMap(({ promql_expr_test = [] }) => promql_expr_test.map(({ expr }) => expr))
    .join("\n");
  const recorded = rules.flatMap(({ record }) => record ?? []);
  expect(recorded.length).toBeGreaterThan(5);
  expect(recorded.filter((record) => !new RegExp(`${record}\\b`).test(asked))).toEqual([]);
});

test("cases are about alerts that exist", () => {
  expect(checks.map(({ alertname }) => alertname).filter((name) => !alerts.includes(name))).toEqual([]);
});

test("rules and cases name only metrics and labels that the code exports", () => {
  expect(seriesIn(read(RULES)).length).toBeGreaterThan(30);
  expect(straysIn(rules.map(({ expr }) => expr).join("\n"), TARGET_LABELS)).toEqual([]);
  const series = cases.flatMap(({ input_series }) => input_series.map(({ series: one }) => one)).join("\n");
  expect(straysIn(series, [...TARGET_LABELS, "le"])).toEqual([]);
});

test("what increase() and rate() are asked of begins at 0 with every value of its labels", () => {
  const asked = rules.flatMap(({ expr }) =>
    [...expr.matchAll(/\b(?:increase|rate)\(([^)]*)\[/g)].flatMap(([, series = ""]) => seriesIn(series)),
  );
  expect(asked.length).toBeGreaterThan(10);
  const bornLate = asked.filter(
    ({ metric }) => metric !== undefined && metric.labels.length > 0 && !("values" in metric),
  );
  expect(bornLate.map(({ text }) => text)).toEqual([]);
});

function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}
