import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createSimulator, type Endpoint, type Simulator } from "../../simulator/simulator.ts";
import { createHubClient, devicePath, type HubClient, type Reply, twinPath } from "./hub-client.ts";
import {
  type BulkEntry,
  canonical,
  createHubModel,
  type Draft,
  type Json,
  type Match,
  type Tree,
  type TwinModel,
  type TwinWrite,
  type Verdict,
} from "./hub-model.ts";

// Random requests, over HTTPS and through the vendor's client, next to a model of what Microsoft documents: every
// answer is compared, and after every request all that it can have touched. On failure fast-check prints the seed:
// SIMULATOR_SEED=… repeats the run, SIMULATOR_RUNS=… makes more of them.

const RUNS = Number(process.env["SIMULATOR_RUNS"] ?? 30);
const SEED = process.env["SIMULATOR_SEED"];
const REPLAY = { numRuns: RUNS, ...(SEED === undefined ? {} : { seed: Number(SEED) }) };

let simulator: Simulator;
let endpoint: Endpoint;
let clients: readonly HubClient[];

beforeAll(async () => {
  simulator = createSimulator({ throttling: false, autoStart: false, download: "skip" });
  endpoint = await simulator.start();
  clients = [createHubClient(endpoint), createHubClient(endpoint)];
});
afterAll(() => simulator.stop());

// Names that mean something to JavaScript, to URLs and to the query language are names like others.
const DEVICES = ["cam-1", "__proto__", "constructor", "a%2Fb?(1)"];
const MODULES = ["inference", "__proto__", "where"];
const CONFIGURATIONS = ["__proto__", "be+ta"];
const CONTENTS: readonly Json[] = [
  { deviceContent: { "properties.desired.x": 1 } },
  { deviceContent: { "properties.desired.__proto__": { y: 2 } } },
  { modulesContent: { $edgeAgent: {}, inference: { "properties.desired": {} } } },
];

const key = fc.oneof(
  { weight: 30, arbitrary: fc.constantFrom("a", "b", "c", "é", "__proto__", "constructor", "toString") },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      "a.b",
      "$x",
      "a b",
      "a#",
      "a\u0001",
      "a\u0085",
      "k".repeat(1024),
      "k".repeat(1025),
    ),
  },
);
const leaf: fc.Arbitrary<Json> = fc.oneof(
  {
    weight: 20,
    arbitrary: fc.constantFrom<Json>(0, 1, 2, 3, -1, 0.5, true, false, "x", "", "\u0007é", [], [1, "a"]),
  },
  { weight: 8, arbitrary: fc.constant<Json>(null) },
  {
    weight: 2,
    arbitrary: fc.constantFrom<Json>(
      4_503_599_627_370_495,
      -4_503_599_627_370_496,
      4_503_599_627_370_496,
      "x".repeat(4000),
      "x".repeat(4096),
      "é".repeat(2049),
      nested(10, 1),
      nested(10, {}),
      nested(9, {}),
      nested(11, 1),
      [1, null],
    ),
  },
);
const { tree } = fc.letrec<{ tree: Json; value: Json }>((tie) => ({
  value: fc.oneof({ weight: 3, arbitrary: leaf }, { weight: 1, arbitrary: tie("tree") }),
  tree: fc
    .uniqueArray(fc.tuple(key, tie("value")), { maxLength: 4, selector: ([name]) => name })
    .map((entries): Json => Object.fromEntries(entries)),
}));

function nested(levels: number, inner: Json): Json {
  let value = inner;
  for (let level = 0; level < levels; level += 1) value = { a: value };
  return value;
}

