import { parseDuration } from "./duration.ts";
import { globMatcher } from "./glob.ts";
import { isObject, type JsonObject, type JsonValue, ownValue } from "./json.ts";

/**
 * Reads a JSON object that a person wrote, and collects everything that is wrong with it, each with its path.
 * A field that is read is known; `done` complains about the others.
 */
export type Fields = {
  readonly text: (name: string, fallback: string) => string;
  readonly optionalText: (name: string) => string | null;
  readonly number: (name: string, fallback: number, range: Range) => number;
  readonly optionalNumber: (name: string, range: Range) => number | null;
  /** Milliseconds; written as a number of them or as `5s`. */
  readonly duration: (name: string, fallback: number) => number;
  readonly optionalDuration: (name: string) => number | null;
  readonly flag: (name: string) => boolean;
  readonly oneOf: <T extends string>(name: string, values: readonly T[], fallback: T | null) => T | null;
  readonly texts: (name: string, fallback: readonly string[]) => readonly string[];
  readonly raw: (name: string) => JsonValue | undefined;
  /** Fields of an object inside this one; `null` where it is left out. */
  readonly inner: (name: string) => Fields | null;
  /** Fields of an object, or of each object of a list. */
  readonly inners: (name: string) => readonly Fields[];
  readonly addProblem: (name: string, message: string) => void;
  readonly done: () => void;
};

export type Range = { readonly least: number; readonly most: number };
export const SHARE: Range = { least: 0, most: 1 };
export const PERCENT: Range = { least: 0, most: 100 };
export const ANY: Range = { least: 0, most: Number.MAX_SAFE_INTEGER };

/** Longer than most: a reader of a few lines for each kind of field. */
export function readFields(given: JsonObject, path: string, problems: string[]): Fields {
  const read = new Set<string>();
  const insides: Fields[] = [];
  const at = (name: string) => (path === "" ? name : `${path}.${name}`);
  const addProblem = (name: string, message: string) => {
    problems.push(`${at(name)} ${message}`);
  };
  const raw = (name: string): JsonValue | undefined => {
    read.add(name);
    return ownValue(given, name) ?? undefined;
  };

  const fields: Fields = {
    raw,
    addProblem,
    text: (name, fallback) => fields.optionalText(name) ?? fallback,
    optionalText(name) {
      const value = raw(name);
      if (value === undefined || typeof value === "string") return value ?? null;
      addProblem(name, "must be text");
      return null;
    },
    number: (name, fallback, range) => fields.optionalNumber(name, range) ?? fallback,
    optionalNumber(name, range) {
      const value = raw(name);
      if (value === undefined) return null;
      if (typeof value === "number" && value >= range.least && value <= range.most) return value;
      addProblem(name, `must be a number from ${range.least} to ${range.most}`);
      return null;
    },
    duration: (name, fallback) => fields.optionalDuration(name) ?? fallback,
    optionalDuration(name) {
      const value = raw(name);
      if (value === undefined) return null;
      const length = typeof value === "string" ? parseDuration(value) : value;
      if (typeof length === "number") return length;
      addProblem(name, "must be milliseconds or a duration such as 90s or 250ms");
      return null;
    },
    flag(name) {
      const value = raw(name);
      if (value !== undefined && typeof value !== "boolean") addProblem(name, "must be true or false");
      return value === true;
    },
    oneOf(name, values, fallback) {
      const value = raw(name);
      const found = values.find((one) => one === value);
      if (value !== undefined && found === undefined) addProblem(name, `must be one of ${values.join(", ")}`);
      return found ?? fallback;
    },
    texts(name, fallback) {
      const value = raw(name);
      if (value === undefined) return fallback;
      const list = Array.isArray(value) ? (value as readonly JsonValue[]) : [];
      const texts = list.filter((item) => typeof item === "string");
      if (!Array.isArray(value) || texts.length < list.length) addProblem(name, "must be a list of texts");
      return texts;
    },
    inner(name) {
      const value = raw(name);
      if (value === undefined) return null;
      if (!isObject(value)) {
        addProblem(name, "must be an object");
        return null;
      }
      const inside = readFields(value, at(name), problems);
      insides.push(inside);
      return inside;
    },
    inners(name) {
      const value = raw(name);
      if (!Array.isArray(value)) {
        const one = fields.inner(name);
        return one === null ? [] : [one];
      }
      return (value as readonly JsonValue[]).flatMap((item, index) => {
        if (isObject(item)) {
          const inside = readFields(item, `${at(name)}[${index}]`, problems);
          insides.push(inside);
          return [inside];
        }
        addProblem(`${name}[${index}]`, "must be an object");
        return [];
      });
    },
    done() {
      for (const name of Object.keys(given)) if (!read.has(name)) addProblem(name, "is not known");
      for (const inside of insides) inside.done();
    },
  };
  return fields;
}

/** A glob, compiled; `null` where none is given: everything matches. */
export function globOf(fields: Fields | null, name: string): ((text: string) => boolean) | null {
  const glob = fields?.optionalText(name) ?? null;
  return glob === null ? null : globMatcher(glob);
}
