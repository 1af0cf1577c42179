import type { Verification } from "../api/model-release.ts";
import { parse } from "../api/parse.ts";
import { classificationSchema, comparisonSchema, timingSchema } from "../api/verification-details.ts";
import type { CheckReport, FullReport, ModelFacts, TensorFacts } from "../api/verification-report.ts";
import { decimalText } from "../base/decimal.ts";
import { own } from "../base/lookup.ts";
import { millisOf } from "../base/time.ts";
import type { ReportSubject } from "./verification.ts";

/** A report as one HTML file: without scripts, and without external resources. It prints well. */
export function reportPage(report: FullReport, subject: ReportSubject): string {
  const name = subject.release === null ? subject.model : `${subject.release} (${subject.variant})`;
  const title = `${name}: ${report.verdict}`;
  const { comparedWith } = subject;
  const parts = [
    html`<header><p class="verdict ${report.verdict.toLowerCase()}">${report.verdict}</p>
<h1>${subject.model} ${subject.version}</h1>
<p>${report.message}</p></header>`,
    section("What was verified", facts(factsOf(report, subject))),
    section("Checks", checksTable(report.checks)),
    ...report.checks.flatMap((check) => detailsOf(check, subject)),
    ...(report.model === null ? [] : [section("The model", modelTables(report.model))]),
    section("What was asked", html`<pre>${askedText(subject.asked)}</pre>`),
    ...(comparedWith === null ? [] : [section("Compared with", html`<pre>${json(comparedWith)}</pre>`)]),
  ];
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${title}</title>
<style>${raw(STYLE)}</style>
</head>
<body>
<main>
${parts}
</main>
</body>
</html>
`.text;
}

// ── text that is markup, and text that is not

type Html = { readonly text: string };
type Part = Html | string | number | readonly Html[];

/** Markup around values, every one of which is escaped unless it is markup itself. */
function html(pieces: TemplateStringsArray, ...values: readonly Part[]): Html {
  const shown = values.map((value) => {
    if (typeof value === "string" || typeof value === "number") return escaped(String(value));
    return "text" in value ? value.text : value.map(({ text }) => text).join("");
  });
  return { text: pieces.map((piece, index) => piece + (shown[index] ?? "")).join("") };
}

function raw(text: string): Html {
  return { text };
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => own(ENTITIES, character) ?? "");
}

// ── sections

type Row = readonly (string | number)[];

function section(heading: string, content: Html): Html {
  return html`<section><h2>${heading}</h2>
${content}</section>`;
}

function table(head: readonly string[], rows: readonly Row[]): Html {
  const cells = (row: Row) => row.map((cell) => html`<td>${cell}</td>`);
  return html`<table><thead><tr>${head.map((cell) => html`<th scope="col">${cell}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${cells(row)}</tr>`)}</tbody></table>`;
}

function facts(rows: readonly Row[]): Html {
  return html`<table class="facts"><tbody>${rows.map(
    ([name = "", value = ""]) => html`<tr><th scope="row">${name}</th><td>${value}</td></tr>`,
  )}</tbody></table>`;
}

function factsOf(report: FullReport, subject: ReportSubject): readonly Row[] {
  const { golden } = report;
  const { namespace, release, variant } = subject;
  const named = namespace === null ? release : `${namespace}/${release}`;
  return [
    ...(release === null || named === null
      ? []
      : [
          ["ModelRelease", named],
          ["Variant", variant],
        ]),
    ["File", subject.path],
    ...(report.model === null
      ? []
      : [
          ["Digest", report.model.digest],
          ["Size", `${report.model.sizeBytes} bytes`],
        ]),
    ...(golden === null ? [] : [["Golden set", `${golden.digest}, ${golden.sizeBytes} bytes`]]),
    ...(report.reason === undefined ? [] : [["Reason", report.reason]]),
    ["Begun", report.startedAt],
    ["Ended", report.finishedAt],
    ["Verifier", report.verifierVersion],
  ];
}

function checksTable(checks: readonly CheckReport[]): Html {
  const rows = checks.map((check) => {
    const { worst } = check;
    const example =
      worst === undefined
        ? ""
        : html`<p>Worst: number ${worst.index}${worst.where === undefined ? "" : `, ${worst.where}`}: ${worst.got} instead of ${worst.expected}</p>`;
    return html`<tr class="${check.outcome.toLowerCase()}"><th scope="row">${check.name}</th><td>${check.outcome}</td>
<td>${check.measured ?? ""}</td><td>${check.bound ?? ""}</td><td>${decimalText(Math.round(check.took / 10) / 100)} s</td></tr>
<tr class="notes"><td colspan="5">${[check.message, check.method]
      .filter((text) => text !== undefined && text !== "")
      .map((text) => html`<p>${text ?? ""}</p>`)}${example}</td></tr>`;
  });
  return html`<table><thead><tr>${["Check", "Outcome", "Measured", "Bound", "Took"].map(
    (name) => html`<th scope="col">${name}</th>`,
  )}</tr></thead><tbody>${rows}</tbody></table>`;
}

function modelTables(model: ModelFacts): Html {
  const opsets = model.opsets.map(
    ({ domain, version }) => `${domain === "" ? "ai.onnx" : domain} ${version}`,
  );
  const tensors = (all: readonly TensorFacts[]): readonly Row[] =>
    all.map(({ name, type, shape }) => [name, type, `[${shape.join(", ")}]`]);
  return html`${facts([
    ["Producer", model.producer === "" ? "unknown" : model.producer],
    ["IR version", model.irVersion],
    ["Operator sets", opsets.join(", ")],
    ["Nodes", model.nodes],
    ["Parameters", model.parameters],
  ])}
<h3>Inputs</h3>${table(["Name", "Type", "Shape"], tensors(model.inputs))}
<h3>Outputs</h3>${table(["Name", "Type", "Shape"], tensors(model.outputs))}
<h3>Operators</h3>${table(
    ["Operator", "Nodes"],
    model.operators.map(({ domain, name, count }) => [domain === "" ? name : `${domain}.${name}`, count]),
  )}`;
}

// ── figures of single checks: shown where they are understood, and in the JSON beside this page in any case

function detailsOf(check: CheckReport, subject: ReportSubject): readonly Html[] {
  const details: Readonly<Record<string, unknown>> = { ...check.details };
  const timing = parse(timingSchema, details["timing"]);
  const classes = parse(classificationSchema, details["classification"] ?? details["agreement"]);
  const comparison = parse(comparisonSchema, details["comparison"] ?? details);
  const parts = [
    ...(timing.ok ? [latencyChart(timing.value, boundsOf(subject.asked)), timingTable(timing.value)] : []),
    ...(classes.ok ? [classTables(classes.value, check.name === "Golden")] : []),
    ...(comparison.ok ? [comparisonTable(comparison.value, details)] : []),
  ];
  return parts.length === 0 ? [] : [section(check.name, html`${parts}`)];
}

const PERCENTILES = ["p50", "p95", "p99"] as const;
type Percentiles = Readonly<
  Record<
    (typeof PERCENTILES)[number],
    { readonly value: number; readonly low: number; readonly high: number }
  >
>;
type Bounds = Readonly<Partial<Record<(typeof PERCENTILES)[number], number>>>;

function boundsOf({ latency }: Verification): Bounds {
  return Object.fromEntries(
    PERCENTILES.flatMap((name) => {
      const bound = latency?.[name];
      return bound === undefined ? [] : [[name, millisOf(bound)]];
    }),
  );
}

const NEAR = 4;
const CHART = { width: 640, left: 48, right: 96, row: 34 } as const;

/** A bar for each percentile, its 95 % confidence as a line across the end, and its bound where there is one. */
function latencyChart(timing: Percentiles, bounds: Bounds): Html {
  const measured = Math.max(...PERCENTILES.flatMap((name) => [timing[name].value, timing[name].high]));
  // A bound that is far away would leave nothing to see.
  const near = Object.values(bounds).filter((bound) => bound <= NEAR * measured);
  const longest = Math.max(measured, ...near);
  const scale = (CHART.width - CHART.left - CHART.right) / (longest > 0 ? longest : 1);
  const x = (value: number) => decimalText(CHART.left + value * scale);
  const rows = PERCENTILES.map((name, index) => {
    const { value, low, high } = timing[name];
    const top = index * CHART.row + 8;
    const middle = top + 9;
    const bound = bounds[name];
    const limit =
      bound === undefined || bound > longest
        ? ""
        : html`<line class="bound" x1="${x(bound)}" x2="${x(bound)}" y1="${top - 5}" y2="${top + 23}"/>`;
    return html`<text x="0" y="${middle + 5}">${name}</text>
<rect x="${CHART.left}" y="${top}" width="${decimalText(value * scale)}" height="18"/>
<line class="confidence" x1="${x(low)}" x2="${x(high)}" y1="${middle}" y2="${middle}"/>${limit}
<text x="${decimalText(CHART.width - CHART.right + 8)}" y="${middle + 5}">${milliseconds(value)}</text>`;
  });
  const height = PERCENTILES.length * CHART.row + 8;
  return html`<svg viewBox="0 0 ${CHART.width} ${height}" role="img" aria-label="Latency percentiles">
${rows}
</svg>
<p class="legend">Thin line: 95 % confidence.${near.length === 0 ? "" : " Upright line: bound."}</p>`;
}

type Timing = Percentiles & {
  readonly runs: number;
  readonly mean: number;
  readonly least: number;
  readonly most: { readonly value: number; readonly run: number };
  readonly outliers: number;
};

function timingTable(timing: Timing): Html {
  return facts([
    ["Runs", timing.runs],
    ["Least", milliseconds(timing.least)],
    ["Mean", milliseconds(timing.mean)],
    ["Most", `${milliseconds(timing.most.value)}, in run ${timing.most.run}`],
    ["Outliers", timing.outliers],
  ]);
}

type Classes = {
  readonly samples: number;
  readonly correct: number;
  readonly byClass: readonly { readonly label: number; readonly samples: number; readonly correct: number }[];
  readonly confused: readonly { readonly expected: number; readonly got: number; readonly samples: number }[];
};

/** The weakest classes: a list of thousands would not be read. */
const MOST_CLASSES = 20;

function classTables({ samples, correct, byClass, confused }: Classes, golden: boolean): Html {
  const share = (right: number, of: number) =>
    of === 0 ? "" : `${decimalText(Math.round((1000 * right) / of) / 10)} %`;
  const weakest = [...byClass]
    .sort((a, b) => a.correct / a.samples - b.correct / b.samples)
    .slice(0, MOST_CLASSES);
  const first = golden ? "Class" : "Class of the other model";
  return html`<p>${correct} of ${samples} samples ${golden ? "are right" : "agree"} (${share(correct, samples)}).</p>
<h3>Weakest classes</h3>${table(
    [first, "Samples", golden ? "Right" : "Same", "Share"],
    weakest.map((one) => [one.label, one.samples, one.correct, share(one.correct, one.samples)]),
  )}
<h3>Most often confused</h3>${
    confused.length === 0
      ? html`<p>None.</p>`
      : table(
          [first, "Found instead", "Samples"],
          confused.map((one) => [one.expected, one.got, one.samples]),
        )
  }`;
}

function comparisonTable(
  found: {
    readonly samples: number;
    readonly elements: number;
    readonly beyond: number;
    readonly nonFinite: number;
  },
  details: Readonly<Record<string, unknown>>,
): Html {
  const figures: Readonly<Record<string, unknown>> = { ...Object(details["comparison"] ?? details) };
  // Infinity is null in JSON.
  const largest = (name: string): string => {
    const value = own(figures, name);
    return typeof value === "number" ? String(Number(value.toPrecision(4))) : "infinite";
  };
  return facts([
    ["Samples compared", found.samples],
    ["Elements compared", found.elements],
    ["Beyond the tolerance", found.beyond],
    ["NaN or infinite", found.nonFinite],
    ["Largest difference", largest("largestAbsolute")],
    ["Largest relative difference", largest("largestRelative")],
  ]);
}

function milliseconds(value: number): string {
  return `${Number(value.toPrecision(3))} ms`;
}

/** When it is asked again is no part of what was asked. */
function askedText({ reverify: _, ...asked }: Verification): string {
  return json(asked);
}

function json(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

const STYLE = `
:root { color-scheme: light; font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { margin: 0; } h2 { margin: 2rem 0 .5rem; border-bottom: 1px solid #ccc; } h3 { margin: 1rem 0 .25rem; }
.verdict { display: inline-block; margin: 0; padding: .1rem .6rem; font-weight: 700; color: #fff; background: #1a6b2f; }
.verdict.failed { background: #a31515; }
table { border-collapse: collapse; width: 100%; overflow-wrap: anywhere; }
th, td { padding: .25rem .5rem; text-align: left; vertical-align: top; border-top: 1px solid #ddd; }
th { overflow-wrap: normal; white-space: nowrap; }
.facts th { width: 14rem; font-weight: 600; }
tr.failed td, tr.failed th { color: #a31515; font-weight: 700; }
tr.skipped td, tr.skipped th { color: #666; }
tr.notes td { border-top: 0; color: #444; font-size: .875rem; padding-top: 0; } tr.notes p { margin: 0; }
pre { overflow: auto; padding: .5rem; background: #f4f4f4; white-space: pre-wrap; }
svg { width: 100%; max-width: 40rem; height: auto; } svg text { font-size: 14px; }
rect { fill: #7aa6d6; } .confidence { stroke: #1b1b1b; stroke-width: 2; } .bound { stroke: #a31515; stroke-width: 2; }
.legend { margin: 0; color: #444; font-size: .875rem; }
@media print { main { max-width: none; padding: 0; } section { break-inside: avoid-page; } pre { white-space: pre-wrap; } }
`;
