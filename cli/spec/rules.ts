import { GOLDEN_BOUNDS, LABEL_BOUNDS, PARITY_BOUNDS } from "../../src/api/output-bounds.ts";
import { RUNNING_CHECKS } from "../../src/api/verification-spec.ts";
import { DECIMAL_FORM, DECIMAL_PATTERN } from "../../src/base/decimal.ts";
import { own } from "../../src/base/lookup.ts";
import { minutes, parseDuration } from "../../src/base/time.ts";
import { isObject, type Json, type JsonObject } from "../json-pointer.ts";

// The rules of the CRD that only its expressions say (x-kubernetes-validations), by the sentence with which the API
// server refuses: the schemas have the sentences, and a test finds the rule that is missing here.

/** Whether the value keeps the rule. A value of the wrong type keeps every rule: the schema reports it. */
export type Rule = (value: Json) => boolean;

export const RULES: Readonly<Record<string, Rule>> = {
  "must be a duration such as 90s, 10m or 1h30m": text((written) =>
    /^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$/.test(written),
  ),
  [DECIMAL_FORM]: text((written) => new RegExp(DECIMAL_PATTERN).test(written)),
  "must be sha256: followed by 64 lower-case hexadecimal digits; sha256sum FILE prints the digits": text(
    (written) => /^sha256:[0-9a-f]{64}$/.test(written),
  ),
  "the path must be relative to the container, without ..": text(
    (path) => !path.startsWith("/") && !path.includes(".."),
  ),
  "an output requires at least one bound": hasOneOf(...GOLDEN_BOUNDS),
  "the golden set is not used; add a bound, such as minimumAccuracy (for labels) or maximumAbsoluteError (for outputs), or a check that runs the model":
    fields((verification) => {
      const { golden } = verification;
      if (!isObject(golden)) return true;
      const bounded = [...GOLDEN_BOUNDS, "outputs"].some((name) => has(golden, name));
      return (
        bounded || golden["nonFinite"] === "Never" || RUNNING_CHECKS.some((name) => has(verification, name))
      );
    }),
  "output requires at least one bound beside it": needs("output", ...GOLDEN_BOUNDS, ...PARITY_BOUNDS),
  "output must not be listed in outputs as well; specify its bounds in one place": fields(
    ({ output, outputs }) =>
      !Array.isArray(outputs) || !outputs.some((one: Json) => isObject(one) && one["name"] === output),
  ),
  "topK requires minimumTopKAccuracy": needs("topK", "minimumTopKAccuracy"),
  "classes requires a bound that uses labels, such as minimumAccuracy": needs("classes", ...LABEL_BOUNDS),
  "threshold requires minimumAccuracy, minimumClassAccuracy or minimumMaskIou": needs(
    "threshold",
    "minimumAccuracy",
    "minimumClassAccuracy",
    "minimumMaskIou",
  ),
  "threshold requires minimumAgreement": needs("threshold", "minimumAgreement"),
  "iouThreshold and boxFormat require minimumBoxMatch": fields(
    (value) => (!has(value, "iouThreshold") && !has(value, "boxFormat")) || has(value, "minimumBoxMatch"),
  ),
  "iouThreshold must be greater than 0 and at most 1": decimal(
    "iouThreshold",
    (value) => value > 0 && value <= 1,
  ),
  ...shares(...LABEL_BOUNDS, "minimumMaskIou", "minimumBoxMatch", "minimumAgreement"),
  ...positive(
    "maximumAbsoluteError",
    "maximumRelativeError",
    "maximumRootMeanSquaredError",
    "maximumMeanAbsoluteError",
    "maximumWordErrorRate",
    "maximumCharacterErrorRate",
  ),
  "minimumCosineSimilarity must be between -1 and 1": decimal(
    "minimumCosineSimilarity",
    (value) => value >= -1 && value <= 1,
  ),
  "at least one bound is required: minimumAgreement, maximumAbsoluteError, maximumRelativeError or minimumCosineSimilarity":
    hasOneOf(...PARITY_BOUNDS),
  "at least one bound is required, here or in outputs: minimumAgreement, maximumAbsoluteError, maximumRelativeError or minimumCosineSimilarity":
    hasOneOf(...PARITY_BOUNDS, "outputs"),
  "latency requires at least one bound: p50, p95 or p99": hasOneOf("p50", "p95", "p99"),
  "minimumPerSecond must be greater than 0": decimal("minimumPerSecond", (value) => value > 0),
  "exactly one of every and schedule is required": fields(
    (value) => has(value, "every") !== has(value, "schedule"),
  ),
  "timeZone requires schedule": needs("timeZone", "schedule"),
  "every must be at least 1h": fields(({ every }) => {
    const length = typeof every === "string" ? parseDuration(every) : null;
    return length === null || !length.ok || length.value >= minutes(60);
  }),
  // Of an object that is there already: nothing that a file can break.
  "a ModelRelease is immutable; create a new one for a new version": () => true,
  "at most one variant may omit deviceClasses; it is used for all other classes": fields(
    (spec) => variantsOf(spec).filter((variant) => classesOf(variant).length === 0).length <= 1,
  ),
  "a device class must not be listed by more than one variant": fields((spec) => {
    const named = variantsOf(spec).flatMap((variant) => [...new Set(classesOf(variant))]);
    return new Set(named).size === named.length;
  }),
  "variantParity.reference must be the name of one of the variants": fields((spec) => {
    const { verification } = spec;
    const parity = isObject(verification) ? verification["variantParity"] : undefined;
    const reference = isObject(parity) ? parity["reference"] : undefined;
    return reference === undefined || variantsOf(spec).some((variant) => variant["name"] === reference);
  }),
};

function text(keeps: (value: string) => boolean): Rule {
  return (value) => typeof value !== "string" || keeps(value);
}

function fields(keeps: (value: JsonObject) => boolean): Rule {
  return (value) => !isObject(value) || keeps(value);
}

function has(value: JsonObject, name: string): boolean {
  return Object.hasOwn(value, name);
}

function hasOneOf(...names: readonly string[]): Rule {
  return fields((value) => names.some((name) => has(value, name)));
}

function needs(name: string, ...others: readonly string[]): Rule {
  return fields((value) => !has(value, name) || others.some((other) => has(value, other)));
}

function decimal(name: string, keeps: (value: number) => boolean): Rule {
  return fields((value) => {
    const written = own(value, name);
    const number = typeof written === "number" || typeof written === "string" ? Number(written) : Number.NaN;
    return Number.isNaN(number) || keeps(number);
  });
}

function positive(...names: readonly string[]): Readonly<Record<string, Rule>> {
  return Object.fromEntries(
    names.map((name) => [`${name} must not be negative`, decimal(name, (value) => value >= 0)]),
  );
}

function shares(...names: readonly string[]): Readonly<Record<string, Rule>> {
  return Object.fromEntries(
    names.map((name) => [
      `${name} must be between 0 and 1: write "0.95" for 95 %`,
      decimal(name, (value) => value >= 0 && value <= 1),
    ]),
  );
}

function variantsOf({ variants }: JsonObject): readonly JsonObject[] {
  return Array.isArray(variants) ? variants.filter(isObject) : [];
}

function classesOf({ deviceClasses }: JsonObject): readonly Json[] {
  return Array.isArray(deviceClasses) ? deviceClasses : [];
}
