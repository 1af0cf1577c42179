import { suggestion } from "../../src/base/flags.ts";
import { isObject, type Json, type JsonObject, pointerTo } from "../json-pointer.ts";
import type { Problem } from "./check.ts";

// What the API server asks of the metadata of any object when it is created (apimachinery: ObjectMeta, ValidateObjectMeta).

type Check = (value: Json, pointer: string) => readonly Problem[];

/** @returns problems by their pointers in the metadata. */
export function objectMetaProblems(metadata: Json): readonly Problem[] {
  if (!isObject(metadata))
    return [{ pointer: "", message: "must be an object with fields such as name and labels" }];
  const problems = Object.entries(metadata).flatMap(([key, value]) => {
    const check = FIELDS.get(key);
    const pointer = pointerTo("", key);
    if (check === undefined)
      return [{ pointer, message: `is not a field${suggestion(key, [...FIELDS.keys()])}` }];
    return value === null ? [] : check(value, pointer);
  });
  const hasName = [metadata["name"], metadata["generateName"]].some((name) => (name ?? "") !== "");
  return hasName ? problems : [...problems, { pointer: "", message: "needs name" }];
}

const SUBDOMAIN =
  "must be lower-case letters, digits, - and . with a letter or digit at both ends and around every . (as in digits-2.1.0)";

/** What is wrong with the name of an object; `null`: nothing. */
export function objectNameFault(name: string): string | null {
  if (name.length > 253) return "must not have more than 253 characters";
  return /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/.test(name) ? null : SUBDOMAIN;
}

/** What is wrong with the name of a namespace; `null`: nothing. */
export function namespaceFault(name: string): string | null {
  if (name.length > 63) return "must not have more than 63 characters";
  return /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(name)
    ? null
    : "must be lower-case letters, digits and - with a letter or digit at both ends";
}

function qualifiedNameFault(written: string): string | null {
  const [name = "", prefix, ...more] = written.split("/").toReversed();
  if (more.length > 0) return "must have no more than one /, between a domain and a name";
  if (prefix === "") return "must have a domain before its /";
  const domain = prefix === undefined ? null : objectNameFault(prefix);
  if (domain !== null)
    return `must have a domain before its /, and ${prefix} ${domain.replace("must", "should")}`;
  if (name.length > 63) return "must not have more than 63 characters after its domain";
  return NAME.test(name)
    ? null
    : "must be letters, digits, -, _ and . with a letter or digit at both ends, after a domain and / if it has one";
}

const NAME = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;

function labelValueFault(value: string): string | null {
  if (value.length > 63) return "must not have more than 63 characters";
  return value === "" || NAME.test(value)
    ? null
    : "must be letters, digits, -, _ and . with a letter or digit at both ends";
}

function text(fault: (value: string) => string | null = () => null): Check {
  return (value, pointer) => {
    if (typeof value !== "string") return [{ pointer, message: notText(value) }];
    const message = value === "" ? null : fault(value);
    return message === null ? [] : [{ pointer, message }];
  };
}

/** What to say where a text is needed. */
function notText(value: Json): string {
  if (typeof value === "number" || typeof value === "boolean")
    return `must be a string, and YAML reads ${value} here: put it in quotes`;
  return "must be a string";
}

const count: Check = (value, pointer) =>
  Number.isInteger(value) ? [] : [{ pointer, message: "must be a whole number" }];

const flag: Check = (value, pointer) =>
  typeof value === "boolean" ? [] : [{ pointer, message: "must be true or false" }];

const time = text((written) => {
  const form = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d([.,]\d+)?([Zz]|[-+]\d\d:\d\d)$/;
  return form.test(written) && !Number.isNaN(Date.parse(written.replace(",", ".")))
    ? null
    : "must be a time such as 2026-01-31T12:00:00Z";
});

