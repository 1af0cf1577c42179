import type { CheckResult } from "../../api/model-release.ts";
import { REASONS, type Reason } from "../../api/reasons.ts";
import { cut } from "../../base/text.ts";

// How a check ends, as one judgement of one or more bounds: pure.

export type CheckName = CheckResult["name"];

/** A check's result, why the model is refused where it is, and what only the full report has. */
export type Judgement = {
  readonly result: CheckResult;
  readonly reason: Reason | null;
  readonly details?: object;
};

const LONGEST_VALUE = 256;
const LONGEST_MESSAGE = 2048;
const LONGEST_EXAMPLE = 128;

export function passed(
  name: CheckName,
  facts: Partial<Omit<CheckResult, "name" | "outcome">> = {},
): Judgement {
  return { result: clipped({ name, outcome: "Passed", ...facts }), reason: null };
}

export function failed(
  name: CheckName,
  reason: Reason,
  facts: Partial<Omit<CheckResult, "name" | "outcome">> & { readonly message: string },
): Judgement {
  return { result: clipped({ name, outcome: "Failed", ...facts }), reason };
}

export function skipped(name: CheckName, message: string): CheckResult {
  return clipped({ name, outcome: "Skipped", message });
}

/** Text of models and files goes into objects and terminals: without control characters, and not without end. */
export function printable(text: string, longest = LONGEST_MESSAGE): string {
  return cut(text.replaceAll(/\p{C}+/gu, " ").trim(), longest);
}

function clipped(result: CheckResult): CheckResult {
  return {
    ...result,
    ...(result.measured === undefined ? {} : { measured: printable(result.measured, LONGEST_VALUE) }),
    ...(result.bound === undefined ? {} : { bound: printable(result.bound, LONGEST_VALUE) }),
    ...(result.method === undefined ? {} : { method: printable(result.method, LONGEST_VALUE) }),
    ...(result.worst === undefined ? {} : { worst: clippedExample(result.worst) }),
    ...(result.message === undefined ? {} : { message: printable(result.message) }),
  };
}

function clippedExample(worst: NonNullable<CheckResult["worst"]>): NonNullable<CheckResult["worst"]> {
  return {
    ...worst,
    ...(worst.where === undefined ? {} : { where: printable(worst.where, LONGEST_VALUE) }),
    expected: printable(worst.expected, LONGEST_EXAMPLE),
    got: printable(worst.got, LONGEST_EXAMPLE),
  };
}

/** One bound of a check that may have several. */
export type Part = {
  readonly measured: string;
  readonly bound: string;
  /** Empty where there is nothing to add. */
  readonly message: string;
  readonly reason: Reason | null;
  readonly worst: CheckResult["worst"] | null;
};

/** The check as a whole: it fails for the reason of the first part that does, and first of all for bounds that cannot bind. */
export function together(
  name: CheckName,
  parts: readonly Part[],
  about: { readonly method: string; readonly notes: readonly string[]; readonly details: object },
): Judgement {
  const unfit = parts.filter((part) => part.reason === REASONS.BoundUnusable);
  const refused = [...unfit, ...parts.filter((part) => part.reason !== null && !unfit.includes(part))];
  const messages = [
    ...(refused.length > 0 ? refused : parts).map(({ message }) => message),
    ...about.notes,
  ].filter((text) => text !== "");
  const worst = (refused[0] ?? parts.find((part) => part.worst !== null))?.worst ?? null;
  const facts = {
    measured: parts
      .map(({ measured }) => measured)
      .filter((text) => text !== "")
      .join(", "),
    bound: parts.map(({ bound }) => bound).join(", "),
    method: about.method,
    ...(messages.length === 0 ? {} : { message: messages.join("; ") }),
    ...(worst === null ? {} : { worst }),
  };
  const reason = refused[0]?.reason ?? null;
  const judgement = reason === null ? passed(name, facts) : failed(name, reason, { message: "", ...facts });
  return { ...judgement, details: about.details };
}

/** A bound that says nothing of any model: it is the release's mistake. */
export function unusable(bound: string, message: string): Part {
  return { measured: "", bound, message, reason: REASONS.BoundUnusable, worst: null };
}

/** `outputs "a", "b"` */
export function outputsText(names: readonly string[]): string {
  const shown = names.slice(0, 5).map((name) => `"${name}"`);
  const more = names.length > 5 ? ` and ${names.length - 5} more` : "";
  return `output${names.length === 1 ? "" : "s"} ${shown.join(", ")}${more}`;
}

/** What a check that has passed did not look at. */
export function notJudged(names: readonly string[]): readonly string[] {
  return names.length === 0 ? [] : [`not judged: ${outputsText(names)}`];
}
