import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Check } from "typebox/schema";
import { afterEach, expect, test } from "vitest";
import { createManualClock } from "../../base/clock.ts";
import { isObject, type JsonObject, type JsonValue, valueAt } from "../../base/json.ts";
import { createSimulator, DEFAULT_OPTIONS, type Simulator } from "../../simulator.ts";
import { problemOfReply } from "../../testing/control-client.ts";
import { createControlApi } from "../control-api.ts";
import { CONTROL_METHODS } from "./control-route.ts";
import { CONTROL_ROUTES } from "./control-routes.ts";

const ROOT = join(import.meta.dirname, "../../..");
const MANUAL = readFileSync(join(import.meta.dirname, "../../README.md"), "utf8");

const running: Simulator[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
});

/** The control API without a transport, over a hub with one device. */
function startApi() {
  const manual = createManualClock(Date.parse("2026-03-01T12:00:00Z"));
  const simulator = createSimulator({ clock: manual, download: "skip" });
  running.push(simulator);
  const { hub, fleet, scenarios } = simulator;
  hub.registry.putDevice("cam-1", {}, null);
  const control = createControlApi({ hub, fleet, manual, seed: 1, scenarios }, DEFAULT_OPTIONS.address);
  return async (
    method: string,
    url: string,
    body?: JsonValue | string | null,
    headers: Readonly<Record<string, string>> = {},
  ) => {
    const written = body === undefined ? "" : body;
    const text = typeof written === "string" || written === null ? written : JSON.stringify(written);
    const reply = await control({ method, url, headers, body: text });
    if (reply === null) throw new Error(`${url} is not the control API's`);
    const isJson = reply.headers["Content-Type"]?.startsWith("application/json") === true;
    const answer = { status: reply.status, body: isJson ? JSON.parse(reply.body ?? "") : {} };
    return { ...answer, text: reply.body ?? "", headers: reply.headers, answer };
  };
}

type Document = {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, JsonObject>>>>;
};

async function readDocument(call: ReturnType<typeof startApi>): Promise<Document> {
  return (await call("GET", "/sim/openapi.json")).body as Document;
}

test("every path and method that answers is in the document, and every one in the document answers", async () => {
  const call = startApi();
  const { paths, openapi } = await readDocument(call);
  expect(openapi).toBe("3.1.0");
  expect(Object.keys(paths).length).toBeGreaterThan(9);
  for (const [path, item] of Object.entries(paths))
    for (const method of [...CONTROL_METHODS, "PATCH", "OPTIONS", "TRACE"]) {
      const { status, headers } = await call(method, path.replace("{id}", "none"));
      const documented = method.toLowerCase() in item;
      expect(`${method} ${path}: ${status !== 405}`).toBe(`${method} ${path}: ${documented}`);
      const allowed = documented ? [] : (headers["Allow"]?.split(", ") ?? []);
      if (!documented)
        expect(allowed.filter((one) => one !== "HEAD").map((one) => one.toLowerCase())).toEqual(
          Object.keys(item).filter((key) => key !== "parameters"),
        );
    }
  const listed = await call("GET", "/sim");
  for (const path of Object.keys(paths)) {
    expect(listed.text).toContain(` ${path} `);
    expect(MANUAL).toContain(`\`${path.replace("{id}", "<id>")}\``);
  }
});

test("the document refers to nothing that is not in it, and names each operation once", async () => {
  const document = (await readDocument(startApi())) as unknown as JsonObject;
  const references: string[] = [];
  const names: string[] = [];
  const walk = (value: JsonValue | undefined) => {
    if (Array.isArray(value)) value.forEach(walk);
    if (!isObject(value)) return;
    if (typeof value["$ref"] === "string") references.push(value["$ref"]);
    if (typeof value["operationId"] === "string") names.push(value["operationId"]);
    Object.values(value).forEach(walk);
  };
  walk(document);
  expect(references.length).toBeGreaterThan(0);
  for (const reference of references)
    expect(valueAt(document, reference.slice(2).split("/"))).toBeTypeOf("object");
  expect(names.length).toBeGreaterThan(15);
  expect(new Set(names).size).toBe(names.length);
});

