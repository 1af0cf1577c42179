import { expect, test } from "vitest";
import { type Schema, servedDefinitions } from "../../test/builders/served-definitions.ts";
import { createFakeTransport } from "../../test/fakes/fake-transport.ts";
import { err, ok } from "../base/result.ts";
import { checkDefinitions, missingFields } from "./definitions.ts";

const never = new AbortController().signal;

const at = (schemas: Record<string, Schema>, kind: string, ...path: readonly string[]) =>
  path.reduce<Schema | undefined>((schema, name) => schema?.properties?.[name], schemas[kind])?.properties;

test("definitions of this version, and newer ones with more fields, lack nothing", () => {
  expect(missingFields(servedDefinitions())).toEqual([]);
  const newer = servedDefinitions((schemas) => {
    Object.assign(at(schemas, "EdgeDevice", "status") ?? {}, { later: {} });
  });
  expect(missingFields(newer)).toEqual([]);
});

test("a field that is missing is named with its kind, and what is inside it is not", () => {
  const older = servedDefinitions((schemas) => {
    delete at(schemas, "InferenceDeployment", "status")?.["rollback"];
    const quarantined = at(schemas, "InferenceDeployment", "status")?.["quarantinedReleases"]?.items;
    delete quarantined?.properties?.["reason"];
  });
  expect(missingFields(older)).toEqual([
    "InferenceDeployment.status.rollback",
    "InferenceDeployment.status.quarantinedReleases[].reason",
  ]);
});

test("a kind that is missing is one entry; a document that cannot be read has none of them", () => {
  const without = servedDefinitions((schemas) => {
    delete schemas["ModelRelease"];
  });
  expect(missingFields(without)).toEqual(["ModelRelease"]);
  expect(missingFields("nothing")).toEqual(["EdgeDevice", "ModelRelease", "InferenceDeployment"]);
});

test.each([
  [ok(servedDefinitions()), ok(true)],
  [
    ok({}),
    err(
      expect.stringMatching(
        /are of another version and lack EdgeDevice, .*; apply the Custom.*kubectl apply/,
      ),
    ),
  ],
  [err({ kind: "missing" as const, message: "404" }), err(expect.stringMatching(/are not installed; apply/))],
  [err({ kind: "unavailable" as const, message: "no route" }), err(expect.stringContaining("no route"))],
  // Lists say what is wrong where schemas may not be read.
  [err({ kind: "denied" as const, message: "403" }), ok(true)],
])("the check of what the API server serves: case %#", async (answer, expected) => {
  const transport = createFakeTransport(async () => answer);
  expect(await checkDefinitions(transport, never)).toEqual(expected);
  expect(transport.calls.map(({ path }) => path)).toEqual(["/openapi/v3/apis/edgefleet.dev/v1alpha1"]);
});