const match = fc.constantFrom<Match>("none", "none", "any", "right", "right", "stale");
const device = fc.constantFrom(...DEVICES);
const module = fc.option(fc.constantFrom(...MODULES), { freq: 3 });
const write: fc.Arbitrary<TwinWrite> = fc.oneof(
  tree.map((tags) => ({ tags })),
  tree.map((desired) => ({ desired })),
  fc.record({ tags: tree, desired: tree }),
);
const labels = fc.constantFrom<Readonly<Record<string, string>> | null>(null, { owner: "x" }, { owner: "y" });
const draft = fc.record({
  enabled: fc.boolean(),
  statusReason: fc.constantFrom(null, "spare", "é".repeat(128)),
});
const PLAIN: Draft = { enabled: true, statusReason: null };
const entry: fc.Arbitrary<BulkEntry> = fc.record({
  device,
  mode: fc.constantFrom("create", "Update", "UpdateIfMatchETag", "Delete", "DeleteIfMatchETag", "updateTwin"),
  match: fc.constantFrom("right", "stale"),
  tags: fc.constantFrom<Json>(null, { a: 1 }, JSON.parse('{"__proto__":2}')),
});
/** Conditions in the query language and what they mean. */
const CONDITIONS: readonly (readonly [string, (twin: TwinModel, id: string) => boolean])[] = [
  ["tags.a = 1", ({ tags }) => tags.get("a") === 1],
  ["IS_DEFINED(tags.b)", ({ tags }) => tags.has("b")],
  ["NOT IS_DEFINED(properties.desired.c)", ({ desired }) => !desired.has("c")],
  ["properties.reported.a >= 2", ({ reported }) => Number(numberAt(reported, "a")) >= 2],
  ["NOT (properties.reported.a >= 2)", ({ reported }) => Number(numberAt(reported, "a")) < 2],
  [
    "tags.a IN [1, 'x'] OR tags.__proto__ = 2",
    ({ tags }) => tags.get("a") === 1 || tags.get("a") === "x" || tags.get("__proto__") === 2,
  ],
  ["deviceId != 'cam-1'", (_twin, id) => id !== "cam-1"],
];

function numberAt(found: Tree, name: string): number {
  const value = found.get(name);
  return typeof value === "number" ? value : Number.NaN;
}

const operation = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("putDevice" as const), device, match, draft }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("removeDevice" as const), device, match }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("putModule" as const),
      device,
      module: fc.constantFrom(...MODULES),
      match,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("removeModule" as const),
      device,
      module: fc.constantFrom(...MODULES),
      match,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("bulk" as const),
      entries: fc.array(entry, { minLength: 1, maxLength: 4 }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("writeTwin" as const),
      device,
      module,
      write,
      match,
      replaces: fc.constantFrom(false, false, false, true),
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("report" as const), device, module, patch: tree }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("putConfiguration" as const),
      id: fc.constantFrom(...CONFIGURATIONS),
      content: fc.constantFrom(...CONTENTS),
      priority: fc.nat(3),
      labels,
      match,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("removeConfiguration" as const),
      id: fc.constantFrom(...CONFIGURATIONS),
      match,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("query" as const),
      condition: fc.constantFrom(...CONDITIONS),
      ofModules: fc.boolean(),
      size: fc.integer({ min: 1, max: 3 }),
    }),
  },
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

test("the hub does what is documented, whatever it is asked for, and in whatever order", async () => {
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(
      fc.array(operation, { minLength: 5, maxLength: 60, size: "max" }),
      async (operations) => {
        clearHub();
        const world = createWorld(seen);
        for (const id of DEVICES.slice(0, 3))
          await world.perform({ kind: "putDevice", device: id, match: "none", draft: PLAIN }, clients[0]!);
        for (const [index, asked] of operations.entries()) await world.perform(asked, clients[index % 2]!);
      },
    ),
    REPLAY,
  );
  // A property that never gets anywhere proves nothing.
  if (RUNS >= 100 && SEED === undefined)
    expect([...seen.keys()]).toEqual(
      expect.arrayContaining([
        "putDevice 200",
        "putDevice 404",
        "putDevice 409",
        "putDevice 412",
        "removeDevice 204",
        "removeDevice 412",
        "putModule 200",
        "writeTwin 200",
        "writeTwin 400",
        "writeTwin 412",
        "report 204",
        "report 400",
        "putConfiguration 200",
        "putConfiguration 400",
        "putConfiguration 412",
        "bulk 200",
        "bulk 400",
        "query of more than one page",
      ]),
    );
}, 600_000);

function clearHub(): void {
  const { registry, configurations } = simulator.hub;
  for (const { id } of configurations.list()) configurations.remove(id, null);
  for (const { deviceId } of [...registry.devices()]) registry.removeDevice(deviceId, null);
}

