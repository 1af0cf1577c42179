import { expect, test } from "vitest";
import { GOLDEN, modelRelease, releaseSpec, variant } from "../../test/builders/releases.ts";
import type { ModelRelease, VariantStatus } from "../api/model-release.ts";
import { OPEN_GRANT } from "../api/tenancy.ts";
import { digestOf } from "../base/digest.ts";
import { instant, minutes, seconds, timestampOf } from "../base/time.ts";
import type { VerificationKey } from "../verification/verification.ts";
import { decideRelease } from "./decide.ts";
import { retryDelay } from "./retry-delay.ts";
import type { BlobSeen, ReportSeen, VariantSeen } from "./seen.ts";
import { matchingStatus, stands } from "./verdict-match.ts";

const NOW = instant(Date.UTC(2026, 0, 1));
const FP32 = variant("fp32");
const FOUND: BlobSeen = { kind: "found", sizeBytes: 100, etag: '"1"' };
const MISSING: BlobSeen = { kind: "missing" };
const AWAY: BlobSeen = { kind: "unreadable", fault: { kind: "unavailable", message: "timeout" } };
const BASE: VariantStatus = {
  name: "fp32",
  digest: FP32.digest,
  verdict: "Pending",
  goldenDigest: GOLDEN.digest,
};
const BROKEN: VariantStatus = {
  ...BASE,
  verdict: "Error",
  attempts: 2,
  retryAt: timestampOf(NOW),
  sizeBytes: 100,
};

function asked(
  report: ReportSeen,
  change: Partial<Extract<VariantSeen, { kind: "asked" }>> = {},
): VariantSeen {
  return {
    kind: "asked",
    variant: FP32,
    had: null,
    standing: null,
    key: "key" as VerificationKey,
    report,
    blob: FOUND,
    golden: FOUND,
    parity: null,
    variantParity: null,
    ...change,
  };
}

function plan(seen: VariantSeen, release = modelRelease()) {
  const [only] = decideRelease({ now: NOW, release, grant: OPEN_GRANT, variants: [seen] }).variants;
  return only!;
}

test("what was never asked is started, with the sizes of both files", () => {
  expect(plan(asked({ kind: "unknown" }))).toMatchObject({
    next: { verdict: "Running", sizeBytes: 100, goldenDigest: GOLDEN.digest },
    start: { key: "key", sizeBytes: 100, goldenSizeBytes: 100 },
    waiting: { kind: "verifier" },
  });
});

test("a release without a golden set starts without one", () => {
  const { verification: _, ...spec } = releaseSpec();
  const only = plan(asked({ kind: "unknown" }, { golden: { kind: "unasked" } }), modelRelease({ spec }));
  expect(only.start).toMatchObject({ goldenSizeBytes: null });
  expect(only.next.goldenDigest).toBeUndefined();
});

test.each<[string, Partial<Extract<VariantSeen, { kind: "asked" }>>, string, RegExp]>([
  [
    "a missing model",
    { blob: MISSING },
    "BlobMissing",
    /^the model models\/resnet50\/2.1.0\/fp32.onnx is not in the store; upload it/,
  ],
  [
    "a missing golden set",
    { golden: MISSING },
    "BlobMissing",
    /^the golden set models\/resnet50\/golden.npz is not/,
  ],
  [
    "both missing",
    { blob: MISSING, golden: MISSING },
    "BlobMissing",
    /^the model .* and the golden set .* are not/,
  ],
  ["a store that is away", { blob: AWAY }, "StoreUnavailable", /the store cannot be read \(timeout\)/],
  ["a store that is away for the golden set", { golden: AWAY }, "StoreUnavailable", /cannot be read/],
  [
    "a store that refuses",
    { blob: { kind: "unreadable", fault: { kind: "denied", message: "403" } } },
    "StoreDenied",
    /grant it permission/,
  ],
])("%s: nothing is started, and it is said", (_, change, reason, message) => {
  const only = plan(asked({ kind: "unknown" }, change));
  expect(only).toMatchObject({ next: { verdict: "Pending", reason }, start: null });
  expect(only.next.message).toMatch(message);
});

