import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createSimulator, type Endpoint, type Simulator } from "../../simulator/simulator.ts";
import {
  CONNACK,
  connectPacket,
  credentialsOf,
  published,
  publishPacket,
  type RawClient,
  rawClient,
  SUBACK,
  subscribePacket,
} from "../../simulator/testing/raw-mqtt.ts";
import { statusOf } from "../../simulator/testing/service-client.ts";
import { createHubClient, devicePath, type HubClient, type Reply, twinPath } from "./hub-client.ts";
import { canonical, type Json, merge, type Tree } from "./hub-model.ts";

// Many clients at once. What came of it must be what some order of the requests would have given: versions say which.
// SIMULATOR_SEED=… repeats a run whose seed fast-check printed, SIMULATOR_RUNS=… makes more of them.

const RUNS = Number(process.env["SIMULATOR_RUNS"] ?? 30);
const SEED = process.env["SIMULATOR_SEED"];
const REPLAY = { numRuns: RUNS, ...(SEED === undefined ? {} : { seed: Number(SEED) }) };

let simulator: Simulator;
let endpoint: Endpoint;
let clients: readonly HubClient[];
let made = 0;

beforeAll(async () => {
  simulator = createSimulator({ throttling: false, autoStart: false, download: "skip" });
  endpoint = await simulator.start();
  clients = Array.from({ length: 6 }, () => createHubClient(endpoint));
});
afterAll(() => simulator.stop());

async function newDevice(): Promise<string> {
  made += 1;
  await clients[0]!.registry.create({ deviceId: `cam-${made}` });
  return `cam-${made}`;
}

/** A device with its own connection over MQTT; `report` resolves with the version that the hub answers. */
async function deviceOf(deviceId: string) {
  const identity = simulator.hub.registry.get(deviceId, null);
  const key = identity?.authentication.symmetricKey.primaryKey ?? "";
  const client: RawClient = await rawClient(endpoint);
  client.send(connectPacket(credentialsOf(endpoint, deviceId, key)));
  expect((await client.next())?.type).toBe(CONNACK);
  client.send(subscribePacket("$iothub/twin/res/#"));
  expect((await client.next())?.type).toBe(SUBACK);
  const report = async (sent: Json): Promise<number> => {
    client.send(publishPacket("$iothub/twin/PATCH/properties/reported/?$rid=1", JSON.stringify(sent)));
    const answer = await client.next();
    const [, version] =
      /\/204\/\?\$rid=1&\$version=([0-9]+)$/.exec(answer === null ? "" : published(answer).topic) ?? [];
    return Number(version);
  };
  return { report, close: () => client.socket.destroy() };
}

test("increments that read, change and write under If-Match lose none, however many clients make them", async () => {
  const id = await newDevice();
  const device = await deviceOf(id);
  const increment = async ({ registry }: HubClient): Promise<void> => {
    for (;;) {
      const { tags, etag } = (await registry.getTwin(id)).responseBody as {
        tags?: { n?: number };
        etag: string;
      };
      const written = registry.updateTwin(id, { tags: { n: (tags?.n ?? 0) + 1 } } as never, etag);
      if (
        await written.then(
          () => true,
          () => false,
        )
      )
        return;
      expect(await statusOf(written)).toBe(412);
    }
  };
  const reports = Array.from({ length: 40 }, (_, n) => n);
  await Promise.all([
    ...clients.map(async (client) => {
      for (let time = 0; time < 10; time += 1) await increment(client);
    }),
    // Reports move no etag: they conflict with no other write.
    (async () => {
      for (const n of reports) expect(await device.report({ n })).toBe(n + 2);
    })(),
  ]);
  device.close();
  const twin = (await clients[0]!.registry.getTwin(id)).responseBody as unknown as {
    tags: { n: number };
    version: number;
    properties: { reported: { n: number; $version: number } };
  };
  expect(twin.tags.n).toBe(60);
  expect(twin.properties.reported).toMatchObject({ n: 39, $version: 41 });
});

const value = fc.constantFrom<Json>(null, 1, 2, { x: 1 }, { x: null, y: 2 }, { x: { z: 3 } });
const patch = fc.dictionary(fc.constantFrom("a", "b", "c"), value, { maxKeys: 3 });
const guard = fc.constantFrom("none", "any", "first");
const request = fc.oneof(
  { weight: 3, arbitrary: fc.record({ section: fc.constantFrom("tags", "desired"), patch, guard }) },
  {
    weight: 1,
    arbitrary: fc.record({ section: fc.constant("reported"), patch, guard: fc.constant("none") }),
  },
);
type TwinBody = {
  readonly etag: string;
  readonly version: number;
  readonly tags?: Json;
  readonly properties: { readonly desired: Json; readonly reported: Json };
};

