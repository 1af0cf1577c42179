import type { StratumExposure } from "../../api/inference-deployment.ts";
import { BUCKETS } from "../../api/membership.ts";
import { BUCKET, CLASS, DEVICE, printed, quoted, SITE } from "./target.ts";

// Reads back the target conditions that target.ts writes. What a condition selects must be known without the release it
// was made from: the object may be gone, the status lost, and still fewer devices must be exposed, never more. Whatever
// cannot be read here is `null`, and nothing is concluded from it.

/** One comparison. Values are kept as they are written, numbers as numbers. */
type Atom = { readonly path: string; readonly operator: "=" | "!=" | "<"; readonly value: string | number };
/** All of them hold. */
type Clause = readonly Atom[];
/** One of them holds. */
type Alternatives = readonly Clause[];

/** Strata times classes: more than any condition that the hub takes can hold. */
const CLAUSES_LIMIT = 5000;

/** Whether every device that `inner` selects is selected by `outer` for certain. */
export function isWithin(inner: string, outer: string): boolean {
  if (inner === outer) return true;
  const [some, all] = [parsed(inner), parsed(outer)];
  return some !== null && all !== null && isSubset(some, all);
}

/**
 * The devices of `condition` that `exposure` covers, as a condition; `null` where it cannot be read or would be longer
 * than `limit`. It never selects a device that `condition` does not.
 */
export function narrowedTo(
  condition: string,
  exposure: readonly StratumExposure[],
  limit: number,
): string | null {
  const had = parsed(condition);
  if (had === null) return null;
  const allowed = exposure.filter(({ threshold }) => threshold > 0).map(clauseOf);
  if (had.length * allowed.length > CLAUSES_LIMIT * 10) return null;
  const shared = had.flatMap((clause) =>
    allowed.flatMap((stratum) => {
      const together = conjunction([...clause, ...stratum]);
      return together === null ? [] : [together];
    }),
  );
  if (isSubset(had, shared)) return condition;
  const narrowed = written(shared);
  return narrowed.length <= limit ? narrowed : null;
}

/** The exposure that conditions of candidates mean together, without counts; `null` where one cannot be read. */
export function exposureIn(
  conditions: readonly string[],
): readonly Pick<StratumExposure, "site" | "deviceClass" | "threshold">[] | null {
  const strata = new Map<string, Pick<StratumExposure, "site" | "deviceClass" | "threshold">>();
  for (const condition of conditions) {
    const clauses = parsed(condition);
    if (clauses === null) return null;
    for (const clause of clauses) {
      const [site, deviceClass] = [equalTo(clause, SITE), equalTo(clause, CLASS)];
      const bound = clause.find(({ path, operator }) => path === BUCKET && operator === "<")?.value;
      const threshold = typeof bound === "number" ? bound : BUCKETS;
      const key = `${site ?? ""}\n${site === undefined}\n${deviceClass}`;
      const had = strata.get(key)?.threshold ?? 0;
      strata.set(key, {
        ...(site === undefined ? {} : { site }),
        ...(deviceClass === undefined ? {} : { deviceClass }),
        threshold: Math.max(had, threshold),
      });
    }
  }
  // The first stratum that a device falls under counts: those that name more come first.
  const names = ({ site, deviceClass }: Pick<StratumExposure, "site" | "deviceClass">): number =>
    (site === undefined ? 0 : 1) + (deviceClass === undefined ? 0 : 1);
  return [...strata.values()].sort((a, b) => names(b) - names(a));
}

function equalTo(clause: Clause, path: string): string | undefined {
  const value = clause.find((one) => one.path === path && one.operator === "=")?.value;
  return typeof value === "string" ? value.slice(1, -1).replaceAll("''", "'") : undefined;
}

function clauseOf({ site, deviceClass, threshold }: StratumExposure): Clause {
  return [
    ...(deviceClass === undefined ? [] : [atom(CLASS, "=", quoted(deviceClass))]),
    ...(site === undefined ? [] : [atom(SITE, "=", quoted(site))]),
    ...(threshold >= BUCKETS ? [] : [atom(BUCKET, "<", threshold)]),
  ];
}

function atom(path: string, operator: Atom["operator"], value: string | number): Atom {
  return { path, operator, value };
}

// ── reasoning

function isSubset(inner: Alternatives, outer: Alternatives): boolean {
  return inner.every((clause) => outer.some((wider) => wider.every((one) => implies(clause, one))));
}

