import { crds } from "../../src/api/crd.ts";

export type Schema = { properties?: Record<string, Schema>; items?: Schema };
type Definition = {
  readonly spec: {
    readonly names: { readonly kind: string };
    readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: Schema } }[];
  };
};

/** The OpenAPI v3 document that an API server serves of our definitions: a schema for each kind, and one for its list. */
export function servedDefinitions(change: (schemas: Record<string, Schema>) => void = () => {}) {
  const schemas: Record<string, Schema> = {};
  for (const { spec } of structuredClone(crds()) as unknown as readonly Definition[]) {
    const gvk = (kind: string) => ({
      "x-kubernetes-group-version-kind": [{ group: "edgefleet.dev", version: "v1alpha1", kind }],
    });
    schemas[spec.names.kind] = { ...spec.versions[0]?.schema.openAPIV3Schema, ...gvk(spec.names.kind) };
    schemas[`${spec.names.kind}List`] = { properties: {}, ...gvk(`${spec.names.kind}List`) };
  }
  change(schemas);
  return { openapi: "3.0.0", components: { schemas } };
}
