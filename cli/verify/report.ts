import { isReleaseFault } from "../../src/api/reasons.ts";
import type { CheckReport, FullReport, TensorFacts } from "../../src/api/verification-report.ts";
import { unreachable } from "../../src/base/result.ts";
import { printable } from "../../src/verifier/checks/judgement.ts";
import type { Format } from "./flags.ts";
import { reasonOf, type Subject } from "./subject.ts";

/** The machine-readable report of a verification without a verdict: the fields of the full report that are known. */
type NoVerdict = {
  readonly format: FullReport["format"];
  readonly verdict: "Error";
  readonly reason: string;
  readonly message: string;
  readonly check: string;
};

/** What only some formats need is loaded for them alone, so that the first check starts sooner. */
export async function reportText(format: Format, subject: Subject, colours: boolean): Promise<string> {
  switch (format) {
    case "json":
      return `${JSON.stringify(machineReport(subject), null, 2)}\n`;
    case "yaml": {
      const { stringify } = await import("yaml");
      return stringify(machineReport(subject));
    }
    case "junit": {
      const { junitText } = await import("./junit.ts");
      return junitText(subject);
    }
    case "html":
      return pageText(subject);
    case "text":
      return plainText(subject, colours);
    default:
      return unreachable(format);
  }
}

async function pageText(subject: Subject): Promise<string> {
  const { full } = subject.verified;
  if (full !== null) {
    const { reportPage } = await import("../../src/verification/report-page.ts");
    return reportPage(full, subject.about);
  }
  const text = plainText(subject, false).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return `<!doctype html>\n<meta charset="utf-8">\n<title>No verdict</title>\n<pre>${text}</pre>\n`;
}

function machineReport({ verified: { report, full }, check }: Subject): FullReport | NoVerdict {
  if (full !== null) return full;
  const { reason, message } = reasonOf(report);
  return { format: "edgefleet.dev/verification-report/v1", verdict: "Error", reason, message, check };
}

const STYLES = { Passed: "32", Failed: "31;1", Error: "31;1", Skipped: "2" } as const;
const WORDS = { Passed: "passed", Failed: "FAILED", Error: "ERROR", Skipped: "skipped" } as const;
const INDENT = 22;

function plainText({ verified: { report, full }, title, check }: Subject, colours: boolean): string {
  const paint = (outcome: keyof typeof STYLES, text: string) =>
    colours ? `\u001b[${STYLES[outcome]}m${text}\u001b[0m` : text;
  const lines = [printable(title)];
  if (full !== null) {
    lines.push(...factsText(full), "");
    for (const one of full.checks)
      lines.push(
        `${paint(one.outcome, WORDS[one.outcome].padEnd(8))} ${one.name.padEnd(14)}${took(one)}`.trimEnd(),
        ...detailsText(one),
      );
    lines.push("");
  }
  if (report.kind === "passed") lines.push(paint("Passed", full?.message ?? "passed"));
  else {
    const { reason, message } = reasonOf(report);
    const during = report.kind === "error" && check !== "" ? ` in check ${check}` : "";
    const failed = isReleaseFault(reason) ? "REFUSED" : "FAILED";
    const verdict = report.kind === "failed" ? failed : `no verdict${during}`;
    lines.push(`${paint("Failed", `${verdict}: ${reason}`)}: ${printable(message)}`);
  }
  return `${lines.join("\n")}\n`;
}

function factsText({ model }: FullReport): readonly string[] {
  if (model === null) return [];
  const side = (name: string, tensors: readonly TensorFacts[]) =>
    tensors.map((one) => printable(`${name.padEnd(7)} ${one.name} ${one.type}[${one.shape.join(", ")}]`));
  return [
    model.digest,
    `${model.sizeBytes} bytes`,
    ...side("input", model.inputs),
    ...side("output", model.outputs),
  ];
}

function took({ took: milliseconds, outcome }: CheckReport): string {
  return outcome === "Skipped" ? "" : `${Math.round(milliseconds)} ms`;
}

function detailsText({ name, measured, bound, method, message, worst }: CheckReport): readonly string[] {
  const line = (label: string, text: string | undefined) =>
    text === undefined || text === "" ? [] : [`${label.padStart(INDENT)}  ${text}`];
  const example =
    worst === undefined
      ? undefined
      : `${worst.index}${worst.where === undefined ? "" : `, ${worst.where}`}: expected ${worst.expected}, got ${worst.got}`;
  return [
    ...line("measured", name === "Digest" && bound === undefined ? undefined : measured),
    ...line("bound", bound),
    ...line("method", method),
    ...line("worst", example),
    ...line("", message),
  ];
}