const BODIES = CONTROL_ROUTES.flatMap(({ path, methods }) =>
  Object.entries(methods).flatMap(([method, { body, examples = {} }]) =>
    body === undefined
      ? []
      : Object.entries(examples).map(([name, example]) => ({ method, path, name, body, example })),
  ),
);

test.each(BODIES)("$method $path takes $name, and refuses what its schema refuses", async (one) => {
  const call = startApi();
  const { method, path, body, example } = one;
  expect(Check(body, example)).toBe(true);
  expect((await call(method, path, example)).status).toBe(200);
  for (const mutant of mutantsOf(example)) {
    const { status, body: reply, answer } = await call(method, path, mutant);
    // Whether the thing exists that is spoken of is not a matter of its form.
    const taken = status !== 400;
    expect([JSON.stringify(mutant), taken]).toEqual([JSON.stringify(mutant), Check(body, mutant)]);
    if (!taken) expect(reply.problems.length).toBeGreaterThan(0);
    expect(problemOfReply(method, path, answer)).toBeNull();
  }
});

/** Each with one thing changed somewhere: gone, of another type, or unknown. */
function mutantsOf(value: JsonValue): readonly JsonValue[] {
  if (Array.isArray(value))
    return (value as readonly JsonValue[]).flatMap((item, index) =>
      mutantsOf(item).map((mutant) => value.with(index, mutant)),
    );
  if (!isObject(value)) return [];
  const fields = Object.entries(value).flatMap(([name, inner]) => {
    const { [name]: _, ...others } = value;
    const replaced = [true, -1, "x", ["x"], {}, [1]].map((other) => ({ ...value, [name]: other }));
    return [others, ...replaced, ...mutantsOf(inner).map((mutant) => ({ ...value, [name]: mutant }))];
  });
  return [...fields, { ...value, colour: "red" }];
}

test("every call that the manual shows is one that is possible", async () => {
  const call = startApi();
  const calls = [...MANUAL.matchAll(/^curl .*?"?\$hub(\/sim[^\s"]*)"?(.*)$/gm)].map(
    ([line, url = "", rest = ""]) => {
      const file = /--data-binary @(\S+)/.exec(rest)?.[1];
      const data =
        file === undefined ? /-d '([^']*)'/.exec(rest)?.[1] : readFileSync(join(ROOT, file), "utf8");
      const method = /-X ([A-Z]+)/.exec(line)?.[1] ?? (data === undefined ? "GET" : "POST");
      return { url, method, data };
    },
  );
  expect(calls.length).toBeGreaterThan(12);
  for (const { url, method, data } of calls) {
    const { status, answer } = await call(method, url, data);
    expect(`${method} ${url} ${data ?? ""}: ${status}`).toMatch(/: 20[04]$/);
    expect(problemOfReply(method, url, answer)).toBeNull();
  }
});

test("what is not there says what is, and a body that is too large or a path in disorder is refused", async () => {
  const call = startApi();
  const missing = await call("GET", "/sim/nothing");
  expect([missing.status, missing.text]).toEqual([404, expect.stringContaining("/sim/faults/{id}")]);
  expect((await call("GET", "/sim/faults/a/b")).status).toBe(404);
  expect((await call("GET", "/sim/faults/%E0")).status).toBe(400);
  expect((await call("POST", "/sim/faults", null)).status).toBe(413);
  expect((await call("POST", "/sim/faults", "{")).body.problems).toEqual(["the body is not JSON"]);
  expect((await call("POST", "/sim", "")).headers["Allow"]).toBe("GET, HEAD");
  const mistaken = await call("GET", "/sim/events?from=x&source=y&colour=red&limit=1&limit=2");
  expect([mistaken.status, mistaken.body.problems]).toEqual([
    400,
    [
      "from must be a whole number",
      expect.stringContaining("source must be one of Telemetry"),
      "colour is not known",
      "limit is given more than once",
    ],
  ]);
});

test("a fault can be looked at by its id, whatever is in it", async () => {
  const call = startApi();
  await call("POST", "/sim/faults", { id: "a/b c", kind: "outage" });
  expect((await call("GET", "/sim/faults/a%2Fb%20c")).body).toMatchObject({ id: "a/b c", kind: "outage" });
  expect((await call("DELETE", "/sim/faults/a%2Fb%20c")).status).toBe(204);
  expect((await call("GET", "/sim/faults/a%2Fb%20c")).status).toBe(404);
});