/** The model, what was seen of the hub, and the comparison of both. */
function createWorld(seen: Map<string, number>) {
  const model = createHubModel();
  const etags = new Map<string, string[]>();
  const versions = new Map<string, number>();
  const lives = new Map<string, number>();

  const count = (what: string) => seen.set(what, (seen.get(what) ?? 0) + 1);
  const current = (name: string) => etags.get(name)?.at(-1) ?? "";
  /** One that was good once, or one that never was. */
  const stale = (name: string) => etags.get(name)?.find((etag) => etag !== current(name)) ?? "AAAAAAAAAAA=";

  function header(name: string, wanted: Match): string | undefined {
    if (wanted === "none") return undefined;
    if (wanted === "any") return '"*"';
    return `"${wanted === "right" ? current(name) : stale(name)}"`;
  }

  async function perform(asked: Operation, client: HubClient): Promise<void> {
    switch (asked.kind) {
      case "putDevice": {
        const name = `device ${asked.device}`;
        const reply = await client.ask(
          "PUT",
          devicePath(asked.device),
          identityOf(asked.device, asked.draft),
          header(name, asked.match),
        );
        agree(asked.kind, reply, model.putDevice(asked.device, asked.draft, asked.match));
        return lookAtDevice(client, asked.device);
      }
      case "removeDevice": {
        const reply = await client.ask(
          "DELETE",
          devicePath(asked.device),
          undefined,
          header(`device ${asked.device}`, asked.match),
        );
        agree(asked.kind, reply, model.removeDevice(asked.device, asked.match));
        return lookAtDevice(client, asked.device);
      }
      case "putModule": {
        const name = `module ${asked.device}/${asked.module}`;
        const body = { deviceId: asked.device, moduleId: asked.module };
        const reply = await client.ask(
          "PUT",
          devicePath(asked.device, asked.module),
          body,
          header(name, asked.match),
        );
        agree(asked.kind, reply, model.putModule(asked.device, asked.module, asked.match));
        return lookAtDevice(client, asked.device);
      }
      case "removeModule": {
        const name = `module ${asked.device}/${asked.module}`;
        const reply = await client.ask(
          "DELETE",
          devicePath(asked.device, asked.module),
          undefined,
          header(name, asked.match),
        );
        agree(asked.kind, reply, model.removeModule(asked.device, asked.module, asked.match));
        return lookAtDevice(client, asked.device);
      }
      case "writeTwin": {
        const { write: written, replaces } = asked;
        const path = twinPath(asked.device, asked.module);
        const body = {
          ...(written.tags === undefined ? {} : { tags: written.tags }),
          ...(written.desired === undefined ? {} : { properties: { desired: written.desired } }),
        };
        const name = twinName(asked.device, asked.module);
        const reply = await client.ask(replaces ? "PUT" : "PATCH", path, body, header(name, asked.match));
        const twin = model.twinOf(asked.device, asked.module);
        const verdict = model.writeTwin(asked.device, asked.module, written, {
          match: asked.match,
          replaces,
        });
        agree(asked.kind, reply, verdict);
        if (twin !== undefined && verdict.code === "") checkTwin(reply.body, twin);
        return lookAtDevice(client, asked.device);
      }
      case "report":
        return report(asked.device, asked.module, asked.patch, client);
      case "bulk":
        return bulk(asked.entries, client);
      case "putConfiguration":
      case "removeConfiguration":
        return configuration(asked, client);
      case "query":
        return query(asked, client);
      default:
        asked satisfies never;
    }
  }

  /** A device can report only while it is enabled; a session of one that is not is refused. */
  async function report(id: string, moduleId: string | null, patch: Json, client: HubClient): Promise<void> {
    const listener = { desired: () => {}, closed: () => {} };
    const session = simulator.links.connect({ deviceId: id, moduleId }, listener, null);
    const isThere = model.devices.get(id)?.enabled === true && model.twinOf(id, moduleId) !== undefined;
    expect(session.ok).toBe(isThere);
    if (!session.ok) return;
    const done = simulator.links.report(session.value, patch as never);
    simulator.links.close(session.value);
    const verdict = model.report(id, moduleId, patch);
    count(`report ${verdict.status}`);
    expect(done.ok ? 204 : done.refusal.status).toBe(verdict.status);
    if (done.ok) expect(done.value).toBe(model.twinOf(id, moduleId)?.reportedVersion);
    return lookAtDevice(client, id);
  }

  async function bulk(entries: readonly BulkEntry[], client: HubClient): Promise<void> {
    const body = entries.map(({ device: id, mode, match: wanted, tags }): Json => {
      const name = `device ${id}`;
      return {
        id,
        importMode: mode,
        eTag: wanted === "right" ? current(name) : stale(name),
        ...(tags === null || (mode !== "create" && mode !== "updateTwin") ? {} : { tags }),
      };
    });
    const reply = await client.ask("POST", "/devices", body);
    const outcome = model.bulk(entries);
    if ("status" in outcome) {
      agree("bulk", reply, outcome);
    } else {
      count(`bulk ${reply.status}`);
      const answer = reply.body as {
        isSuccessful: boolean;
        errors: { deviceId: string; errorCode: string }[];
      };
      expect(reply.status).toBe(outcome.size === 0 ? 200 : 400);
      expect(answer.isSuccessful).toBe(outcome.size === 0);
      expect(new Map(answer.errors.map((error) => [error.deviceId, error.errorCode]))).toEqual(outcome);
    }
    for (const { device: id } of entries) await lookAtDevice(client, id);
  }

  async function configuration(
    asked: Extract<Operation, { kind: "putConfiguration" | "removeConfiguration" }>,
    client: HubClient,
  ): Promise<void> {
    const name = `configuration ${asked.id}`;
    const path = `/configurations/${encodeURIComponent(asked.id)}`;
    if (asked.kind === "removeConfiguration") {
      const reply = await client.ask("DELETE", path, undefined, header(name, asked.match));
      agree(asked.kind, reply, model.removeConfiguration(asked.id, asked.match));
    } else {
      const { id, content, priority, labels: given } = asked;
      const body = { id, schemaVersion: "1.0", content, priority, labels: given, targetCondition: "" };
      const reply = await client.ask("PUT", path, body, header(name, asked.match));
      agree(asked.kind, reply, model.putConfiguration(id, { content, priority, labels: given }, asked.match));
    }
    const reply = await client.ask("GET", path);
    const found = model.configurations.get(asked.id);
    expect(reply.status).toBe(found === undefined ? 404 : 200);
    const listed = (await client.ask("GET", "/configurations")).body as { id: string }[];
    expect(listed.map(({ id }) => id).sort()).toEqual([...model.configurations.keys()].sort());
    if (found === undefined) return;
    const body = reply.body as { content: Json; priority: number; labels: Json; etag: string };
    expect(canonical(body.content)).toBe(canonical(found.content));
    expect([body.priority, body.labels]).toEqual([found.priority, found.labels]);
    noteEtag(name, `${name} ${found.writes}`, body.etag, reply);
  }

  /** All pages of a query hold every twin that matches, once: what GET says now, queries say too. */
  async function query(asked: Extract<Operation, { kind: "query" }>, client: HubClient): Promise<void> {
    const [condition, matches] = asked.condition;
    const source = asked.ofModules ? "devices.modules" : "devices";
    const pages = client.registry.createQuery(`SELECT * FROM ${source} WHERE ${condition}`, asked.size);
    const rows: { deviceId: string; moduleId?: string; etag: string }[] = [];
    let turned = 0;
    for (let token: string | undefined; turned === 0 || token !== undefined; turned += 1) {
      const page = await (pages.next as (token?: string) => Promise<{ result: typeof rows }>)(token);
      expect(page.result.length).toBeLessThanOrEqual(asked.size);
      rows.push(...page.result);
      expect(rows.length).toBeLessThan(100);
      token = pages.hasMoreResults
        ? (pages as unknown as { continuationToken: string }).continuationToken
        : undefined;
    }
    if (turned > 1) count("query of more than one page");
    const found = rows.map((row) => twinName(row.deviceId, row.moduleId ?? null));
    expect(found.toSorted()).toEqual(
      twinsOf(asked.ofModules)
        .filter(({ id, twin }) => matches(twin, id))
        .map(({ name }) => name)
        .toSorted(),
    );
    for (const row of rows) {
      const twin = model.twinOf(row.deviceId, row.moduleId ?? null);
      if (twin !== undefined) checkTwin(row as Json, twin);
    }
  }

  function twinsOf(ofModules: boolean) {
    return [...model.devices].flatMap(([id, { twin, modules }]) =>
      ofModules
        ? [...modules].map(([name, found]) => ({ id, twin: found.twin, name: twinName(id, name) }))
        : [{ id, twin, name: twinName(id, null) }],
    );
  }

  function agree(what: Operation["kind"], reply: Reply, verdict: Verdict): void {
    count(`${what} ${verdict.status}`);
    expect({ status: reply.status, code: reply.code }).toEqual(verdict);
  }

  /** Everything that can be read of a device and its modules, beside what the model has of it. */
  async function lookAtDevice(client: HubClient, id: string): Promise<void> {
    const found = model.devices.get(id);
    const [identity, twin, modules] = await Promise.all([
      client.ask("GET", devicePath(id)),
      client.ask("GET", twinPath(id)),
      client.ask("GET", `${devicePath(id)}/modules`),
    ]);
    expect([identity.status, twin.status, modules.status]).toEqual(
      Array(3).fill(found === undefined ? 404 : 200),
    );
    const statistics = (await client.registry.getRegistryStatistics()).responseBody;
    const enabled = [...model.devices.values()].filter((one) => one.enabled).length;
    const total = model.devices.size;
    expect(statistics).toEqual({
      totalDeviceCount: total,
      enabledDeviceCount: enabled,
      disabledDeviceCount: total - enabled,
    });
    if (found === undefined) return;
    const body = identity.body as {
      status: string;
      statusReason: string | null;
      generationId: string;
      etag: string;
    };
    expect([body.status, body.statusReason]).toEqual([
      found.enabled ? "enabled" : "disabled",
      found.statusReason,
    ]);
    noteLife(`${body.generationId} of device`, found.life);
    noteEtag(`device ${id}`, `device ${found.life} ${found.writes}`, body.etag, identity);
    checkTwin(twin.body, found.twin);
    noteTwin(id, null, twin, found);
    const listed = modules.body as { moduleId: string; etag: string; generationId: string }[];
    expect(listed.map(({ moduleId }) => moduleId).sort()).toEqual([...found.modules.keys()].sort());
    for (const { moduleId, etag, generationId } of listed) {
      const inner = found.modules.get(moduleId)!;
      noteLife(`${generationId} of module`, inner.life);
      noteEtag(`module ${id}/${moduleId}`, `module ${inner.life} ${inner.writes}`, etag, null);
      const reply = await client.ask("GET", twinPath(id, moduleId));
      checkTwin(reply.body, inner.twin);
      noteTwin(id, moduleId, reply, inner);
    }
  }

  function noteTwin(
    id: string,
    moduleId: string | null,
    reply: Reply,
    found: { life: number; twin: TwinModel },
  ): void {
    const { etag, version } = reply.body as { etag: string; version: number };
    const name = twinName(id, moduleId);
    const state = `twin ${found.life} ${found.twin.writes}`;
    noteEtag(name, state, etag, reply);
    const before = versions.get(`twin ${found.life} ${found.twin.writes - 1}`);
    if (before !== undefined) expect(version).toBeGreaterThan(before);
    expect(versions.get(state) ?? version).toBe(version);
    versions.set(state, version);
  }

  /** One etag for one state of one life, and never the same for two of them. */
  function noteEtag(name: string, state: string, etag: string, reply: Reply | null): void {
    if (reply !== null) expect(reply.etag).toBe(`"${etag}"`);
    const known = etagStates.get(state);
    if (known !== undefined) expect(etag).toBe(known);
    else
      expect(etag).not.toBe(etagStates.get(state.replace(/[0-9]+$/, (writes) => String(Number(writes) - 1))));
    etagStates.set(state, etag);
    if (current(name) !== etag) etags.set(name, [...(etags.get(name) ?? []), etag]);
  }
  const etagStates = new Map<string, string>();

  function noteLife(generation: string, life: number): void {
    expect(lives.get(generation) ?? life).toBe(life);
    lives.set(generation, life);
  }

  return { perform };
}

