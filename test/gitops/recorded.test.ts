import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { isRecord } from "../../src/base/guards.ts";
import { kstatusOf } from "./kstatus.ts";
import { recordedObjects } from "./recorded.ts";

const recorded = await recordedObjects();
const conditionsOf = (status: unknown): readonly Readonly<Record<string, string>>[] =>
  isRecord(status) && Array.isArray(status["conditions"]) ? status["conditions"] : [];

describe.each(recorded)("$kind $name", ({ object, reason, kstatus }) => {
  const conditions = conditionsOf(object.status);

  test(`is ${kstatus} for kstatus, with the reason ${reason}`, () => {
    expect(conditions.find(({ type }) => type === "Ready")?.["reason"] ?? null).toBe(reason);
    expect(kstatusOf(object)).toBe(kstatus);
  });

  test("is either ready, reconciling or stalled", () => {
    const summaries = conditions.filter(
      ({ type, status }) => ["Ready", "Reconciling", "Stalled"].includes(type ?? "") && status === "True",
    );
    expect(summaries).toHaveLength(reason === null ? 0 : 1);
  });
});

// Verdicts of the verifier differ in nothing but the word, and so do its errors: one of each is recorded.
const VERDICT = /^(?:Verified, Ready, (?:Stalled|Reconciling, Stalled)(?:, event)?)$/;

test.each(["EdgeDevice", "ModelRelease", "InferenceDeployment"])(
  "%s: every reason that Ready can have is recorded",
  (kind) => {
    const reference = readFileSync(join(import.meta.dirname, "../../docs/reference/conditions.md"), "utf8");
    const section = reference.split(/^## /m).find((part) => part.startsWith(`${kind}\n`)) ?? "";
    const documented = [...section.matchAll(/^\| `(\w+)` \| ([^|]*) \|/gm)].filter(
      ([, , where = ""]) => where.split(", ").includes("Ready") && !VERDICT.test(where),
    );
    const known = new Set(recorded.filter((one) => one.kind === kind).map(({ reason }) => reason));
    expect(documented.length).toBeGreaterThan(0);
    expect(documented.map(([, name = ""]) => name).filter((name) => !known.has(name))).toEqual([]);
  },
);
