import { own } from "./lookup.ts";

const UNITS: Readonly<Record<string, number>> = { "": 1, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 };

/** Bytes of a size as Kubernetes writes it (`512Mi`, `2Gi`, `4096`); `null` for anything else. */
export function bytesOf(written: string): number | null {
  const [, amount, unit] = /^([1-9][0-9]{0,11})(Ki|Mi|Gi)?$/.exec(written) ?? [];
  const factor = own(UNITS, unit ?? "");
  return amount === undefined || factor === undefined ? null : Number(amount) * factor;
}
