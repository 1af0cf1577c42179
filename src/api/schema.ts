import type { Static, TProperties, TSchema } from "typebox";
import { DECIMAL_FORM, DECIMAL_PATTERN, type Decimal } from "../base/decimal.ts";
import { DIGEST_PATTERN, type Digest } from "../base/digest.ts";
import { DURATION_PATTERN, type Duration, type Timestamp } from "../base/time.ts";
import { Type } from "./type.ts";

// Only what is valid in a structural schema of a CustomResourceDefinition is used here: no const, no anyOf of
// objects, no patternProperties. Each wrapper below says a type to TypeScript and plain OpenAPI v3 to Kubernetes.

type Primitive = string | number | boolean | null | undefined;
export type Frozen<T> = T extends Primitive ? T : { readonly [K in keyof T]: Frozen<T[K]> };
/** The type that a schema describes, deeply read-only. */
export type Of<S extends TSchema> = Frozen<Static<S>>;

type Options = { readonly description: string; readonly [keyword: string]: unknown };

export function oneOf<const T extends readonly string[]>(values: T, options: Options) {
  return Type.Unsafe<T[number]>({ type: "string", enum: [...values], ...options });
}

/** crd.ts leaves `anyOf` and `pattern` out for the API server: it would answer in their text instead of ours. */
export function decimal(options: Options) {
  return Type.Unsafe<Decimal>({
    "x-kubernetes-int-or-string": true,
    anyOf: [{ type: "integer" }, { type: "string" }],
    pattern: DECIMAL_PATTERN,
    maxLength: 24,
    ...options,
    "x-kubernetes-validations": [
      cel(`type(self) == int || self.matches(r'${DECIMAL_PATTERN}')`, DECIMAL_FORM),
    ],
  });
}

/** A rule for a decimal field that may be left out. */
export function decimalRule(
  name: string,
  condition: "greater than 0" | "not negative",
): ReturnType<typeof cel> {
  return condition === "greater than 0"
    ? cel(whereDecimal([name], `double(self.${name}) > 0.0`), `${name} must be greater than 0`)
    : cel(whereDecimal([name], `double(self.${name}) >= 0.0`), `${name} must not be negative`);
}

/**
 * A condition on decimal fields of an object. It holds where one of them is missing, and where one is no decimal: that
 * is refused by the field's own rule, and CEL's `double()` would only add an evaluation error to it.
 */
export function whereDecimal(names: readonly string[], condition: string): string {
  const excuses = names.map(
    (name) =>
      `!has(self.${name}) || (type(self.${name}) == string && !self.${name}.matches(r'${DECIMAL_PATTERN}'))`,
  );
  return `${excuses.join(" || ")} || (${condition})`;
}

export function duration(options: Options) {
  return Type.Unsafe<Duration>({
    type: "string",
    pattern: DURATION_PATTERN,
    maxLength: 24,
    ...options,
    "x-kubernetes-validations": [
      cel(`self.matches(r'${DURATION_PATTERN}')`, "must be a duration such as 90s, 10m or 1h30m"),
    ],
  });
}

/** For messages between programs; a CustomResourceDefinition cannot say it. */
export function orNull<S extends TSchema>(schema: S) {
  return Type.Unsafe<Of<S> | null>({ anyOf: [schema, { type: "null" }] });
}

export function timestamp(options: Options) {
  return Type.Unsafe<Timestamp>({ type: "string", format: "date-time", ...options });
}

export function digest(options: Options) {
  return Type.Unsafe<Digest>({
    type: "string",
    pattern: DIGEST_PATTERN,
    maxLength: 71,
    ...options,
    "x-kubernetes-validations": [
      cel(
        `self.matches('${DIGEST_PATTERN}')`,
        "must be sha256: followed by 64 lower-case hexadecimal digits; sha256sum FILE prints the digits",
      ),
    ],
  });
}

export function stringMap(options: Options) {
  return Type.Unsafe<Readonly<Record<string, string>>>({
    type: "object",
    additionalProperties: { type: "string", maxLength: 512 },
    ...options,
  });
}

/** A list whose items are addressed by `key`: server-side apply merges it item by item. */
export function listMap<S extends TSchema>(items: S, key: string, options: Options) {
  return Type.Array(items, {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": [key],
    ...options,
  });
}

/** A CEL rule and the message that the API server returns when the rule fails. */
export function cel(rule: string, message: string) {
  return { rule, message };
}

/** What `status.observedGeneration` is before the operator has seen the object. */
export const UNOBSERVED = -1;

/** kstatus (Flux, Argo CD, kpt) calls an object without conditions current; with this one it waits for the operator. */
const observedGenerationSchema = Type.Integer({
  description: "Generation that was most recently reconciled; -1: none yet. Defaults to -1.",
  default: UNOBSERVED,
});

/** The default of a whole status: the API server does not fill in defaults inside of what is absent. */
const STATUS_DEFAULT = { observedGeneration: UNOBSERVED };

/** The longest message of a condition. */
export const LONGEST_MESSAGE = 4096;

export const conditionSchema = Type.Object(
  {
    type: Type.String({ description: "Type of the condition.", maxLength: 64 }),
    status: oneOf(["True", "False", "Unknown"], {
      description: "Status of the condition: True, False or Unknown.",
    }),
    reason: Type.String({
      description: "Machine-readable reason for the current status, in CamelCase.",
      maxLength: 64,
    }),
    message: Type.String({
      description:
        "Human-readable explanation of the current status, with the action to take where one is needed.",
      maxLength: LONGEST_MESSAGE,
    }),
    observedGeneration: Type.Integer({
      description: "Generation of the object that the condition was determined for.",
      minimum: 0,
    }),
    lastTransitionTime: timestamp({ description: "Time at which the status last changed." }),
  },
  { description: "Condition of the object." },
);

const conditionsSchema = listMap(conditionSchema, "type", {
  description: "Conditions of the object; Ready summarizes them.",
  maxItems: 16,
});

/** A status of one of our kinds: its own fields, between what all of them have. */
export function statusSchema<Fields extends TProperties>(fields: Fields, description: string) {
  return Type.Object(
    {
      observedGeneration: Type.Optional(observedGenerationSchema),
      ...fields,
      conditions: Type.Optional(conditionsSchema),
    },
    { description, default: STATUS_DEFAULT },
  );
}

/** Tokens of the requests that a kind takes by annotation. */
export function handledRequestsField<Name extends string>(names: readonly Name[]) {
  const token = Type.Optional(
    Type.String({ description: "Token of the last request that was handled.", maxLength: 256 }),
  );
  const tokens = Object.fromEntries(names.map((name) => [name, token])) as Record<Name, typeof token>;
  return Type.Optional(Type.Object(tokens, { description: "Requests that have been handled." }));
}