test("writes of many clients and of the device come to what one order of them gives", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(request, { minLength: 4, maxLength: 24, size: "max" }), async (requests) => {
      const id = await newDevice();
      const device = await deviceOf(id);
      const first = (await clients[0]!.ask("GET", twinPath(id))).body as unknown as TwinBody;
      const reports: number[] = [];
      const ofDevice = requests.filter(({ section }) => section === "reported");
      const ofService = requests.filter(({ section }) => section !== "reported");
      const [answers] = await Promise.all([
        Promise.all(
          ofService.map(async ({ section, patch: sent, guard: how }, index) => {
            const body = section === "tags" ? { tags: sent } : { properties: { desired: sent } };
            const ifMatch = { none: undefined, any: '"*"', first: `"${first.etag}"` }[how];
            const reply = await clients[index % clients.length]!.ask(
              "PATCH",
              twinPath(id),
              body as Json,
              ifMatch,
            );
            return { section, sent: sent as Json, how, reply };
          }),
        ),
        (async () => {
          for (const { patch: sent } of ofDevice) reports.push(await device.report(sent as Json));
        })(),
      ]);
      device.close();
      expect(reports).toEqual(ofDevice.map((_, index) => index + 2));

      const bodyOf = (reply: Reply) => reply.body as unknown as TwinBody;
      const done = answers.filter(({ reply }) => reply.status === 200);
      const order = done.toSorted((a, b) => bodyOf(a.reply).version - bodyOf(b.reply).version);
      // Every write has a version of its own, and none is missing between them.
      expect(order.map(({ reply }) => bodyOf(reply).version)).toEqual(
        order.map((_, index) => first.version + index + 1),
      );
      expect(new Set([first.etag, ...order.map(({ reply }) => bodyOf(reply).etag)]).size).toBe(
        order.length + 1,
      );
      let tags: Tree = new Map();
      let desired: Tree = new Map();
      for (const [index, { section, sent, how, reply }] of order.entries()) {
        if (how === "first") expect(index).toBe(0);
        if (section === "tags") tags = merge(tags, sent);
        else desired = merge(desired, sent);
        const {
          $version: _,
          $metadata: __,
          ...had
        } = bodyOf(reply).properties.desired as Record<string, Json>;
        expect(canonical(had)).toBe(canonical(desired));
        expect(canonical(bodyOf(reply).tags ?? {})).toBe(canonical(tags));
      }
      for (const { how, reply } of answers.filter(({ reply: refused }) => refused.status !== 200)) {
        expect(reply.status).toBe(412);
        expect(how).toBe("first");
      }
      const { properties } = bodyOf(await clients[1]!.ask("GET", twinPath(id)));
      const {
        $version: version,
        $metadata: _metadata,
        ...reported
      } = properties.reported as Record<string, Json>;
      expect(version).toBe(ofDevice.length + 1);
      expect(canonical(reported)).toBe(
        canonical(ofDevice.reduce<Tree>((had, { patch: sent }) => merge(had, sent as Json), new Map())),
      );
    }),
    REPLAY,
  );
}, 600_000);

test("of many that create one device one does, and of many that update it under one etag one does", async () => {
  const path = devicePath("raced");
  const generations = new Set<string>();
  for (let round = 0; round < 5; round += 1) {
    const created = await Promise.all(clients.map(({ ask }) => ask("PUT", path, { deviceId: "raced" })));
    expect(created.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409, 409, 409]);
    const winner = created.find(({ status }) => status === 200)!;
    const { generationId } = winner.body as { generationId: string };
    generations.add(generationId);
    const updated = await Promise.all(
      clients.map(({ ask }, index) =>
        ask("PUT", path, { deviceId: "raced", statusReason: `${index}` }, winner.etag),
      ),
    );
    expect(updated.map(({ status }) => status).sort()).toEqual([200, 412, 412, 412, 412, 412]);
    const now = (await clients[0]!.ask("GET", path)).body as { statusReason: string };
    expect(now.statusReason).toBe(`${updated.findIndex(({ status }) => status === 200)}`);
    const removed = await Promise.all(clients.map(({ ask }) => ask("DELETE", path, undefined, '"*"')));
    expect(removed.map(({ status }) => status).sort()).toEqual([204, 404, 404, 404, 404, 404]);
  }
  expect(generations.size).toBe(5);
});

test("paging shows everything once to each of many clients, whatever the size of their pages", async () => {
  const { registry } = clients[0]!;
  for (let from = 0; from < 300; from += 100)
    await registry.addDevices(
      Array.from({ length: 100 }, (_, index) => ({ deviceId: `page-${from + index}` })) as never,
    );
  const everything = Array.from({ length: 300 }, (_, index) => `page-${index}`).sort();
  const text = "SELECT deviceId FROM devices WHERE STARTSWITH(deviceId, 'page-')";
  await Promise.all(
    clients.map(async (client, index) => {
      const pages = client.registry.createQuery(text, [1, 7, 100, 299, 300, 301][index]!);
      const found: string[] = [];
      let token: string | undefined;
      do {
        const page = await (pages.next as (token?: string) => Promise<{ result: { deviceId: string }[] }>)(
          token,
        );
        found.push(...page.result.map(({ deviceId }) => deviceId));
        expect(found.length).toBeLessThanOrEqual(300);
        token = (pages as unknown as { continuationToken?: string }).continuationToken;
      } while (pages.hasMoreResults);
      expect(found.toSorted()).toEqual(everything);
    }),
  );
});
