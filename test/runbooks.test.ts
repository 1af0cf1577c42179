import { existsSync, globSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { METRICS, VERIFIER_METRICS } from "../src/telemetry/metrics.ts";

// A page for each alert. test/envtest/runbook-commands.test.ts tries the commands.

const ROOT = join(import.meta.dirname, "..");
const FOLDER = join(ROOT, "docs/runbooks");
const HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation"];
const TIMES: Readonly<Record<string, string>> = { m: "min", h: "h", d: "day" };

type Rule = {
  readonly alert?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
};
const { groups } = parse(readFileSync(join(ROOT, "charts/edge-fleet-operator/files/rules.yaml"), "utf8")) as {
  readonly groups: readonly { readonly rules: readonly (Rule & { readonly record?: string })[] }[];
};
const rules = groups.flatMap((group) => group.rules);
const alerts = rules.filter((rule) => rule.alert !== undefined);
const pages = globSync("*.md", { cwd: FOLDER })
  .map((path) => basename(path, ".md"))
  .filter((name) => name !== "README");

test("every alert has a page, and every page an alert", () => {
  expect(pages.sort()).toEqual(alerts.map(({ alert }) => alert).sort());
});

test("the pages lie where the chart's default for runbook_url leads to", () => {
  const values = parse(readFileSync(join(ROOT, "charts/edge-fleet-operator/values.yaml"), "utf8")) as {
    readonly metrics: { readonly prometheusRule: { readonly runbookBaseUrl: string } };
  };
  for (const { alert } of alerts)
    expect(existsSync(join(ROOT, values.metrics.prometheusRule.runbookBaseUrl, `${alert}.md`)), alert).toBe(
      true,
    );
});

test("the index lists every page under its severity", () => {
  const index = readFileSync(join(FOLDER, "README.md"), "utf8");
  for (const { alert = "", labels = {}, annotations = {} } of alerts) {
    const severity = labels["severity"] ?? "";
    const title = severity === "none" ? "Not an emergency" : severity;
    const section = index.split(/^## /m).find((text) => text.startsWith(title));
    expect(section, alert).toContain(
      `| [${alert}](${alert}.md) | ${timeOf(labels)} | ${annotations["summary"]} |`,
    );
  }
});

function timeOf(labels: Readonly<Record<string, string>>): string {
  const [, count, unit = ""] = /^(\d+)([mhd])$/.exec(labels["response_time"] ?? "") ?? [];
  return count === undefined ? "-" : `${count} ${TIMES[unit]}`;
}

function objectiveOf({ objective }: Readonly<Record<string, string>>): string {
  return objective === undefined ? "" : ` Objective: ${objective} %.`;
}

describe.each(alerts.map(({ alert = "", labels = {} }) => [alert, labels] as const))(
  "the page of %s",
  (alert, labels) => {
    const text = readFileSync(join(FOLDER, `${alert}.md`), "utf8");

    test("says how bad it is and how soon to answer, as the rule does", () => {
      const severity = labels["severity"];
      expect(text.split("\n").slice(0, 3)).toEqual([
        `# ${alert}`,
        "",
        severity === "none"
          ? "Severity none: not an emergency."
          : `${severity}, answer within ${timeOf(labels)}.${objectiveOf(labels)}`,
      ]);
    });

    test("has its four sections, with something in each", () => {
      const sections = text.split(/^## /m).slice(1);
      expect(sections.map((section) => section.split("\n", 1)[0])).toEqual(HEADINGS);
      for (const section of sections) expect(section.trim().split("\n").length).toBeGreaterThan(2);
    });

    test("names only metrics and recordings that exist", () => {
      const exported = [...Object.keys(METRICS), ...Object.keys(VERIFIER_METRICS)];
      const recorded = rules.flatMap(({ record }) => record ?? []);
      const named = [...text.matchAll(/\bedgefleet[_:][a-zA-Z0-9_:]+/g)].map(([name]) =>
        name.replace(/_bucket$/, ""),
      );
      expect(named.filter((name) => !exported.includes(name) && !recorded.includes(name))).toEqual([]);
    });

    test("keeps what a test can try apart from what needs a pod or a cloud", () => {
      const tried = [...text.matchAll(/^ *```sh\n(.*?)^ *```/gms)].map(([, block = ""]) => block);
      for (const block of tried)
        for (const line of block.trim().split("\n"))
          expect(line.trim()).toMatch(/^kubectl (?:get|describe|annotate) /);
      const untried = [...text.matchAll(/^ *```sh notest\n(.*?)^ *```/gms)].map(([, block = ""]) => block);
      for (const block of untried)
        for (const line of block.trim().split("\n"))
          expect(line.trim()).toMatch(/^(?:kubectl -n edgefleet-system|az) /);
    });
  },
);
