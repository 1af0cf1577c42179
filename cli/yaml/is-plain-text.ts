import { plainScalar } from "./scalar.ts";

/** What other readers of YAML 1.1 take for numbers of base 60, numbers, times and merge keys, and those of 1.2 for numbers. */
const MEANS_MORE: readonly RegExp[] = [
  /^[-+]?[0-9][0-9_]*(:[0-9_]+)+(\.[0-9_]*)?$/,
  /^[-+.0-9][-+.0-9_eE]*$/,
  /^[-+]?0[xXoObB][0-9a-fA-F_]*$/,
  /^\d{4}-\d{1,2}-\d{1,2}([Tt ].*)?$/,
];
/** `2.0.0` is not a number in any version of YAML. */
const VERSION = /^[0-9]+\.[0-9]+\.[0-9]+(\.[0-9]+)*$/;

/** Whether every reader of YAML, of 1.1 and of 1.2, takes the text for itself where it stands without quotes. */
export function isPlainText(text: string): boolean {
  return (
    /^[A-Za-z0-9_./]([A-Za-z0-9_./:@+-]*[A-Za-z0-9_./@+-])?$/.test(text) &&
    !text.startsWith("...") &&
    plainScalar(text).kind === "text" &&
    (VERSION.test(text) || !MEANS_MORE.some((form) => form.test(text)))
  );
}
