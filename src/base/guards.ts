// What is known of a value of unknown type.

/** A JSON object: neither an array nor `null`. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value, where it is a code: one short word. Anything else is text, and text may quote URLs and secrets. */
export function asCode(value: unknown): string | null {
  return typeof value === "string" && /^[A-Za-z][A-Za-z0-9_]{0,63}$/.test(value) ? value : null;
}

/** The code of a system error, such as `ENOSPC`; `null` where it has none. */
export function errorCodeOf(thrown: unknown): string | null {
  return typeof thrown === "object" && thrown !== null && "code" in thrown ? asCode(thrown.code) : null;
}

/** The same as text for people. */
export function errorCodeText(thrown: unknown): string {
  return errorCodeOf(thrown) ?? "unknown error";
}