function identityOf(deviceId: string, { enabled, statusReason }: Draft): Json {
  return {
    deviceId,
    status: enabled ? "enabled" : "disabled",
    ...(statusReason === null ? {} : { statusReason }),
  };
}

function twinName(id: string, moduleId: string | null): string {
  return moduleId === null ? `twin ${id}` : `twin ${id}/${moduleId}`;
}

type TwinBody = {
  readonly tags?: Json;
  readonly properties: { readonly desired: SectionBody; readonly reported: SectionBody };
};
type SectionBody = { readonly [name: string]: Json; readonly $version: number; readonly $metadata: Json };

function checkTwin(body: Json, twin: TwinModel): void {
  const { tags, properties } = body as unknown as TwinBody;
  // Without a tag there are no tags.
  expect(canonical(tags)).toBe(twin.tags.size === 0 ? "nothing" : canonical(twin.tags));
  for (const [section, value, version] of [
    [properties.desired, twin.desired, twin.desiredVersion],
    [properties.reported, twin.reported, twin.reportedVersion],
  ] as const) {
    const { $version, $metadata, ...rest } = section;
    expect(canonical(rest as Json)).toBe(canonical(value));
    expect($version).toBe(version);
    expect(shapeOf($metadata)).toBe(canonicalShape(rest as Json));
  }
}

/** Metadata is a tree beside the values: the same keys, and at every one of them when it was written. */
function shapeOf(metadata: Json): string {
  const { $lastUpdated, $lastUpdatedVersion: _, ...inner } = metadata as Record<string, Json>;
  expect(typeof $lastUpdated).toBe("string");
  return `{${Object.entries(inner)
    .map(([name, value]) => `${JSON.stringify(name)}${shapeOf(value)}`)
    .sort()
    .join()}}`;
}

function canonicalShape(value: Json): string {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return "{}";
  return `{${Object.entries(value)
    .map(([name, inner]) => `${JSON.stringify(name)}${canonicalShape(inner)}`)
    .sort()
    .join()}}`;
}
