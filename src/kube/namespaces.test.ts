import { expect, test } from "vitest";
import { createFakeRuntime } from "../../test/fakes/fake-runtime.ts";
import { createFakeTransport } from "../../test/fakes/fake-transport.ts";
import { mayUseDevice } from "../api/tenancy.ts";
import { ok } from "../base/result.ts";
import { createNamespaces } from "./namespaces.ts";

function apiServer(annotations: Readonly<Record<string, Readonly<Record<string, string>>>>) {
  let version = 10;
  const transport = createFakeTransport(async ({ path }) => {
    const named = /fieldSelector=metadata.name%3D([a-z-]+)/.exec(path)?.[1];
    const items = Object.entries(annotations)
      .filter(([name]) => named === undefined || named === name)
      .map(([name, of]) => ({
        metadata: { name, uid: name, resourceVersion: String(version), annotations: of, labels: { a: "b" } },
        spec: { finalizers: ["kubernetes"] },
      }));
    version += 1;
    return ok({ metadata: { resourceVersion: String(version) }, items });
  });
  return transport;
}

async function filled(names: readonly string[] | null, transport: ReturnType<typeof createFakeTransport>) {
  const namespaces = createNamespaces(transport, names, createFakeRuntime());
  const stop = new AbortController();
  const run = namespaces.run(stop.signal);
  await namespaces.synced(stop.signal);
  stop.abort();
  await run;
  return namespaces;
}

test("a namespace may use what its annotations grant, and one that is not known nothing", async () => {
  const transport = apiServer({
    "team-a": { "edgefleet.dev/device-ids": "team-a-*", "kubernetes.io/other": "*" },
    "team-b": {},
  });
  const { grants } = await filled(null, transport);
  expect(mayUseDevice(grants("team-a"), "team-a-1")).toBe(true);
  expect(mayUseDevice(grants("team-a"), "team-b-1")).toBe(false);
  expect(mayUseDevice(grants("team-b"), "team-a-1")).toBe(false);
  expect(mayUseDevice(grants("team-c"), "team-a-1")).toBe(false);
  expect(mayUseDevice(grants("constructor"), "team-a-1")).toBe(false);
  expect(transport.calls.map(({ path }) => path)).toEqual(["/api/v1/namespaces?limit=500"]);
});

test("where some namespaces are served, each is listed by its name alone", async () => {
  const transport = apiServer({
    "team-a": { "edgefleet.dev/device-ids": "a" },
    "team-b": { "edgefleet.dev/device-ids": "b" },
    "team-c": { "edgefleet.dev/device-ids": "c" },
  });
  const { grants } = await filled(["team-a", "team-b"], transport);
  expect(mayUseDevice(grants("team-b"), "b")).toBe(true);
  expect(mayUseDevice(grants("team-c"), "c")).toBe(false);
  expect(transport.calls.map(({ path }) => path).sort()).toEqual([
    "/api/v1/namespaces?limit=500&fieldSelector=metadata.name%3Dteam-a",
    "/api/v1/namespaces?limit=500&fieldSelector=metadata.name%3Dteam-b",
  ]);
});
