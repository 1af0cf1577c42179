import fc from "fast-check";
import jsonpatch from "fast-json-patch";
import { describe, expect, test } from "vitest";
import { createFakeRuntime } from "../../test/fakes/fake-runtime.ts";
import { createFakeTransport } from "../../test/fakes/fake-transport.ts";
import { FINALIZER, objectKey, type Resource } from "../api/resource.ts";
import { err, ok } from "../base/result.ts";
import { createProjection, createResources, finalizerPatch, statusPatch } from "./resources.ts";

type Tree = { readonly [key: string]: unknown };

const tree: fc.Arbitrary<Tree> = fc.letrec<{ readonly node: unknown; readonly tree: Tree }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 4 },
    fc.string({ maxLength: 4 }),
    fc.integer(),
    fc.boolean(),
    fc.constant(undefined),
    fc.array(
      tie("node").filter((value) => value !== undefined),
      { maxLength: 4 },
    ),
    tie("tree"),
  ),
  tree: fc.dictionary(fc.constantFrom("a", "b", "c~/d", "e", "conditions"), tie("node"), { maxKeys: 4 }),
})).tree;

const asJson = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

describe("the patch of a status", () => {
  test("turns the old status into the new one, whatever they are", () => {
    fc.assert(
      fc.property(fc.option(tree, { nil: null }), tree, (before, next) => {
        const had = before === null ? null : (asJson(before) as Tree);
        const object = had === null ? {} : { status: had };
        const patched = jsonpatch.applyPatch(asJson(object), [...statusPatch(had, next)], true).newDocument;
        expect(patched).toEqual({ status: asJson(next) });
      }),
    );
  });

  test("is empty when they are equal, in any order, with or without empty keys", () => {
    fc.assert(
      fc.property(tree, (status) => {
        const reversed = Object.fromEntries(Object.entries(status).reverse());
        expect(statusPatch(asJson(status), { ...reversed, nothing: undefined })).toEqual([]);
      }),
    );
  });

  test("touches nothing but the status", () => {
    const paths = statusPatch({ a: 1, b: [1, 2] }, { b: [1], c: { d: 1 } }).map(({ path }) => path);
    expect(paths.every((path) => path.startsWith("/status/"))).toBe(true);
    expect(statusPatch(null, { a: 1 })).toEqual([{ op: "add", path: "/status", value: { a: 1 } }]);
  });
});

describe("the patch of the finalizers", () => {
  test.each([
    ["adds ours where there are none", [], "add", [FINALIZER]],
    ["adds ours after others", ["x/y"], "add", ["x/y", FINALIZER]],
    ["removes ours alone", ["x/y", FINALIZER, "z/z"], "remove", ["x/y", "z/z"]],
  ] as const)("%s", (_what, had, on, wanted) => {
    const metadata = had.length === 0 ? {} : { finalizers: [...had] };
    const patched = jsonpatch.applyPatch({ metadata }, [...finalizerPatch(had, on)], true).newDocument;
    expect(patched).toEqual({ metadata: { finalizers: wanted } });
  });

  test("is empty when nothing has to change", () => {
    expect(finalizerPatch([FINALIZER], "add")).toEqual([]);
    expect(finalizerPatch(["x/y"], "remove")).toEqual([]);
  });
});

describe("the projection", () => {
  const project = createProjection<Tree, Tree>();
  const raw = (change: Tree = {}) => ({
    apiVersion: "edgefleet.dev/v1alpha1",
    kind: "EdgeDevice",
    metadata: {
      name: "cam-1",
      namespace: "plant-a",
      uid: "u-1",
      generation: 3,
      creationTimestamp: "2026-01-01T00:00:07Z",
      resourceVersion: "17",
      labels: { site: "a" },
      annotations: { "edgefleet.dev/retry": "1", "kubectl.kubernetes.io/last-applied-configuration": "{…}" },
      managedFields: [{ manager: "kubectl" }],
      ...change,
    },
    spec: { deviceClass: "x" },
  });

  test("keeps what the operator reads, and only its own annotations", () => {
    expect(project(raw())).toEqual({
      key: objectKey("plant-a", "cam-1"),
      namespace: "plant-a",
      name: "cam-1",
      uid: "u-1",
      generation: 3,
      createdAt: Date.parse("2026-01-01T00:00:07Z"),
      resourceVersion: "17",
      deleting: false,
      finalizers: [],
      labels: { site: "a" },
      annotations: { "edgefleet.dev/retry": "1" },
      spec: { deviceClass: "x" },
      status: null,
    });
  });

  test("takes a status that only the API server's default has filled in for none", () => {
    expect(project({ ...raw(), status: { observedGeneration: -1 } }).status).toBeNull();
    const kept = { observedGeneration: -1, bucket: 7 };
    expect(project({ ...raw(), status: kept }).status).toEqual(kept);
  });

  test("leaves spec and status as they are", () => {
    fc.assert(
      fc.property(tree, tree, (spec, status) => {
        const given = { ...raw(), spec: asJson(spec), status: asJson(status) };
        const cached = project(structuredClone(given));
        expect([cached.spec, cached.status]).toEqual([given.spec, given.status]);
      }),
    );
  });

  test("sees a deletion and the finalizers that delay it", () => {
    const deleting = project(
      raw({ deletionTimestamp: "2026-01-01T00:00:00Z", finalizers: [FINALIZER, "x/y"] }),
    );
    expect(deleting).toMatchObject({ deleting: true, finalizers: [FINALIZER, "x/y"] });
  });
});

