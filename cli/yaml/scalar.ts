import { own } from "../../src/base/lookup.ts";
import { err, ok, type Result } from "../../src/base/result.ts";

// Scalars as the API server and kubectl read them. Both read with sigs.k8s.io/yaml: YAML 1.1 as Go's yaml.v2
// understands it, with Go's literals for numbers. `0100` is 64 there, `1_000` is 1000, and `on` is true.

/** `int` and `float` keep what was read, because a key and a value are written differently. */
export type YamlScalar =
  | { readonly kind: "null" }
  | { readonly kind: "bool"; readonly value: boolean }
  | { readonly kind: "int"; readonly value: bigint }
  | { readonly kind: "float"; readonly value: number }
  | { readonly kind: "text"; readonly value: string };

type Kind = YamlScalar["kind"];

export const TAG_PREFIX = "tag:yaml.org,2002:";
/** Kind that a tag asks for; any other tag leaves the text as it is. */
const KIND_OF_TAG: Readonly<Record<string, Kind | "timestamp">> = {
  str: "text",
  bool: "bool",
  int: "int",
  float: "float",
  null: "null",
  timestamp: "timestamp",
};

const WORDS: ReadonlyMap<string, YamlScalar> = new Map<string, YamlScalar>([
  ...words({ kind: "bool", value: true }, "y Y yes Yes YES true True TRUE on On ON"),
  ...words({ kind: "bool", value: false }, "n N no No NO false False FALSE off Off OFF"),
  ...words({ kind: "null" }, "~ null Null NULL"),
  ["", { kind: "null" }],
  ...words({ kind: "float", value: Number.NaN }, ".nan .NaN .NAN"),
  ...words({ kind: "float", value: Number.POSITIVE_INFINITY }, ".inf .Inf .INF +.inf +.Inf +.INF"),
  ...words({ kind: "float", value: Number.NEGATIVE_INFINITY }, "-.inf -.Inf -.INF"),
]);

function words(value: YamlScalar, list: string): readonly (readonly [string, YamlScalar])[] {
  return list.split(" ").map((word) => [word, value] as const);
}

/**
 * @param tag in its long form (`tag:yaml.org,2002:int`), empty where there is none.
 * @param plain whether the text stands without quotes and is no block.
 */
export function scalarOf(text: string, tag: string, plain: boolean): Result<YamlScalar, string> {
  if (tag === "" && !plain) return ok({ kind: "text", value: text });
  if (tag === `${TAG_PREFIX}binary`) return decoded(text);
  const wanted = tag === "" ? null : kindOf(tag);
  if (wanted === "text") return ok({ kind: "text", value: text });
  if (wanted === "timestamp")
    return isTimestamp(text)
      ? ok({ kind: "text", value: text })
      : err(`"${text}" is not a timestamp, as its tag says`);
  const read = plainScalar(text);
  if (wanted === null || read.kind === wanted) return ok(read);
  if (wanted === "float" && read.kind === "int" && fits(read.value, INT64))
    return ok({ kind: "float", value: Number(read.value) });
  return err(`"${text}" is not of the kind that its tag ${tag.replace(TAG_PREFIX, "!!")} asks for`);
}

function kindOf(tag: string): Kind | "timestamp" {
  const kind = tag.startsWith(TAG_PREFIX) ? own(KIND_OF_TAG, tag.slice(TAG_PREFIX.length)) : undefined;
  return kind ?? "text";
}

/** What a text without quotes means. */
export function plainScalar(text: string): YamlScalar {
  const word = WORDS.get(text);
  if (word !== undefined) return word;
  const number = /^[-+0-9]/.test(text) ? numberIn(text.replaceAll("_", "")) : dottedNumberIn(text);
  return number ?? { kind: "text", value: text };
}

/** Go: strconv.ParseInt and ParseUint with base 0, then a decimal float, then what is left of binary. */
function numberIn(text: string): YamlScalar | null {
  const int = integerIn(text);
  if (int !== null && (fits(int, INT64) || (!/^[-+]/.test(text) && fits(int, UINT64))))
    return { kind: "int", value: int };
  if (/^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$/.test(text)) {
    const value = Number(text);
    if (Number.isFinite(value)) return { kind: "float", value };
  }
  // `0b-1` is what is left.
  const [, sign, digits] = /^0b([-+])([01]+)$/.exec(text) ?? [];
  if (digits === undefined) return null;
  const value = BigInt(`0b${digits}`) * (sign === "-" ? -1n : 1n);
  return fits(value, INT64) ? { kind: "int", value } : null;
}

