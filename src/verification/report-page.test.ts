import fc from "fast-check";
import { expect, test } from "vitest";
import type { Verification } from "../api/model-release.ts";
import type { FullReport } from "../api/verification-report.ts";
import { digestOf } from "../base/digest.ts";
import type { Duration } from "../base/time.ts";
import { reportPage } from "./report-page.ts";
import type { ReportSubject } from "./verification.ts";

const SUBJECT: ReportSubject = {
  namespace: "plant-a",
  release: "digits-2.0.0",
  model: "digits",
  version: "2.0.0",
  variant: "fp32",
  path: "models/digits/2.0.0/model.onnx",
  asked: {
    timeout: "5m" as Duration,
    latency: { p95: "4ms" as Duration, warmup: 10, samples: 200, batchSize: 1, threads: 1 },
    reverify: { every: "24h" as Duration },
  } satisfies Verification,
  comparedWith: { parity: { release: "digits-1.0.0", variant: "fp32", digest: digestOf("old") } },
};

const percentile = (value: number) => ({ value, low: value * 0.9, high: value * 1.2 });
const REPORT: FullReport = {
  format: "edgefleet.dev/verification-report/v1",
  verdict: "Failed",
  reason: "AccuracyTooLow",
  message: "1 of 2 samples are right",
  verifierVersion: "edgefleet-verifier/0.1.0 onnxruntime/1.30.0",
  startedAt: "2026-01-01T00:00:00.000Z",
  finishedAt: "2026-01-01T00:00:09.000Z",
  model: {
    digest: digestOf("model"),
    sizeBytes: 1234,
    irVersion: 8,
    producer: "pytorch",
    opsets: [{ domain: "", version: 17 }],
    operators: [{ domain: "", name: "Gemm", count: 3 }],
    nodes: 3,
    parameters: 650,
    inputs: [{ name: "image", type: "float32", shape: ["batch", 1, 8, 8] }],
    outputs: [{ name: "probabilities", type: "float32", shape: ["batch", 10] }],
  },
  golden: { digest: digestOf("golden"), sizeBytes: 99 },
  checks: [
    { name: "Digest", outcome: "Passed", took: 12 },
    {
      name: "Golden",
      outcome: "Failed",
      measured: "accuracy 0.5 (1 of 2)",
      bound: "accuracy ≥ 0.95",
      method: "all samples",
      message: "too few are right",
      worst: { index: 1, where: "probabilities", expected: "class 3", got: "class 8" },
      took: 40,
      details: {
        samples: 2,
        classification: {
          output: "probabilities",
          classes: 10,
          samples: 2,
          correct: 1,
          topK: 5,
          correctTopK: 2,
          byClass: [{ label: 3, samples: 2, correct: 1 }],
          confused: [{ expected: 3, got: 8, samples: 1 }],
          worst: null,
        },
        comparison: null,
      },
    },
    {
      name: "Latency",
      outcome: "Passed",
      took: 900,
      details: {
        timing: {
          ...{ runs: 200, mean: 1.5, least: 1, outliers: 2, most: { value: 9, run: 17 } },
          ...{ p50: percentile(1.4), p95: percentile(2.1), p99: percentile(3.7) },
        },
      },
    },
    {
      name: "Parity",
      outcome: "Passed",
      took: 80,
      details: {
        samples: 64,
        input: "64 synthetic samples",
        agreement: null,
        comparison: {
          samples: 64,
          elements: 640,
          beyond: 0,
          nonFinite: 0,
          largestAbsolute: 0.00125,
          largestRelative: null,
        },
      },
    },
  ],
};

test("a page shows the verdict, the request, every check, the model, and what it was compared with", () => {
  const page = reportPage(REPORT, SUBJECT);
  for (const text of [
    "<title>digits-2.0.0 (fp32): Failed</title>",
    "plant-a/digits-2.0.0",
    "accuracy 0.5 (1 of 2)",
    "accuracy ≥ 0.95",
    "Worst: number 1, probabilities: class 8 instead of class 3",
    "1 of 2 samples are right (50 %)",
    "<td>3</td><td>8</td><td>1</td>",
    "float32",
    "[batch, 1, 8, 8]",
    "ai.onnx 17",
    "Gemm",
    "&quot;p95&quot;: &quot;4ms&quot;",
    "digits-1.0.0",
    '<th scope="row">Largest difference</th><td>0.00125</td>',
    '<th scope="row">Largest relative difference</th><td>infinite</td>',
    "2.1 ms",
  ])
    expect(page).toContain(text);
  expect(page).not.toContain("reverify");
});

test("latencies are drawn: a bar for each percentile, and a line where the bound is", () => {
  const page = reportPage(REPORT, SUBJECT);
  const bars = [...page.matchAll(/<rect [^>]*width="([0-9.]+)"/g)].map(([, width]) => Number(width));
  expect(bars).toHaveLength(3);
  expect(bars[1]! / bars[0]!).toBeCloseTo(2.1 / 1.4, 2);
  expect(page.match(/class="bound"/g)).toHaveLength(1);
  const far = { ...SUBJECT.asked, latency: { ...SUBJECT.asked.latency!, p95: "10s" as Duration } };
  expect(reportPage(REPORT, { ...SUBJECT, asked: far })).not.toContain('class="bound"');
});

test("a page fetches nothing, runs nothing, and is well formed whatever a model is called", () => {
  const nasty = fc.oneof(
    fc.string(),
    fc.constantFrom(
      "<script>alert(1)</script>",
      `"><img src=x onerror=alert(1)>`,
      "</pre></style>",
      "&lt;",
      "'",
    ),
  );
  fc.assert(
    fc.property(nasty, nasty, nasty, (name, message, where) => {
      const model = { ...REPORT.model!, producer: name, inputs: [{ name, type: name, shape: [name] }] };
      const checks = REPORT.checks.map((check) => ({
        ...check,
        message,
        method: where,
        worst: { index: 1, where, expected: name, got: message },
      }));
      const page = reportPage({ ...REPORT, message, model, checks }, { ...SUBJECT, variant: name });
      expect(page).not.toMatch(/<(script|img|link|iframe|object)/i);
      expect(tagsOf(page)).toEqual(tagsOf(reportPage({ ...REPORT, checks: plain(checks) }, SUBJECT)));
    }),
  );
});

/** The same checks with ordinary names. */
function plain(checks: FullReport["checks"]): FullReport["checks"] {
  return checks.map((check) => ({
    ...check,
    ...(check.message === "" ? {} : { message: "m" }),
    ...(check.method === "" ? {} : { method: "m" }),
  }));
}

function tagsOf(page: string): readonly string[] {
  return page.replace(/<style>[^<]*<\/style>/, "").match(/<[^>]*?[ >]/g) ?? [];
}

test("a report of a file that could not be read is a page too", () => {
  const page = reportPage(
    { ...REPORT, model: null, golden: null, checks: [{ name: "Load", outcome: "Failed", took: 1 }] },
    { ...SUBJECT, comparedWith: null },
  );
  expect(page).toContain("Load");
  expect(page).not.toContain("The model");
});
