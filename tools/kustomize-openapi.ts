import { isRecord } from "../src/base/guards.ts";

type Json = Readonly<Record<string, unknown>>;

/**
 * What Kustomize has to know of our kinds to patch one item of a list: the properties of each, and the key of each list
 * that is a map for the API server, too. Without it a strategic merge patch replaces the whole list. The steps of a strategy
 * are replaced as a whole: Kustomize puts the items that it merges first, and the order of steps counts.
 */
export function kustomizeOpenApi(crds: readonly Json[]): string {
  const definitions = Object.fromEntries(crds.map(definitionOf));
  return `${JSON.stringify({ definitions }, null, 2)}\n`;
}

function definitionOf(crd: Json): readonly [string, Json] {
  const { group, names, versions } = crd["spec"] as {
    readonly group: string;
    readonly names: { readonly kind: string };
    readonly versions: readonly [
      { readonly name: string; readonly schema: { readonly openAPIV3Schema: { readonly properties: Json } } },
    ];
  };
  const [{ name: version, schema }] = versions;
  const domain = group.split(".").reverse().join(".");
  return [
    `${domain}.${version}.${names.kind}`,
    {
      type: "object",
      "x-kubernetes-group-version-kind": [{ group, version, kind: names.kind }],
      properties: {
        apiVersion: { type: "string" },
        kind: { type: "string" },
        metadata: { type: "object" },
        spec: outline(schema.openAPIV3Schema.properties["spec"]),
      },
    },
  ];
}

/** Types, properties and merge keys; no descriptions, rules or defaults. */
function outline(schema: unknown): Json {
  if (!isRecord(schema)) return {};
  const { type, properties, items } = schema;
  const keys = schema["x-kubernetes-list-map-keys"];
  return {
    ...(type === undefined ? {} : { type }),
    ...(isRecord(properties)
      ? {
          properties: Object.fromEntries(
            Object.entries(properties).map(([key, inner]) => [key, outline(inner)]),
          ),
        }
      : {}),
    ...(isRecord(items) ? { items: outline(items) } : {}),
    ...(Array.isArray(keys)
      ? { "x-kubernetes-patch-merge-key": keys[0], "x-kubernetes-patch-strategy": "merge" }
      : {}),
  };
}
