import { expect, test } from "vitest";
import type { CheckReport } from "../../src/api/verification-report.ts";
import type { Duration } from "../../src/base/time.ts";
import { parseXml } from "../../test/builders/verifier/xml.ts";
import { junitText } from "./junit.ts";
import type { Subject } from "./subject.ts";

const rest = {
  check: "",
  about: {
    namespace: null,
    release: null,
    model: "model.onnx",
    version: "",
    variant: "",
    path: "model.onnx",
    asked: { timeout: "1m" as Duration },
    comparedWith: null,
  },
};

function subject(checks: readonly CheckReport[], title = "model.onnx"): Subject {
  const failed = checks.some(({ outcome }) => outcome === "Failed");
  const message = "what was found";
  return {
    title,
    ...rest,
    verified: {
      report: failed
        ? { kind: "failed", reason: "AccuracyTooLow", message, checks, verifierVersion: "1" }
        : { kind: "passed", checks, verifierVersion: "1" },
      full: {
        format: "edgefleet.dev/verification-report/v1",
        verdict: failed ? "Failed" : "Passed",
        ...(failed ? { reason: "AccuracyTooLow" } : {}),
        message,
        verifierVersion: "1",
        startedAt: "2026-11-22T10:00:00.123Z",
        finishedAt: "2026-11-22T10:00:02.123Z",
        model: null,
        golden: null,
        checks,
      },
    },
  };
}

test("each check is a test case, and the suite counts them", () => {
  const root = parseXml(
    junitText(
      subject([
        { name: "Digest", outcome: "Passed", took: 12 },
        { name: "Golden", outcome: "Failed", took: 1500, measured: "0.9", bound: "0.95", message: "too low" },
        { name: "Latency", outcome: "Skipped", took: 0, message: "not run" },
      ]),
    ),
  );
  const [suite] = root.children;
  expect(root.name).toBe("testsuites");
  expect(suite?.attributes).toEqual({
    name: "model.onnx",
    tests: "3",
    failures: "1",
    errors: "0",
    skipped: "1",
    time: "1.512",
    timestamp: "2026-11-22T10:00:00",
  });
  const cases = suite?.children.filter(({ name }) => name === "testcase") ?? [];
  expect(cases.map(({ attributes }) => [attributes["name"], attributes["time"]])).toEqual([
    ["Digest", "0.012"],
    ["Golden", "1.500"],
    ["Latency", "0.000"],
  ]);
  expect(cases[1]?.children).toMatchObject([
    {
      name: "failure",
      attributes: { type: "AccuracyTooLow", message: "too low" },
      text: "too low\nmeasured: 0.9\nbound: 0.95",
    },
  ]);
  expect(cases[2]?.children).toMatchObject([{ name: "skipped", attributes: { message: "not run" } }]);
});

test("where there is no verdict, the check in which it ended has an error", () => {
  const report = { kind: "error", reason: "VerificationError", message: "the disk is full" } as const;
  const [suite] = parseXml(
    junitText({ ...rest, title: "model.onnx", check: "Load", verified: { report, full: null } }),
  ).children;
  expect(suite?.attributes).toMatchObject({ tests: "1", failures: "0", errors: "1" });
  expect(suite?.children).toMatchObject([
    {
      name: "testcase",
      attributes: { name: "Load" },
      children: [{ name: "error", attributes: { type: "VerificationError", message: "the disk is full" } }],
    },
  ]);
});

test("text that is no XML comes back as it was; what XML cannot hold is a question mark", () => {
  const nasty = `<a href="x">&amp; ]]> 'é' 🙂\ttab\nline\r`;
  const checks = [{ name: "Golden", outcome: "Failed", took: 1, message: nasty } as const];
  const [suite] = parseXml(junitText(subject(checks, `${nasty}\u0000\u001b\ud800\uffff`))).children;
  expect(suite?.attributes["name"]).toBe(`${nasty}??\ufffd?`);
  expect(suite?.children[1]?.children[0]).toMatchObject({ attributes: { message: nasty }, text: nasty });
});