test("a verdict comes with its evidence", () => {
  const checks = [{ name: "Golden", outcome: "Failed", measured: "0.5", bound: "0.95" }] as const;
  const failed = {
    kind: "failed",
    reason: "AccuracyTooLow",
    message: "0.5 < 0.95",
    checks,
    verifierVersion: "1",
  } as const;
  expect(plan(asked(failed))).toEqual({
    next: {
      name: "fp32",
      digest: FP32.digest,
      sizeBytes: 100,
      etag: '"1"',
      verdict: "Failed",
      reason: "AccuracyTooLow",
      message: "0.5 < 0.95",
      checks,
      verifiedAt: timestampOf(NOW),
      verifierVersion: "1",
      goldenDigest: GOLDEN.digest,
      key: "key" as VerificationKey,
    },
    start: null,
    save: false,
    waiting: { kind: "nothing" },
  });
  const passed = { kind: "passed", checks: [], verifierVersion: "1" } as const;
  expect(plan(asked(passed, { had: BROKEN })).next).not.toHaveProperty("attempts");
});

test("a reason that is not ours is said in general", () => {
  const failed = {
    kind: "failed",
    reason: "Whatever",
    message: "m",
    checks: [],
    verifierVersion: "1",
  } as const;
  expect(plan(asked(failed)).next.reason).toBe("VerificationFailed");
});

test("words from outside are shown without the secrets in them", () => {
  const message = "GET https://store.test/m?sig=c2VjcmV0 failed";
  const checks = [{ name: "Digest", outcome: "Error", message }] as const;
  for (const report of [
    { kind: "error", reason: "x", message },
    { kind: "failed", reason: "x", message, checks, verifierVersion: "1" },
  ] as const)
    expect(JSON.stringify(plan(asked(report)))).not.toContain("c2VjcmV0");
  const fault = { kind: "unavailable", message } as const;
  const unreachable = {
    kind: "unreachable",
    variant: FP32,
    had: null,
    standing: null,
    fault,
    blob: FOUND,
  } as const;
  expect(JSON.stringify(plan(unreachable).next)).not.toContain("c2VjcmV0");
});

test("an error of ours is put down first, tried again when it is due, and never becomes a verdict", () => {
  const error = { kind: "error", reason: "VerificationError", message: "disk full" } as const;
  const first = plan(asked(error));
  expect(first).toMatchObject({ next: { verdict: "Error", attempts: 1, message: "disk full" }, start: null });
  expect(first.waiting).toEqual({ kind: "retry", at: NOW + seconds(10) });
  const due = plan(asked(error, { had: BROKEN }));
  expect(due).toMatchObject({ next: { verdict: "Running", attempts: 2 }, start: { key: "key" } });
  const again = plan(asked(error, { had: { ...BASE, verdict: "Running", attempts: 2 } }));
  expect(again).toMatchObject({ next: { verdict: "Error", attempts: 3 }, start: null });
  expect(again.waiting).toEqual({ kind: "retry", at: NOW + seconds(40) });
});

test("attempts wait twice as long each time, and ten minutes at most", () => {
  expect([1, 2, 3, 4, 5, 6, 7, 8, 100].map(retryDelay)).toEqual(
    [10, 20, 40, 80, 160, 320, 600, 600, 600].map(seconds),
  );
  expect(retryDelay(100)).toBe(minutes(10));
});

test("the first message of a problem stays for as long as it does", () => {
  const had = { ...BASE, reason: "VerifierUnavailable", message: "the first words" };
  const fault = { kind: "unavailable", message: "other words" } as const;
  expect(
    plan({ kind: "unreachable", variant: FP32, had, standing: null, fault, blob: FOUND }).next.message,
  ).toBe("the first words");
  const rejected = { kind: "rejected", message: "bad shape" } as const;
  expect(
    plan({ kind: "unreachable", variant: FP32, had, standing: null, fault: rejected, blob: FOUND }).next,
  ).toMatchObject({
    reason: "VerificationError",
    message: "the verifier rejected the request: bad shape",
  });
});

function withStatus(status: Partial<VariantStatus>, observedGeneration = 1): ModelRelease {
  return modelRelease({
    status: { observedGeneration, variants: [{ ...BASE, verdict: "Passed", ...status }] },
  });
}

test.each<[string, ModelRelease, boolean]>([
  ["these bytes, this golden set and these checks", withStatus({}), true],
  ["other bytes", withStatus({ digest: digestOf("other") }), false],
  ["another golden set", withStatus({ goldenDigest: digestOf("other") }), false],
  ["other checks", withStatus({}, 0), false],
  ["another variant", withStatus({ name: "int8" }), false],
  ["nothing", modelRelease(), false],
])("a status about %s is bound to what was asked: %o", (_, release, bound) => {
  expect(matchingStatus(release, FP32) !== null).toBe(bound);
});

test.each<[VariantStatus["verdict"], boolean]>([
  ["Passed", true],
  ["Failed", true],
  ["Error", false],
  ["Running", false],
  ["Pending", false],
])("%s stands: %s", (verdict, expected) => {
  expect(stands({ ...BASE, verdict })).toBe(expected);
});