function implies(clause: Clause, { path, operator, value }: Atom): boolean {
  return clause.some((has) => {
    if (has.path !== path) return false;
    if (operator === "<") return has.operator === "<" && has.value <= value;
    if (has.operator === operator) return has.value === value;
    return operator === "!=" && has.operator === "=" && has.value !== value;
  });
}

/** One clause that says all of it once; `null`: no device can meet it. */
function conjunction(atoms: Clause): Clause | null {
  const kept: Atom[] = [];
  for (const one of atoms) {
    if (one.operator === "<" && typeof one.value === "number" && one.value <= 0) return null;
    const isImpossible = kept.some(
      (other) =>
        other.path === one.path &&
        ((one.operator === "=" && other.operator === "=" && one.value !== other.value) ||
          (one.operator !== other.operator &&
            one.operator !== "<" &&
            other.operator !== "<" &&
            one.value === other.value)),
    );
    if (isImpossible) return null;
    if (implies(kept, one)) continue;
    const rest = kept.filter((other) => !implies([one], other));
    kept.splice(0, kept.length, ...rest, one);
  }
  return kept;
}

// ── writing

/** What all alternatives have in common is written once: the hub bounds the length. */
function written(alternatives: Alternatives): string {
  const [first, ...others] = alternatives;
  const common = (first ?? []).filter((one) =>
    others.every((clause) => clause.some((has) => isSame(has, one))),
  );
  const rests = alternatives.map((clause) => clause.filter((one) => !common.some((has) => isSame(has, one))));
  const isAll = rests.some((rest) => rest.length === 0);
  return printed(common.map(textOf), isAll ? [] : rests.map((rest) => rest.map(textOf)));
}

function isSame(a: Atom, b: Atom): boolean {
  return a.path === b.path && a.operator === b.operator && a.value === b.value;
}

function textOf({ path, operator, value }: Atom): string {
  return `${path} ${operator} ${value}`;
}

// ── reading

const TOKEN =
  /\s*('(?:[^']|'')*'|\(|\)|!=|[=<]|(?:[A-Za-z_][A-Za-z0-9_]*|\[\[[^\]]+\]\])(?:\.(?:[A-Za-z_][A-Za-z0-9_]*|\[\[[^\]]+\]\]))*|[0-9]+)/y;

function parsed(text: string): Alternatives | null {
  const tokens = tokensOf(text);
  if (tokens === null) return null;
  const reader = { tokens, at: 0 };
  const found = either(reader);
  return reader.at === tokens.length ? found : null;
}

function tokensOf(text: string): readonly string[] | null {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const token = TOKEN.exec(text)?.[1];
    if (token === undefined) return null;
    tokens.push(token);
  }
  return tokens;
}

type Reader = { readonly tokens: readonly string[]; at: number };

function either(reader: Reader): Alternatives | null {
  const all: Clause[] = [];
  for (;;) {
    const some = both(reader);
    if (some === null || all.length + some.length > CLAUSES_LIMIT) return null;
    all.push(...some);
    if (reader.tokens[reader.at] !== "OR") return all;
    reader.at += 1;
  }
}

function both(reader: Reader): Alternatives | null {
  let all: Alternatives = [[]];
  for (;;) {
    const part = single(reader);
    if (part === null || all.length * part.length > CLAUSES_LIMIT) return null;
    all = all.flatMap((clause) =>
      part.flatMap((other) => {
        const together = conjunction([...clause, ...other]);
        return together === null ? [] : [together];
      }),
    );
    if (reader.tokens[reader.at] !== "AND") return all;
    reader.at += 1;
  }
}

function single(reader: Reader): Alternatives | null {
  const [path, operator, value] = reader.tokens.slice(reader.at, reader.at + 3);
  if (path === "(") {
    reader.at += 1;
    const inner = either(reader);
    if (inner === null || reader.tokens[reader.at] !== ")") return null;
    reader.at += 1;
    return inner;
  }
  if (path === undefined || value === undefined || !(path.startsWith("tags.") || path === DEVICE))
    return null;
  reader.at += 3;
  if (operator === "<") {
    const bound = /^[0-9]+$/.test(value) ? Number(value) : null;
    if (bound === null) return null;
    return bound <= 0 && path === BUCKET ? [] : [[atom(path, "<", bound)]];
  }
  const isLiteral = value.startsWith("'") || value === "true" || value === "false";
  return (operator === "=" || operator === "!=") && isLiteral ? [[atom(path, operator, value)]] : null;
}
