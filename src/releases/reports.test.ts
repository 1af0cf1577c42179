import fc from "fast-check";
import { expect, test } from "vitest";
import { variant } from "../../test/builders/releases.ts";
import { createReleaseWorld } from "../../test/fakes/release-world.ts";
import { CHECK_NAMES, CHECK_OUTCOMES, type VariantStatus } from "../api/model-release.ts";
import type { FullReport } from "../api/verification-report.ts";
import { canonicalJson } from "../base/digest.ts";
import type { Fault } from "../base/fault.ts";
import { instant, minutes, seconds, timestampOf } from "../base/time.ts";
import type { VerifyReport } from "../verification/verification.ts";
import { trimmed } from "./trim.ts";

const FP32 = variant("fp32");
const PASSED: VerifyReport = {
  kind: "passed",
  checks: [{ name: "Digest", outcome: "Passed", message: "see https://store.test/m?sig=c2VjcmV0 <b>" }],
  verifierVersion: "1.0.0",
};

async function judged() {
  const world = createReleaseWorld();
  world.create();
  await world.pass();
  world.verifier.answer(FP32.digest, PASSED);
  await world.pass();
  return world;
}

test("the full report lies beside the model, as JSON and as a page, and the status says where", async () => {
  const world = await judged();
  await world.pass();
  const { key = "", report } = world.status().variants?.[0] ?? {};
  const folder = "resnet50/2.1.0/fp32.onnx.verification";
  expect(report).toEqual({
    container: "models",
    path: `${folder}/${key.slice(0, 12)}.json`,
    page: `${folder}/${key.slice(0, 12)}.html`,
  });
  const json = world.blobs.documents().get(`models/${report?.path}`);
  const page = world.blobs.documents().get(`models/${report?.page}`);
  expect(json?.contentType).toBe("application/json");
  expect(page?.contentType).toBe("text/html; charset=utf-8");
  const written = JSON.parse(Buffer.from(json!.bytes).toString()) as FullReport;
  expect(written).toMatchObject({ format: "edgefleet.dev/verification-report/v1", verdict: "Passed" });
  const text = Buffer.from(page!.bytes).toString();
  expect(text).toContain("resnet50 2.1.0");
  for (const each of [text, Buffer.from(json!.bytes).toString()]) expect(each).not.toContain("c2VjcmV0");
  expect(world.meter.value("edgefleet_verification_reports_total", { result: "stored" })).toBe(1);
  world.calls.clear();
  await world.pass();
  expect(world.calls.made()).toEqual([]);
});

const fault = (kind: "denied" | "rejected" | "unavailable"): Fault => ({ kind, message: "403 sig=abc" });