function texts(
  keyFault: (key: string) => string | null,
  valueFault: (value: string) => string | null,
): (value: Json, pointer: string) => readonly Problem[] {
  return (value, pointer) => {
    if (!isObject(value)) return [{ pointer, message: "must be an object with string values" }];
    return Object.entries(value).flatMap(([key, inner]) => {
      const at = pointerTo(pointer, key);
      const fault = keyFault(key);
      const wrongKey = fault === null ? [] : [{ pointer: at, message: `its name ${fault}` }];
      return [...wrongKey, ...(inner === null ? [] : text(valueFault)(inner, at))];
    });
  };
}

const LARGEST_ANNOTATIONS = 256 * 1024;

const annotations: Check = (value, pointer) => {
  const problems = texts(
    (key) => qualifiedNameFault(key.toLowerCase()),
    () => null,
  )(value, pointer);
  const size = Object.entries(isObject(value) ? value : {}).reduce(
    (sum, [key, inner]) =>
      sum + Buffer.byteLength(key) + Buffer.byteLength(typeof inner === "string" ? inner : ""),
    0,
  );
  return size > LARGEST_ANNOTATIONS
    ? [
        ...problems,
        { pointer, message: `must not have more than ${LARGEST_ANNOTATIONS} bytes in all, and has ${size}` },
      ]
    : problems;
};

function listOf(check: Check): Check {
  return (value, pointer) =>
    Array.isArray(value)
      ? value.flatMap((item: Json, index) => (item === null ? [] : check(item, pointerTo(pointer, index))))
      : [{ pointer, message: "must be a list" }];
}

function fieldsOf(fields: ReadonlyMap<string, Check>, needed: readonly string[]): Check {
  return (value, pointer) => {
    if (!isObject(value)) return [{ pointer, message: "must be an object" }];
    const problems = Object.entries(value).flatMap(([key, inner]) => {
      const at = pointerTo(pointer, key);
      const check = fields.get(key);
      if (check === undefined)
        return [{ pointer: at, message: `is not a field${suggestion(key, [...fields.keys()])}` }];
      return inner === null ? [] : check(inner, at);
    });
    const missing = needed.filter((key) => !Object.hasOwn(value, key) || isEmpty(value, key));
    return missing.length === 0
      ? problems
      : [...problems, { pointer, message: `needs ${missing.join(", ")}` }];
  };
}

function isEmpty(value: JsonObject, key: string): boolean {
  const found = Object.entries(value).find(([name]) => name === key)?.[1];
  return found === null || found === "";
}

const OWNER: ReadonlyMap<string, Check> = new Map([
  ["apiVersion", text()],
  ["kind", text()],
  ["name", text()],
  ["uid", text()],
  ["controller", flag],
  ["blockOwnerDeletion", flag],
]);

const owners: Check = (value, pointer) => {
  const problems = listOf(fieldsOf(OWNER, ["apiVersion", "kind", "name", "uid"]))(value, pointer);
  const controllers = (Array.isArray(value) ? value : []).filter(
    (owner: Json) => isObject(owner) && owner["controller"] === true,
  );
  return controllers.length > 1
    ? [...problems, { pointer, message: "must not have more than one controller" }]
    : problems;
};

const FIELDS: ReadonlyMap<string, Check> = new Map([
  ["name", text(objectNameFault)],
  ["generateName", text((prefix) => objectNameFault(prefix.length > 1 ? prefix.replace(/-$/, "a") : prefix))],
  ["namespace", text(namespaceFault)],
  ["labels", texts(qualifiedNameFault, labelValueFault)],
  ["annotations", annotations],
  ["finalizers", listOf(text(qualifiedNameFault))],
  ["ownerReferences", owners],
  ["selfLink", text()],
  ["uid", text()],
  ["resourceVersion", text()],
  ["generation", count],
  ["creationTimestamp", time],
  ["deletionTimestamp", time],
  ["deletionGracePeriodSeconds", count],
  [
    "managedFields",
    (value, pointer) => (Array.isArray(value) ? [] : [{ pointer, message: "must be a list" }]),
  ],
]);