const LITERALS: readonly (readonly [RegExp, string])[] = [
  [/^0[xX]([0-9a-fA-F]+)$/, "0x"],
  [/^0[bB]([01]+)$/, "0b"],
  [/^0[oO]?([0-7]+)$/, "0o"],
  [/^([1-9][0-9]*|0)$/, ""],
];

function integerIn(text: string): bigint | null {
  const [, sign = "", digits = ""] = /^([-+]?)(.*)$/s.exec(text) ?? [];
  for (const [form, prefix] of LITERALS) {
    const [, found] = form.exec(digits) ?? [];
    if (found !== undefined) return BigInt(`${prefix}${found}`) * (sign === "-" ? -1n : 1n);
  }
  return null;
}

/** `.5`, and as Go has it `.5_0`. */
function dottedNumberIn(text: string): YamlScalar | null {
  if (!/^\.[0-9]+(_[0-9]+)*([eE][-+]?[0-9]+(_[0-9]+)*)?$/.test(text)) return null;
  const value = Number(text.replaceAll("_", ""));
  return Number.isFinite(value) ? { kind: "float", value } : null;
}

const INT64 = [-(2n ** 63n), 2n ** 63n - 1n] as const;
const UINT64 = [0n, 2n ** 64n - 1n] as const;

function fits(value: bigint, [least, most]: readonly [bigint, bigint]): boolean {
  return value >= least && value <= most;
}

function decoded(text: string): Result<YamlScalar, string> {
  const base64 = text.replaceAll(/[\r\n]/g, "");
  if (!/^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(base64))
    return err("what is tagged !!binary is not base64");
  return ok({ kind: "text", value: utf8Text(Buffer.from(base64, "base64")) });
}

/** Every byte that is not UTF-8 becomes a replacement character of its own, as in Go. */
function utf8Text(bytes: Uint8Array): string {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const length = [1, 2, 3, 4].find((count) => {
      try {
        return decoder.decode(bytes.subarray(at, at + count)) !== "";
      } catch {
        return false;
      }
    });
    text += length === undefined ? "\uFFFD" : decoder.decode(bytes.subarray(at, at + length));
    at += length ?? 1;
  }
  return text;
}

function isTimestamp(text: string): boolean {
  const [, year, month, day, hour, minute, second] =
    /^(\d{4})-(\d{1,2})-(\d{1,2})(?:(?:[Tt](\d{1,2}):(\d{1,2}):(\d{1,2})(?:[.,]\d+)?(?:Z|[-+]\d\d:\d\d))|(?: (\d{1,2}):(\d{1,2}):(\d{1,2})(?:[.,]\d+)?))?$/.exec(
      text,
    ) ?? [];
  if (year === undefined) return false;
  const days = new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate();
  return (
    Number(month) >= 1 &&
    Number(month) <= 12 &&
    Number(day) >= 1 &&
    Number(day) <= days &&
    Number(hour ?? 0) < 24 &&
    Number(minute ?? 0) < 60 &&
    Number(second ?? 0) < 60
  );
}

/** As a key of a JSON object; `null` where it cannot be one. */
export function keyText(scalar: YamlScalar): string | null {
  switch (scalar.kind) {
    case "null":
      return null;
    case "int":
      return fits(scalar.value, INT64) ? String(scalar.value) : null;
    case "float":
      return floatKey(scalar.value);
    case "bool":
    case "text":
      return String(scalar.value);
  }
}

/** Go's FormatFloat(value, 'g', -1, 32). */
function floatKey(value: number): string {
  if (Number.isNaN(value)) return ".nan";
  if (Math.abs(value) > 3.4028235677973366e38) return value > 0 ? ".inf" : "-.inf";
  const single = Math.fround(value);
  if (single === 0) return Object.is(value, -0) || value < 0 ? "-0" : "0";
  const digits = [1, 2, 3, 4, 5, 6, 7, 8, 9].find(
    (count) => Math.fround(Number(single.toExponential(count - 1))) === single,
  );
  const [mantissa = "", exponent = "0"] = single.toExponential((digits ?? 9) - 1).split("e");
  const power = Number(exponent);
  if (power >= -4 && power < 6) return String(Number(`${mantissa}e${power}`));
  return `${mantissa}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}
