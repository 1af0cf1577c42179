import { createRequire } from "node:module";
import type { TSchema } from "typebox";
import { MEMORY_PATTERN } from "../../src/api/verification-spec.ts";
import { DECIMAL_FORM, DECIMAL_PATTERN } from "../../src/base/decimal.ts";
import { suggestion } from "../../src/base/flags.ts";
import { own } from "../../src/base/lookup.ts";
import { DURATION_PATTERN } from "../../src/base/time.ts";
import { isObject, type Json, keysOf, pointerTo } from "../json-pointer.ts";
import { fits } from "./fits.ts";
import { RULES } from "./rules.ts";

// What the API server does with a spec before it stores it: it removes empty fields, sets defaults, and reports mistakes.

/** `pointer` is a JSON pointer, empty for the whole value. */
export type Problem = { readonly pointer: string; readonly message: string };

type Node = {
  readonly properties?: Readonly<Record<string, Node>>;
  readonly required?: readonly string[];
  readonly items?: Node;
  readonly type?: string;
  readonly default?: Json;
  readonly pattern?: string;
  readonly description?: string;
  readonly "x-kubernetes-validations"?: readonly { readonly message: string }[];
  readonly "x-kubernetes-list-type"?: string;
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
};

/** Removes nulls, as the API server does, and sets the schema's defaults where a field is missing. */
export function withDefaults(schema: TSchema, value: Json): Json {
  return filled(schema as Node, value);
}

function filled(schema: Node | undefined, value: Json): Json {
  if (Array.isArray(value)) return value.map((item: Json) => filled(schema?.items, item));
  if (!isObject(value)) return value;
  const properties = schema?.properties ?? {};
  const given = Object.entries(value)
    .filter(([, inner]) => inner !== null)
    .map(([key, inner]) => [key, filled(ownNode(properties, key), inner)] as const);
  const missing = Object.entries(properties).flatMap(([key, node]) =>
    node.default === undefined || (own(value, key) ?? null) !== null ? [] : [[key, node.default] as const],
  );
  return Object.fromEntries([...given, ...missing]);
}

/** A place and what is wrong there as one sentence. */
export function sentence(where: string, message: string): string {
  return /^(?:is|must|needs) /.test(message) ? `${where} ${message}` : `${where}: ${message}`;
}

/** Every violation of the schema and its rules, in the order of the value. */
export function problemsIn(schema: TSchema, value: Json): readonly Problem[] {
  const unknown = unknownFields(schema as Node, value, "");
  const wrong = new Map<string, Problem>();
  for (const error of fits(schema, value) ? [] : errorsIn(schema, value)) {
    const pointer = error.instancePath;
    // The first error of a place is the plainest, but for a choice of types, where it is about the first of them.
    if (wrong.has(pointer) && error.keyword !== "anyOf") continue;
    wrong.set(pointer, { pointer, message: messageOf(error, nodeAt(schema as Node, pointer), value) });
  }
  const broken = [...brokenRules(schema as Node, value, ""), ...repeated(schema as Node, value, "")].filter(
    ({ pointer }) => !wrong.has(pointer),
  );
  const order = pointersIn(value, "");
  const at = ({ pointer }: Problem) => order.indexOf(pointer);
  return [...unknown, ...wrong.values(), ...broken].sort((a, b) => at(a) - at(b));
}

/** Of everything in the value, in its order. */
function pointersIn(value: Json, pointer: string): readonly string[] {
  const entries = typeof value === "object" && value !== null ? Object.entries<Json>(value) : [];
  return [pointer, ...entries.flatMap(([key, inner]) => pointersIn(inner, pointerTo(pointer, key)))];
}

type SchemaError = ReturnType<typeof import("typebox/schema")["Errors"]>[1][number];

const require = createRequire(import.meta.url);

/** The library is loaded only when there is an error to describe: loading takes a tenth of a second. */
function errorsIn(schema: TSchema, value: Json): readonly SchemaError[] {
  const { Settings } = require("typebox/system") as typeof import("typebox/system");
  const { Errors } = require("typebox/schema") as typeof import("typebox/schema");
  // The default is to stop at eight errors.
  Settings.Set({ maxErrors: 100 });
  return Errors(schema, value)[1];
}

function messageOf(error: SchemaError, node: Node | undefined, root: Json): string {
  const [rule] = node?.["x-kubernetes-validations"] ?? [];
  switch (error.keyword) {
    case "pattern":
      if (node?.pattern === MEMORY_PATTERN)
        return `must be a number of bytes, or a size with Ki, Mi or Gi${sizeHint(valueAt(root, error.instancePath))}`;
      if (rule === undefined && (node?.pattern?.length ?? 0) > LONGEST_PATTERN)
        return `is not known: ${node?.description}`;
      return withExample(rule?.message ?? error.message, node, error.instancePath, root);
    case "type":
      return node?.type === "string" ? textMessage(node, error.instancePath, root) : error.message;
    case "anyOf":
      return node?.pattern === DECIMAL_PATTERN
        ? decimalMessage(valueAt(root, error.instancePath))
        : `must be a whole number or a string${quotesHint(valueAt(root, error.instancePath))}`;
    case "enum":
      return `must be one of ${error.params.allowedValues.join(", ")}`;
    case "required":
      return `needs ${error.params.requiredProperties.join(", ")}`;
    default:
      return error.message;
  }
}

/** Longer patterns explain nothing to a reader; the field's description does. */
const LONGEST_PATTERN = 80;

function decimalMessage(value: Json | undefined): string {
  return typeof value === "number"
    ? `must be in quotes, as a decimal: "${plainDecimal(value)}"`
    : DECIMAL_FORM;
}

