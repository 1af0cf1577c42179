import { readFile } from "node:fs/promises";
import Schema from "typebox/schema";
import { beforeAll, expect, test } from "vitest";
import { UPDATE_STATES } from "../src/api/device-contract.ts";
import { CONTRACT_DOCUMENT, CONTRACT_SCHEMAS, withSchemas } from "../tools/device-contract.ts";

let document: string;
beforeAll(async () => {
  document = await readFile(CONTRACT_DOCUMENT, "utf8");
});

test("the document has the schemas of the source", () => {
  expect(withSchemas(document)).toBe(document);
  expect(document).toContain('"executionProvider"');
});

test("the examples fit the schemas", () => {
  const examples = [...document.matchAll(/<!-- example: (\w+) -->\n```json\n([\s\S]*?)```/g)];
  expect(examples.map(([, name]) => name)).toEqual(["model", "inference", "inference"]);
  for (const [, name, text = ""] of examples) {
    const schema = CONTRACT_SCHEMAS[name as keyof typeof CONTRACT_SCHEMAS];
    expect(Schema.Errors(schema, JSON.parse(text))).toEqual([true, []]);
  }
});

test("the schemas refuse a pointer without a digest and a state that is none", () => {
  const pointer = exampleOf("model");
  const report = exampleOf("inference");
  const { digest: _, ...rest } = pointer;
  expect(Schema.Check(CONTRACT_SCHEMAS.model, rest)).toBe(false);
  const update = { ...(report["update"] as object), state: "Done" };
  expect(Schema.Check(CONTRACT_SCHEMAS.inference, { ...report, update })).toBe(false);
});

test("every state is told", () => {
  const [, told = ""] = document.split("### States of an update");
  for (const state of UPDATE_STATES) expect(told.split("###")[0]).toContain(state);
});

function exampleOf(name: string): Readonly<Record<string, unknown>> {
  const start = document.split(`<!-- example: ${name} -->\n`)[1] ?? "";
  const [, text = ""] = /^```json\n([\s\S]*?)```/.exec(start)!;
  return JSON.parse(text) as Readonly<Record<string, unknown>>;
}
