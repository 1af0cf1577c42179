import { existsSync, globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { parseOperatorSettings } from "../src/operator-settings.ts";

// What editors and CI are given, compared with the tools and the programs that they start.

const ROOT = join(import.meta.dirname, "..");

type Launch = {
  readonly name: string;
  readonly request: string;
  readonly program?: string;
  readonly args?: readonly string[];
};

describe(".vscode/launch.json", () => {
  const { configurations } = JSON.parse(read(".vscode/launch.json")) as {
    readonly configurations: readonly Launch[];
  };
  const started = configurations.filter(({ request }) => request === "launch");

  test.each(started)("$name starts a program that exists", ({ program = "" }) => {
    expect(existsSync(program.replace(/^\$\{workspaceFolder\}/, ROOT))).toBe(true);
  });

  test.each(started.filter(({ program }) => program?.endsWith("src/operator.ts")))(
    "$name gives the operator flags that it accepts",
    ({ args = [] }) => {
      const env = {
        EDGEFLEET_HUB_CONNECTION_STRING: "HostName=h;SharedAccessKeyName=n;SharedAccessKey=k",
        EDGEFLEET_STORAGE_CONNECTION_STRING: "AccountName=a",
      };
      expect(parseOperatorSettings(args, env, { name: "host", random: "0" })).toMatchObject({
        kind: "settings",
      });
    },
  );
});

describe(".editorconfig", () => {
  const rules = read(".editorconfig");

  test("asks for the indentation and the width that Biome formats with", () => {
    const { formatter } = JSON.parse(read("biome.json")) as {
      readonly formatter: { readonly indentStyle: string; readonly lineWidth: number };
    };
    const [, everywhere = ""] = /^\[\*\]\n([\s\S]*?)\n\n/m.exec(rules) ?? [];
    expect(everywhere).toContain(`indent_style = ${formatter.indentStyle}`);
    expect(everywhere).toContain("indent_size = 2"); // Biome's own default
    expect(rules).toContain(`[*.{ts,js,json}]\nmax_line_length = ${formatter.lineWidth}\n`);
  });
});

type Step = { readonly uses?: string; readonly run?: string };
type Workflow = { readonly jobs: Readonly<Record<string, { readonly steps: readonly Step[] }>> };

describe.each(globSync(".github/workflows/*.yml", { cwd: ROOT }))("%s", (path) => {
  const text = read(path);
  const steps = Object.values((parse(text) as Workflow).jobs).flatMap((job) => job.steps);

  test("pins every action to a commit, and names its version", () => {
    const uses = steps.flatMap((step) => (step.uses === undefined ? [] : [step.uses]));
    expect(uses.length).toBeGreaterThan(0);
    const isPinned = (action: string) =>
      /^[\w-]+\/[\w-]+@[0-9a-f]{40}$/.test(action) &&
      text.split("\n").some((line) => new RegExp(`${action} # v\\d+\\.\\d+\\.\\d+$`).test(line));
    expect(uses.filter((action) => !isPinned(action))).toEqual([]);
  });

  test("runs targets and files that exist, and all the tests as anyone does", () => {
    const targets = [...read("Makefile").matchAll(/^([a-z-]+):/gm)].map(([, target]) => target);
    const runs = steps.flatMap((step) => (step.run === undefined ? [] : [step.run]));
    const made = runs.flatMap((run) => [...run.matchAll(/\bmake ([a-z-]+)/g)].map(([, target]) => target));
    expect(made.filter((target) => !targets.includes(target))).toEqual([]);
    const files = runs.flatMap((run) => run.match(/\b(?:tools|test)\/[\w/-]+\.ts/g) ?? []);
    expect(files.filter((file) => globSync(file, { cwd: ROOT }).length === 0)).toEqual([]);
    expect(runs).toContain(".ci/run");
  });
});

function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}