describe("the resources of a kind", () => {
  const rawDevice = (namespace: string, name: string) => ({
    metadata: { namespace, name, uid: `${namespace}-${name}`, resourceVersion: "1" },
    spec: {},
  });

  async function start(namespaces: readonly string[] | null) {
    const runtime = createFakeRuntime();
    const transport = createFakeTransport(async ({ path }) => {
      const all = [
        rawDevice("a", "one"),
        rawDevice("a", "two"),
        rawDevice("b", "one"),
        rawDevice("c", "one"),
      ];
      const asked = /namespaces\/([^/]+)\//.exec(path)?.[1];
      const items = all.filter(({ metadata }) => asked === undefined || metadata.namespace === asked);
      return ok({ metadata: { resourceVersion: "5" }, items });
    });
    const devices = createResources<object, object>(
      transport,
      { plural: "edgedevices", namespaces },
      runtime,
    );
    const stop = new AbortController();
    const ended = devices.run(stop.signal);
    expect(devices.isSynced()).toBe(false);
    await devices.synced(stop.signal);
    expect(devices.isSynced()).toBe(true);
    stop.abort();
    await ended;
    return { devices, paths: transport.calls.map(({ path }) => path.split("?")[0]) };
  }
  const keys = (all: readonly { readonly key: string }[]) => all.map(({ key }) => key);

  test("are those of all namespaces, in one list", async () => {
    const { devices, paths } = await start(null);
    expect(paths).toEqual(["/apis/edgefleet.dev/v1alpha1/edgedevices"]);
    expect(keys(devices.list())).toEqual(["a/one", "a/two", "b/one", "c/one"]);
    expect(keys(devices.list("a"))).toEqual(["a/one", "a/two"]);
    expect(devices.get(objectKey("c", "one"))?.uid).toBe("c-one");
  });

  test("are those of the namespaces that are watched, each listed on its own", async () => {
    const { devices, paths } = await start(["a", "b"]);
    expect(paths).toEqual([
      "/apis/edgefleet.dev/v1alpha1/namespaces/a/edgedevices",
      "/apis/edgefleet.dev/v1alpha1/namespaces/b/edgedevices",
    ]);
    expect(keys(devices.list())).toEqual(["a/one", "a/two", "b/one"]);
    expect(keys(devices.list("b"))).toEqual(["b/one"]);
    expect(devices.list("c")).toEqual([]);
    expect(devices.get(objectKey("b", "one"))?.uid).toBe("b-one");
    expect(devices.get(objectKey("c", "one"))).toBeUndefined();
  });
});

describe("a write to an object that is gone", () => {
  const device = {
    ...{ key: objectKey("a", "one"), namespace: "a", name: "one", uid: "u", resourceVersion: "1" },
    ...{ deleting: true, finalizers: [FINALIZER], status: null },
  } as unknown as Resource<object, object>;
  const gone = createResources<object, object>(
    createFakeTransport(async () => err({ kind: "missing", message: "PATCH /x: 404 not found" })),
    { plural: "edgedevices", namespaces: null },
    createFakeRuntime(),
  );
  const signal = new AbortController().signal;

  test("is no failure where the finalizer was to be removed: the cache lags behind the deletion", async () => {
    expect(await gone.setFinalizer(device, "remove", signal)).toEqual({ ok: true, value: device });
  });

  test("is a conflict where something was to be added", async () => {
    const fresh = { ...device, finalizers: [] };
    for (const written of [
      await gone.setFinalizer(fresh, "add", signal),
      await gone.writeStatus(device, {}, signal),
    ])
      expect(written).toMatchObject({ ok: false, error: { kind: "conflict" } });
  });
});