test.each([
  ["store.put", "denied", "StoreDenied", /grant the operator's credential permission to write blobs/],
  ["store.put", "rejected", "ReportNotStored", /the store rejected the report/],
  ["verifier.report", "rejected", "ReportNotStored", /the verifier rejected the report/],
] as const)(
  "a report that %s (%s) keeps out is reported once as %s, and not retried for ever",
  async (call, kind, reason, words) => {
    const world = await judged();
    world.calls.breakAll(call, fault(kind));
    await world.pass();
    expect(world.summary()).toMatchObject({
      Ready: "True VerificationPassed",
      ReportStored: `False ${reason}`,
    });
    expect(world.condition("ReportStored")?.message).toMatch(words);
    expect(JSON.stringify(world.status())).not.toContain("sig=abc");
    expect(world.events().filter((event) => event === "Warning ReportNotStored")).toHaveLength(1);
    world.calls.heal();
    world.calls.clear();
    await world.clock.advance(minutes(600));
    world.restart();
    expect(await world.pass()).toEqual({ kind: "settled" });
    expect(world.calls.made()).toEqual(["verifier.version"]);
  },
);

test.each([
  ["store.put", "StoreUnavailable"],
  ["verifier.report", "VerifierUnavailable"],
])("a report is tried again, ever more slowly, while %s does not work", async (call, reason) => {
  const world = await judged();
  world.calls.breakAll(call, fault("unavailable"));
  await world.pass();
  expect(world.summary()).toMatchObject({
    Ready: "True VerificationPassed",
    ReportStored: `False ${reason}`,
  });
  expect(world.status().variants?.[0]?.reportError?.retryAt).toBe(
    timestampOf(instant(world.clock.now() + 10_000)),
  );
  world.calls.clear();
  expect(await world.pass()).toEqual({ kind: "wakeAfter", delay: 25_000, why: "periodic check" });
  expect(world.calls.made()).toEqual([]);
  await world.clock.advance(seconds(10));
  await world.pass();
  expect(world.status().variants?.[0]?.reportError).toMatchObject({ attempts: 2 });
  world.calls.heal();
  await world.clock.advance(seconds(20));
  await world.pass();
  expect(world.summary()).not.toHaveProperty("ReportStored");
  expect(world.status().variants?.[0]).not.toHaveProperty("reportError");
  expect(world.blobs.documents().size).toBe(2);
});

test("a verdict whose report was forgotten stands, and says so", async () => {
  const world = await judged();
  world.verifier.forget();
  await world.pass();
  expect(world.summary()).toMatchObject({
    Ready: "True VerificationPassed",
    ReportStored: "False ReportNotStored",
  });
  expect(world.condition("ReportStored")?.message).toContain("the verifier was restarted before");
  expect(await world.pass()).toEqual({ kind: "settled" });
});

// ── how much of it the status shows

const sentence = (limit: number) => fc.string({ minLength: 0, maxLength: limit });
const checkArbitrary = fc.record({
  name: fc.constantFrom(...CHECK_NAMES),
  outcome: fc.constantFrom(...CHECK_OUTCOMES),
  measured: sentence(256),
  bound: sentence(256),
  method: sentence(256),
  message: sentence(500),
});
const variantArbitrary = fc
  .record({
    message: sentence(1024),
    checks: fc.uniqueArray(checkArbitrary, { maxLength: 10, selector: ({ name }) => name }),
  })
  .map((found): VariantStatus => ({ name: "fp32", digest: FP32.digest, verdict: "Failed", ...found }));

test("a status stays small, loses no check that did not pass, and trimming it twice changes nothing", () => {
  fc.assert(
    fc.property(fc.array(variantArbitrary, { maxLength: 16 }), (variants) => {
      const short = trimmed(variants);
      expect(canonicalJson(trimmed(short))).toBe(canonicalJson(short));
      // Strange characters take up to six in JSON: twice the budget is still small.
      expect(canonicalJson(short).length).toBeLessThan(40_000);
      for (const [index, { checks = [] }] of variants.entries()) {
        const lost = checks.filter(
          ({ name, outcome }) =>
            outcome === "Failed" && !short[index]?.checks?.some((check) => check.name === name),
        );
        expect(lost).toEqual([]);
      }
    }),
    { numRuns: 60 },
  );
});

test("sixteen variants with ten checks each, as the verifier words them, fit into ten kilobytes", () => {
  const checks = CHECK_NAMES.map((name) => ({
    name,
    outcome: "Passed" as const,
    measured: "p50 1.42 ms, p95 2.10 ms, p99 3.75 ms",
    bound: "p95 ≤ 100 ms, p99 ≤ 200 ms",
    method: "200 runs after 10 more, golden samples, 1 thread, no run left out (3 outliers)",
  }));
  const one = { digest: FP32.digest, verdict: "Passed" as const, reason: "VerificationPassed", checks };
  const many = Array.from({ length: 16 }, (_, index) => ({ name: `variant-${index}`, ...one }));
  expect(trimmed(many.slice(0, 2))[0]?.checks).toEqual(checks);
  const short = trimmed(many);
  expect(canonicalJson(short).length).toBeLessThanOrEqual(10_000);
  expect(short[0]?.checks?.map(({ name }) => name)).toEqual(CHECK_NAMES);
});
