import { err, ok, type Result } from "./result.ts";

/**
 * A decimal as resources write it: an integer, or a string such as `"0.95"` (Kubernetes APIs avoid floats,
 * because clients in other languages round them differently).
 */
export type Decimal = number | string;

export const DECIMAL_PATTERN = "^-?[0-9]+(\\.[0-9]+)?$";

/** What to write instead, wherever a decimal is refused. */
export const DECIMAL_FORM =
  'write a whole number, or quote the decimal, without % or exponent: 200 or "0.05"';

export function parseDecimal(written: Decimal): Result<number, string> {
  if (typeof written === "number") return ok(written);
  if (!new RegExp(DECIMAL_PATTERN).test(written))
    return err(`"${written}" is not a decimal: ${DECIMAL_FORM}`);
  return ok(Number(written));
}

/** For decimals that a schema has already checked; anything else is a bug and throws. */
export function numberOf(written: Decimal): number {
  const parsed = parseDecimal(written);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

/** At most four significant decimals, no trailing zeros: what a status shows. */
export function decimalText(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toFixed(4)));
}
