import { crds } from "../api/crd.ts";
import { GROUP, VERSION } from "../api/resource.ts";
import { isRecord } from "../base/guards.ts";
import { own } from "../base/lookup.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { Transport } from "./transport/transport.ts";

type Definition = {
  readonly spec: {
    readonly names: { readonly kind: string };
    readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: object } }[];
  };
};

/** As many missing fields are named. */
const NAMED = 3;
const REMEDY =
  "apply the CustomResourceDefinitions of this version: helm upgrade with crds.create=true, or kubectl apply --server-side -f crds/";

/**
 * Whether the API server stores every field of this operator's version. It drops those that its CustomResourceDefinitions
 * lack, without an error: what the operator remembers in a status would be lost. Newer definitions, with more fields, are
 * fine. The error says what is missing and what to do.
 */
export async function checkDefinitions(
  transport: Pick<Transport, "call">,
  signal: AbortSignal,
): Promise<Result<true, string>> {
  const path = `/openapi/v3/apis/${GROUP}/${VERSION}`;
  const answer = await transport.call({ method: "GET", path }, signal);
  if (answer.ok) {
    const missing = missingFields(answer.value);
    if (missing.length === 0) return ok(true);
    const more = missing.length > NAMED ? ` and ${missing.length - NAMED} more` : "";
    return err(
      `the CustomResourceDefinitions are of another version and lack ${missing.slice(0, NAMED).join(", ")}${more}; ${REMEDY}`,
    );
  }
  const { kind, message } = answer.error;
  // A cluster may have taken the right to read schemas away from everybody; the lists fail where there is no definition.
  if (kind === "denied") return ok(true);
  if (kind === "missing") return err(`the CustomResourceDefinitions are not installed; ${REMEDY}`);
  return err(`the CustomResourceDefinitions cannot be checked (${message})`);
}

/**
 * Fields of our schemas that a served OpenAPI v3 document lacks, such as `EdgeDevice.status.phase`. Kinds that it lacks are
 * one entry each.
 */
export function missingFields(document: unknown): readonly string[] {
  const served = schemasByKind(document);
  return (crds() as readonly Definition[]).flatMap(({ spec: { names, versions } }) => {
    const schema = served.get(names.kind);
    const [version] = versions;
    if (schema === undefined) return [names.kind];
    const ours = propertiesOf(version?.schema.openAPIV3Schema);
    const theirs = propertiesOf(schema);
    return ["spec", "status"].flatMap((part) =>
      lacking(own(ours, part), own(theirs, part), `${names.kind}.${part}`),
    );
  });
}

/** A field that is missing is named, and not what is inside it. */
function lacking(ours: unknown, theirs: unknown, at: string): readonly string[] {
  if (theirs === undefined) return [at];
  const fields = propertiesOf(ours);
  const served = propertiesOf(theirs);
  const items = isRecord(ours) && isRecord(ours["items"]) ? ours["items"] : null;
  const servedItems = isRecord(theirs) ? theirs["items"] : undefined;
  return [
    ...Object.entries(fields).flatMap(([name, field]) => lacking(field, own(served, name), `${at}.${name}`)),
    ...(items === null ? [] : lacking(items, servedItems, `${at}[]`)),
  ];
}

function propertiesOf(schema: unknown): Readonly<Record<string, unknown>> {
  const properties = isRecord(schema) ? schema["properties"] : null;
  return isRecord(properties) ? properties : {};
}

/** Lists of a kind have no group version kind of ours with `spec`; the kind itself has. */
function schemasByKind(document: unknown): ReadonlyMap<string, unknown> {
  const components = isRecord(document) ? document["components"] : null;
  const schemas = isRecord(components) ? components["schemas"] : null;
  const found = new Map<string, unknown>();
  for (const schema of Object.values(isRecord(schemas) ? schemas : {})) {
    const kinds = isRecord(schema) ? schema["x-kubernetes-group-version-kind"] : null;
    for (const each of Array.isArray(kinds) ? kinds : [])
      if (isRecord(each) && each["group"] === GROUP && each["version"] === VERSION)
        found.set(String(each["kind"]), schema);
  }
  return found;
}
