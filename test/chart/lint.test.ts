import { execFile } from "node:child_process";
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { parseAllDocuments, parse as parseYaml } from "yaml";
import { type ChartTool, chartTool } from "../../tools/go/chart-tools.ts";
import { writeApiSchemas } from "./api-schemas.ts";

// The chart as its tools see it: rendered with every example, checked against the API server's own schemas.

const ROOT = join(import.meta.dirname, "..", "..");
const CHART = join(ROOT, "charts/edge-fleet-operator");
const EXAMPLES = globSync("ci/*-values.yaml", { cwd: CHART })
  .map((path) => basename(path))
  .sort();
const run = promisify(execFile);
const directory = mkdtempSync(join(tmpdir(), "edgefleet-chart-"));
const tools = new Map<ChartTool, string>();
let schemas = "";

beforeAll(async () => {
  for (const tool of ["helm", "helm-unittest", "kubeconform", "kube-score", "promtool"] as const)
    tools.set(tool, await chartTool(tool));
  schemas = await writeApiSchemas(inject("kubeconfig"), join(directory, "schemas"));
}, 1_800_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe.each(EXAMPLES)("with %s", (example) => {
  test("the chart passes helm lint", async () => {
    const { stdout } = await use("helm", ["lint", "--strict", CHART, "-f", join(CHART, "ci", example)]);
    expect(stdout).toContain("0 chart(s) failed");
  });

  test("every object is what the API server's schemas say, and nothing is in it that they do not know", async () => {
    const { stdout } = await use("kubeconform", [
      ...["-strict", "-summary", "-output", "json"],
      ...["-schema-location", schemas],
      // Of the Prometheus operator, which is not here.
      ...["-skip", "ServiceMonitor,PrometheusRule"],
      await rendered(example),
    ]).catch((error: { readonly stdout: string }) => error);
    const { summary, resources } = JSON.parse(stdout) as {
      readonly summary: Readonly<Record<string, number>>;
      readonly resources: readonly unknown[];
    };
    expect(resources).toEqual([]);
    expect(summary).toMatchObject({ invalid: 0, errors: 0 });
    expect(summary["valid"]).toBeGreaterThan(5);
  });

  test("kube-score finds nothing critical", async () => {
    const { stdout } = await use("kube-score", [
      ...["score", "--output-format", "ci", "--ignore-container-cpu-limit"],
      // A digest or a version is pulled once; the policy of the cluster decides about the rest.
      ...["--ignore-test", "container-image-pull-policy"],
      // Off by default, since policies that do not fit the cluster cut the operator off.
      ...["--ignore-test", "pod-networkpolicy"],
      ...["--ignore-test", "networkpolicy-targets-pod"],
      await rendered(example),
    ]).catch((error: { readonly stdout: string }) => error);
    expect(stdout.split("\n").filter((line) => line.startsWith("[CRITICAL]"))).toEqual([]);
  });
});

test("the suites of the templates pass", async () => {
  const { stdout } = await use("helm-unittest", [CHART]);
  expect(stdout).toMatch(/Tests: +\d+ passed, \d+ total/);
});

test("every value is set by a suite", () => {
  const written = new Set(
    globSync("tests/*_test.yaml", { cwd: CHART }).flatMap((path) => {
      const suite = parseYaml(readFileSync(join(CHART, path), "utf8")) as {
        readonly tests: readonly { readonly set?: Readonly<Record<string, unknown>> }[];
      };
      return suite.tests.flatMap(({ set = {} }) => pathsIn(set));
    }),
  );
  const isSet = (path: string) =>
    [...written].some((one) => one === path || path.startsWith(`${one}.`) || one.startsWith(`${path}.`));
  expect(valuesOfReadme().filter((path) => !isSet(path))).toEqual([]);
});

test("the rules are what Prometheus reads", async () => {
  const { stdout } = await use("promtool", ["check", "rules", join(CHART, "files/rules.yaml")]);
  expect(stdout).toMatch(/SUCCESS: \d+ rules found/);
});

test.each<[string, string]>([
  ["hubb.host=x", "additional properties 'hubb' not allowed"],
  ["hub.tier=S9", "/hub/tier"],
  ["hub.units=0", "/hub/units"],
  ["watchNamespaces[0]=Plant", "/watchNamespaces/0"],
  ["workloadIdentity.clientId=me", "/workloadIdentity/clientId"],
  ["image.digest=sha256:1", "/image/digest"],
  ["operator.analysisInterval=5", "/operator/analysisInterval"],
])("--set %s is refused by its path", async (set, said) => {
  const values = join(CHART, "ci/connection-strings-values.yaml");
  await expect(use("helm", ["template", CHART, "-f", values, "--set", set])).rejects.toMatchObject({
    stderr: expect.stringContaining(said),
  });
});

function use(tool: ChartTool, args: readonly string[]) {
  return run(tools.get(tool) ?? tool, [...args], { maxBuffer: 64 * 1024 * 1024, cwd: directory });
}

async function rendered(example: string): Promise<string> {
  const args = ["template", "fleet", CHART, "-n", "edgefleet-system", "-f", join(CHART, "ci", example)];
  const { stdout } = await use("helm", args);
  const path = join(directory, example);
  writeFileSync(path, stdout);
  expect(parseAllDocuments(stdout).flatMap(({ errors }) => errors)).toEqual([]);
  return path;
}

function pathsIn(value: unknown, path = ""): readonly string[] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [path];
  const entries = Object.entries(value);
  if (entries.length === 0) return [path];
  return entries.flatMap(([key, inner]) => pathsIn(inner, path === "" ? key : `${path}.${key}`));
}

function valuesOfReadme(): readonly string[] {
  return [...readFileSync(join(CHART, "README.md"), "utf8").matchAll(/^\| `([\w.]+)` \|/gm)].map(
    ([, path = ""]) => path,
  );
}
