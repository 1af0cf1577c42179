import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { chartTool } from "../../tools/go/chart-tools.ts";

// The example of Alertmanager's routes, checked by Alertmanager's own tool.

const ROOT = join(import.meta.dirname, "..", "..");
const CONFIG = join(ROOT, "examples/alertmanager/alertmanager.yaml");
const TIMEOUT = 900_000; // the first run builds amtool

async function amtool(...args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(await chartTool("amtool"), args);
  return stdout;
}

test(
  "amtool accepts the configuration",
  async () => {
    expect(await amtool("check-config", CONFIG)).toContain("SUCCESS");
  },
  TIMEOUT,
);

test.each([
  ["severity=P0", "pager"],
  ["severity=P1", "pager"],
  ["severity=P2", "chat"],
  ["severity=P3", "office-hours"],
  ["alertname=EdgeFleetWatchdog", "dead-mans-switch"],
])(
  "%s goes to %s",
  async (label, receiver) => {
    const route = await amtool("config", "routes", "test", `--config.file=${CONFIG}`, label);
    expect(route.trim()).toBe(receiver);
  },
  TIMEOUT,
);

test("every alert that inhibits or is inhibited is one of ours", () => {
  type Rules = { readonly groups: readonly { readonly rules: readonly { readonly alert?: string }[] }[] };
  const { groups } = parse(
    readFileSync(join(ROOT, "charts/edge-fleet-operator/files/rules.yaml"), "utf8"),
  ) as Rules;
  const alerts = groups.flatMap(({ rules }) => rules.flatMap(({ alert }) => alert ?? []));
  type Config = {
    readonly inhibit_rules: readonly {
      readonly source_matchers: readonly string[];
      readonly target_matchers: readonly string[];
    }[];
  };
  const { inhibit_rules } = parse(readFileSync(CONFIG, "utf8")) as Config;
  const matchers = inhibit_rules.flatMap(({ source_matchers, target_matchers }) => [
    ...source_matchers,
    ...target_matchers,
  ]);
  for (const matcher of matchers) {
    const [, name = ""] = /^alertname=~?"(.*)"$/.exec(matcher) ?? [];
    const [, prefix = "", either = ""] = /^(\w*)\((.*)\)$/.exec(name) ?? [];
    const names = either === "" ? [name] : either.split("|").map((one) => `${prefix}${one}`);
    for (const one of names)
      expect(
        alerts.some((alert) => new RegExp(`^${one}$`).test(alert)),
        one,
      ).toBe(true);
  }
});
