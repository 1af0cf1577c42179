import { execFile } from "node:child_process";
import { globSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, expect, test } from "vitest";
import { chartTool } from "../../tools/go/chart-tools.ts";

// The cases of alerts and recording rules in rules/*.yaml. They are here, and not beside the chart's suites, because those
// are helm-unittest's and this is run by promtool. test/alerts.test.ts sees to it that no rule is without one.

const RULES = join(import.meta.dirname, "rules");
const FILES = globSync("*.yaml", { cwd: RULES }).sort();
const run = promisify(execFile);
let promtool = "";

beforeAll(async () => {
  promtool = await chartTool("promtool");
}, 1_800_000);

test.each(FILES)("the rules do what %s says", async (file) => {
  const { stdout } = await run(promtool, ["test", "rules", file], { cwd: RULES }).catch(
    (error: { readonly stdout: string; readonly stderr: string }) => ({
      stdout: `${error.stdout}${error.stderr}`,
    }),
  );
  expect(stdout).toMatch(/^\s*SUCCESS\s*$/m);
  expect(stdout).not.toContain("FAILED");
});
