import { isReleaseFault } from "../../src/api/reasons.ts";
import type { CheckReport } from "../../src/api/verification-report.ts";
import { own } from "../../src/base/lookup.ts";
import { reasonOf, type Subject } from "./subject.ts";

/**
 * JUnit XML as CI systems read it: a test suite for the model, a test case for each check. A failure is a fact about
 * the model, an error one about what was given,
 * or this machine.
 */
export function junitText({ verified: { report, full }, title, check }: Subject): string {
  const cases =
    full === null
      ? [noVerdict(check, reasonOf(report))]
      : full.checks.map((one) => testCase(one, full.reason ?? one.outcome));
  const failed = full?.checks.filter(({ outcome }) => outcome === "Failed").length ?? 0;
  const isFault = isReleaseFault(full?.reason ?? "");
  const counts: Attributes = {
    tests: cases.length,
    failures: isFault ? 0 : failed,
    errors: (full === null ? 1 : 0) + (isFault ? failed : 0),
    skipped: full?.checks.filter(({ outcome }) => outcome === "Skipped").length ?? 0,
    time: secondsText(full?.checks.reduce((sum, { took }) => sum + took, 0) ?? 0),
  };
  const at = full === null ? {} : { timestamp: full.startedAt.replace(/\.[0-9]+Z$/, "") };
  const properties =
    full === null
      ? []
      : [
          element(
            "properties",
            {},
            element("property", { name: "verifier", value: full.verifierVersion }),
            ...(full.model === null
              ? []
              : [element("property", { name: "digest", value: full.model.digest })]),
          ),
        ];
  const suite = element("testsuite", { name: title, ...counts, ...at }, ...properties, ...cases);
  return `<?xml version="1.0" encoding="UTF-8"?>\n${element("testsuites", { name: "edgefleet verify", ...counts }, suite)}\n`;
}

function testCase(one: CheckReport, reason: string): string {
  const { name, outcome, message = "", took } = one;
  const shown = outcome === "Passed" ? (["measured", "bound", "method", "message"] as const) : FACTS;
  const facts = shown.flatMap((fact) => (one[fact] === undefined ? [] : [`${fact}: ${one[fact]}`]));
  const { worst } = one;
  if (worst !== undefined) facts.push(`worst: ${worst.index}: expected ${worst.expected}, got ${worst.got}`);
  const result = {
    Passed: [],
    Skipped: [element("skipped", { message })],
    Failed: [
      element(
        isReleaseFault(reason) ? "error" : "failure",
        { type: reason, message },
        escaped([message, ...facts].join("\n")),
      ),
    ],
    Error: [element("error", { type: reason, message })],
  }[outcome];
  const output =
    facts.length === 0 || outcome === "Failed" ? [] : [element("system-out", {}, escaped(facts.join("\n")))];
  return element("testcase", { classname: CLASS, name, time: secondsText(took) }, ...result, ...output);
}

const FACTS = ["measured", "bound", "method"] as const;
const CLASS = "edgefleet.verify";

function noVerdict(
  check: string,
  { reason, message }: { readonly reason: string; readonly message: string },
): string {
  return element(
    "testcase",
    { classname: CLASS, name: check === "" ? "Start" : check, time: 0 },
    element("error", { type: reason, message }),
  );
}

function secondsText(milliseconds: number): string {
  return (milliseconds / 1000).toFixed(3);
}

type Attributes = Readonly<Record<string, string | number>>;

/** @param content is XML already. */
function element(name: string, attributes: Attributes, ...content: readonly string[]): string {
  const written = Object.entries(attributes).map(([key, value]) => ` ${key}="${escaped(String(value))}"`);
  const start = `<${name}${written.join("")}`;
  return content.length === 0 ? `${start}/>` : `${start}>${content.join("")}</${name}>`;
}

const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "\n": "&#10;",
  "\r": "&#13;",
  "\t": "&#9;",
};

/** Text for content and attributes; what XML 1.0 cannot hold at all becomes a question mark. */
function escaped(text: string): string {
  return text
    .toWellFormed()
    .replaceAll(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, "?")
    .replaceAll(/[&<>"\n\r\t]/g, (char) => own(ESCAPES, char) ?? char);
}