/** `must be a string`, and what has been read in its place. */
function textMessage(node: Node, pointer: string, root: Json): string {
  const value = valueAt(root, pointer);
  if (node.pattern === DURATION_PATTERN && typeof value === "number")
    return `must be a duration with its unit: ${value}${unitOf(pointer)}`;
  return `must be a string${quotesHint(value)}`;
}

function quotesHint(value: Json | undefined): string {
  return typeof value === "number" || typeof value === "boolean"
    ? `, and YAML reads ${value} here: put it in quotes`
    : "";
}

/** A rule, with a suggestion where the intended value can be guessed. */
function withExample(rule: string, node: Node | undefined, pointer: string, root: Json): string {
  const value = valueAt(root, pointer);
  if (typeof value !== "string") return rule;
  if (node?.pattern === DURATION_PATTERN && /^[0-9]+(\.[0-9]+)?$/.test(value))
    return `${rule}: here ${value}${unitOf(pointer)}?`;
  const isScientific = /^-?[0-9]+(\.[0-9]+)?[eE][-+]?[0-9]{1,2}$/.test(value);
  return node?.pattern === DECIMAL_PATTERN && isScientific
    ? `${rule}: here "${plainDecimal(Number(value))}"`
    : rule;
}

/** `64MB`, `64 MiB` and `64m` are common spellings of sizes. */
function sizeHint(value: Json | undefined): string {
  const [, amount, unit = ""] =
    typeof value === "string" ? (/^([1-9]\d{0,8}) ?([kmg])i?b?$/i.exec(value) ?? []) : [];
  return amount === undefined ? ", such as 64Mi" : `: here ${amount}${unit.toUpperCase()}i?`;
}

/** The example for a latency is in milliseconds, for any other duration in seconds. */
function unitOf(pointer: string): string {
  return /\/p[0-9]+$/.test(pointer) ? "ms" : "s";
}

/** Without an exponent. */
function plainDecimal(value: number): string {
  const [mantissa = "", exponent = "0"] = value.toExponential().split("e");
  const places = Math.max(0, mantissa.replace(/^-?\d\.?/, "").length - Number(exponent));
  return Math.abs(value) < 1e21 ? value.toFixed(Math.min(100, places)) : String(value);
}

/** Fields that the schema does not have: the API server refuses them even where it looks at nothing else. */
export function unknownFieldsIn(schema: TSchema, value: Json): readonly Problem[] {
  return unknownFields(schema as Node, value, "");
}

function unknownFields(schema: Node, value: Json, pointer: string): readonly Problem[] {
  return inside(schema, value, pointer, unknownFields, (properties, key, at) => [
    { pointer: at, message: `is not a field${suggestion(key, Object.keys(properties))}` },
  ]);
}

function brokenRules(schema: Node, value: Json, pointer: string): readonly Problem[] {
  const here = (schema["x-kubernetes-validations"] ?? [])
    .filter(({ message }) => own(RULES, message)?.(value) === false)
    .map(({ message }) => {
      // A rule about one field of several begins with its name.
      const [name = ""] = message.split(" ", 1);
      const isField = isObject(value) && Object.hasOwn(value, name);
      return isField
        ? { pointer: pointerTo(pointer, name), message: message.slice(name.length + 1) }
        : { pointer, message };
    });
  return [...here, ...inside(schema, value, pointer, brokenRules, () => [])];
}

/** Items of a list that may each be there once: the API server goes by their keys, or by the whole item. */
function repeated(schema: Node, value: Json, pointer: string): readonly Problem[] {
  const { "x-kubernetes-list-type": kind, "x-kubernetes-list-map-keys": keys = [] } = schema;
  const once = Array.isArray(value) && (kind === "set" || kind === "map") ? value : [];
  const names = once.map((item: Json) =>
    JSON.stringify(kind === "map" && isObject(item) ? keys.map((key) => own(item, key) ?? null) : item),
  );
  const here = names.flatMap((name, index) => {
    const first = names.indexOf(name);
    const same = kind === "map" ? `has the same ${keys.join(" and ")}` : "is the same";
    return first === index
      ? []
      : [{ pointer: pointerTo(pointer, index), message: `is there twice: item ${first} ${same}` }];
  });
  return [...here, ...inside(schema, value, pointer, repeated, () => [])];
}

/** Walks the fields of an object or the items of a list together with their schemas. */
function inside(
  schema: Node,
  value: Json,
  pointer: string,
  known: (schema: Node, value: Json, pointer: string) => readonly Problem[],
  unknown: (properties: Readonly<Record<string, Node>>, key: string, pointer: string) => readonly Problem[],
): readonly Problem[] {
  const { items, properties } = schema;
  if (Array.isArray(value) && items !== undefined)
    return value.flatMap((item: Json, index) => known(items, item, pointerTo(pointer, index)));
  if (!isObject(value) || properties === undefined) return [];
  return Object.entries(value).flatMap(([key, inner]) => {
    const node = ownNode(properties, key);
    const at = pointerTo(pointer, key);
    return node === undefined ? unknown(properties, key, at) : known(node, inner, at);
  });
}

function ownNode(properties: Readonly<Record<string, Node>>, key: string): Node | undefined {
  return Object.hasOwn(properties, key) ? own(properties, key) : undefined;
}

function nodeAt(schema: Node, pointer: string): Node | undefined {
  let node: Node | undefined = schema;
  for (const key of keysOf(pointer)) node = node?.items ?? ownNode(node?.properties ?? {}, key);
  return node;
}

function valueAt(root: Json, pointer: string): Json | undefined {
  let value: Json | undefined = root;
  for (const key of keysOf(pointer)) {
    if (Array.isArray(value)) value = value[Number(key)];
    else value = isObject(value) ? own(value, key) : undefined;
  }
  return value;
}
