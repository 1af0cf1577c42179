import { expect, test } from "vitest";
import { crds } from "./crd.ts";

type Schema = {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
};
type Crd = {
  readonly spec: {
    readonly names: { readonly kind: string };
    readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: Schema } }[];
  };
};

const definitions = (crds() as unknown as readonly Crd[]).map(({ spec }) => ({
  kind: spec.names.kind,
  schema: spec.versions[0]!.schema.openAPIV3Schema,
}));

test("there are the three kinds, as plain JSON", () => {
  expect(definitions.map(({ kind }) => kind)).toEqual(["EdgeDevice", "ModelRelease", "InferenceDeployment"]);
  expect(JSON.parse(JSON.stringify(crds()))).toEqual(crds());
  expect(JSON.stringify(crds())).not.toContain("~");
});

test.each(definitions)("$kind: a field is required, or it has a default, never both", ({ schema }) => {
  const both = fieldsOf(schema).filter(({ field, required }) => required && "default" in field);
  expect(both.map(({ at }) => at)).toEqual([]);
  expect(schema.required).toEqual(["spec"]);
});

test.each(definitions)(
  "$kind: a description says the default, which kubectl explain leaves out",
  ({ schema }) => {
    const scalars = fieldsOf(schema).filter(({ field }) =>
      ["string", "number", "boolean"].includes(typeof field.default),
    );
    expect(scalars.length).toBeGreaterThan(0);
    const silent = scalars.filter(
      ({ field }) => !field.description?.includes(`Defaults to ${field.default}.`),
    );
    expect(silent.map(({ at }) => at)).toEqual([]);
  },
);

test.each(definitions)(
  "$kind: nothing inside a list of the spec has a default, which kubectl apply and Argo CD would see as drift",
  ({ schema }) => {
    const inside = fieldsOf(schema).filter(({ at, field }) => at.includes("[]") && "default" in field);
    expect(inside.map(({ at }) => at)).toEqual([]);
  },
);

function fieldsOf(
  schema: Schema,
  at = "",
): readonly { readonly at: string; readonly field: Schema; readonly required: boolean }[] {
  const inner = Object.entries(schema.properties ?? {}).flatMap(([name, field]) => [
    { at: `${at}.${name}`, field, required: schema.required?.includes(name) ?? false },
    ...fieldsOf(field, `${at}.${name}`),
  ]);
  return schema.items === undefined ? inner : [...inner, ...fieldsOf(schema.items, `${at}[]`)];
}
