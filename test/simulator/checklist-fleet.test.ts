import { describe, expect, test } from "vitest";
import type { SimulatorSetup } from "../../simulator/simulator.ts";
import { codeOf, standard, startHub } from "./checklist-hub.ts";
import type { Reply } from "./hub-client.ts";
import type { Json } from "./hub-model.ts";

// What a simulated hub must do before tests against it mean anything: one block for each subject, each clause a test.
// The rooms of the simulator test their own matters in depth; this is the whole, seen from outside.

describe("6. Twins: versions, etags, times, deletions, and limits of size, depth and characters", () => {
  type TwinBody = {
    readonly etag: string;
    readonly version: number;
    readonly tags?: Json;
    readonly properties: { readonly desired: Record<string, Json> };
  };
  const bodyOf = ({ body }: Reply) => body as unknown as TwinBody;

  test("counters, etags and times move with what is written, a patch without a change too", async () => {
    const { ask, advance } = await startHub({ clock: "virtual" });
    await ask("PUT", "/devices/d", {});
    const first = bodyOf(await ask("GET", "/twins/d"));
    expect([first.etag, first.properties.desired["$version"]]).toEqual(["AAAAAAAAAAE=", 1]);
    await ask("PATCH", "/twins/d", { properties: { desired: { a: { b: 1, c: 2 }, d: 1 } } });
    await advance(60_000);
    const second = bodyOf(await ask("PATCH", "/twins/d", { properties: { desired: { a: { b: null } } } }));
    expect(second).toMatchObject({ etag: "AAAAAAAAAAM=", version: first.version + 2 });
    const { $metadata, $version, ...values } = second.properties.desired;
    expect([values, $version]).toEqual([{ a: { c: 2 }, d: 1 }, 3]);
    const times = $metadata as {
      readonly $lastUpdated: string;
      readonly a: { $lastUpdated: string; c: { $lastUpdated: string } };
    };
    expect(times.a.$lastUpdated).toBe(times.$lastUpdated);
    expect(Date.parse(times.$lastUpdated) - Date.parse(times.a.c.$lastUpdated)).toBe(60_000);
    const again = bodyOf(await ask("PATCH", "/twins/d", { properties: { desired: { d: 1 } } }));
    expect([again.properties.desired["$version"], again.etag]).toEqual([4, "AAAAAAAAAAQ="]);
    const tagged = bodyOf(await ask("PATCH", "/twins/d", { tags: { t: 1 } }));
    expect([tagged.properties.desired["$version"], tagged.tags]).toEqual([4, { t: 1 }]);
    expect(bodyOf(await ask("PATCH", "/twins/d", { tags: { t: null } }))).not.toHaveProperty("tags");
    const replaced = bodyOf(await ask("PUT", "/twins/d", { properties: { desired: { z: 1 } } }));
    expect(replaced.properties.desired).toMatchObject({ z: 1, $version: 5 });
    expect(replaced.properties.desired).not.toHaveProperty("a");
    expect(codeOf(await ask("PATCH", "/twins/d", {}, '"AAAAAAAAAAE="'))).toBe("412 PreconditionFailed");
  });

  const nested = (levels: number): Json => (levels === 0 ? 1 : { a: nested(levels - 1) });
  test.each<[string, Json, Json]>([
    [
      "tags of more than 8 KB",
      { tags: { a: "x".repeat(4096), b: "x".repeat(4090) } },
      { tags: { a: "x".repeat(4096), b: "x".repeat(4096) } },
    ],
    ["desired of more than 32 KB", desired(parts(7)), desired(parts(8))],
    ["text of more than 4 KB", { tags: { a: "x".repeat(4096) } }, { tags: { a: "x".repeat(4097) } }],
    ["a key of more than 1 KB", { tags: { ["x".repeat(1024)]: 1 } }, { tags: { ["x".repeat(1025)]: 1 } }],
    ["more than ten levels", { tags: nested(11) }, { tags: nested(12) }],
    ["an integer out of range", { tags: { a: 4503599627370495 } }, { tags: { a: 4503599627370496 } }],
    ["an integer below the range", { tags: { a: -4503599627370496 } }, { tags: { a: -4503599627370497 } }],
    ["a dot in a key", { tags: { "a-b": 1 } }, { tags: { "a.b": 1 } }],
    ["a dollar in a key", desired({ a: 1 }), desired({ a$: 1 })],
    ["a blank in a key", desired({ ä: 1 }), desired({ "a b": 1 })],
    ["a control character in a key", desired({ "ü-1": 1 }), desired({ "a\u0007": 1 })],
    ["a # in a key", desired({ "a/b": 1 }), desired({ "a#": 1 })],
    ["null in an array", desired({ a: [1, "x"] }), desired({ a: [null] })],
  ])("%s", async (_what, good, bad) => {
    const { ask } = await startHub();
    await ask("PUT", "/devices/d", {});
    expect(codeOf(await ask("PATCH", "/twins/d", good))).toBe("200");
    expect(codeOf(await ask("PATCH", "/twins/d", bad))).toBe("400 ArgumentInvalid");
  });

  function desired(value: Json): Json {
    return { properties: { desired: value } };
  }
  function parts(count: number): Json {
    return Object.fromEntries(Array.from({ length: count }, (_, n) => [`p${n}`, "x".repeat(4096)]));
  }
});

describe("7. An edge device has its runtime's modules and a scope, and a manifest makes its modules", () => {
  test("by creation and by applied content", async () => {
    const { ask } = await startHub();
    const created = await ask("PUT", "/devices/edge", { capabilities: { iotEdge: true } });
    expect((created.body as { deviceScope: string }).deviceScope).toMatch(
      /^ms-azure-iot-edge:\/\/edge-\d{18}$/,
    );
    const modules = async () =>
      ((await ask("GET", "/devices/edge/modules")).body as unknown as { moduleId: string }[]).map(
        ({ moduleId }) => moduleId,
      );
    expect(await modules()).toEqual(["$edgeAgent", "$edgeHub"]);
    const content = standard({ filter: {}, upload: {} });
    expect((await ask("POST", "/devices/edge/applyConfigurationContent", content)).status).toBe(204);
    expect(await modules()).toEqual(["$edgeAgent", "$edgeHub", "filter", "upload"]);
  });
});

describe("8. Configurations: what cannot be changed, ids, target conditions, how many, labels, metrics", () => {
  const content = { deviceContent: { "properties.desired.a": 1 } };

  test("content and id stay, everything else may change under an etag", async () => {
    const { ask } = await startHub();
    const created = await ask("PUT", "/configurations/c", { content, labels: {} });
    expect(created.body).toMatchObject({
      id: "c",
      labels: null,
      targetCondition: "",
      priority: 0,
      etag: "MQ==",
      contentType: null,
      schemaVersion: "1.0",
    });
    const other = { deviceContent: { "properties.desired.a": 2 } };
    expect(codeOf(await ask("PUT", "/configurations/c", { content: other }, '"*"'))).toBe(
      "400 CannotModifyImmutableConfigurationContent",
    );
    const changed = {
      content,
      priority: 9,
      labels: { a: "b" },
      targetCondition: "tags.x = 1",
      metrics: { queries: { n: "SELECT deviceId FROM devices" } },
    };
    expect((await ask("PUT", "/configurations/c", changed, '"MQ=="')).body).toMatchObject({
      priority: 9,
      labels: { a: "b" },
      targetCondition: "tags.x = 1",
    });
  });

  test.each(["Upper", "a b", "a&b", "a^b", "a<b", "ä", "x".repeat(129)])(
    "the id %s is refused",
    async (id) => {
      const { ask } = await startHub();
      expect(codeOf(await ask("PUT", `/configurations/${encodeURIComponent(id)}`, { content }))).toBe(
        "400 ArgumentInvalid",
      );
    },
  );

  test.each([
    "deviceId IN ['a', 'b']",
    'tags.site = "a"',
    "properties.desired.a = 1",
    "STARTSWITH(deviceId, 'a')",
    "status = 'enabled'",
    "tags.a = ",
    "tags.a = 'é'",
  ])("the condition %s is refused, and by testQueries too", async (targetCondition) => {
    const { ask } = await startHub();
    expect(codeOf(await ask("PUT", "/configurations/c", { content, targetCondition }))).toBe(
      "400 InvalidConfigurationTargetCondition",
    );
    const customMetricQueries = {
      good: "SELECT deviceId FROM devices WHERE deviceId IN ['a']",
      bad: "SELECT",
    };
    expect(
      (await ask("POST", "/configurations/testQueries", { targetCondition, customMetricQueries })).body,
    ).toEqual({
      targetConditionError: expect.stringContaining("deviceId, tags or properties.reported"),
      customMetricQueryErrors: { bad: expect.any(String) },
    });
  });

  test.each([
    "deviceId = 'd' AND (tags.site <> 'a''b' OR NOT tags.n >= 1.5)",
    "IS_DEFINED(tags.[[odd name]]) and properties.reported.ok = true",
    "*",
    "",
  ])("the condition %s is accepted", async (targetCondition) => {
    const { ask } = await startHub();
    expect((await ask("PUT", "/configurations/c", { content, targetCondition })).status).toBe(200);
  });

  test("five custom metrics, a hundred configurations, ten of them on a free hub", async () => {
    const { ask } = await startHub();
    const metrics = (count: number) => ({
      queries: Object.fromEntries(
        Array.from({ length: count }, (_, n) => [`m${n}`, "SELECT deviceId FROM devices"]),
      ),
    });
    expect(codeOf(await ask("PUT", "/configurations/c", { content, metrics: metrics(6) }))).toBe(
      "400 InvalidConfigurationCustomMetricsQuery",
    );
    expect((await ask("PUT", "/configurations/c", { content, metrics: metrics(5) })).status).toBe(200);
    const free = await startHub({ tier: "F1", throttling: false });
    const filled = async (asked: typeof ask, from: number, to: number) => {
      for (let n = from; n < to; n++)
        expect((await asked("PUT", `/configurations/n${n}`, { content })).status).toBe(200);
      return codeOf(await asked("PUT", "/configurations/one-more", { content }));
    };
    expect(await filled(free.ask, 0, 10)).toBe("413 ConfigurationCountLimitExceeded");
    const paid = await startHub({ throttling: false });
    expect(await filled(paid.ask, 0, 100)).toBe("413 ConfigurationCountLimitExceeded");
  });

  test("metrics have no results before the first evaluation, and names and numbers after it", async () => {
    const { ask, advance } = await startHub({ clock: "virtual", evaluationDelay: 30_000 });
    await ask("PUT", "/devices/d", {});
    const metrics = { queries: { all: "SELECT deviceId FROM devices" } };
    await ask("PUT", "/configurations/c", { content, targetCondition: "*", metrics });
    const resultsOf = async () => {
      const { metrics: custom, systemMetrics: system } = (await ask("GET", "/configurations/c"))
        .body as Record<string, { results: Json }>;
      return [custom?.results, system?.results];
    };
    expect(await resultsOf()).toEqual([{}, {}]);
    await advance(30_000);
    expect(await resultsOf()).toEqual([{ all: 1 }, { targetedCount: 1, appliedCount: 1 }]);
  });
});

describe("9. Evaluation: after a change and every five minutes, by priority, with layers, and back again", () => {
  const MINUTES = 60_000;

  async function edgeHub(setup: SimulatorSetup = {}) {
    const started = await startHub({ clock: "virtual", throttling: false, ...setup });
    const { ask, hub } = started;
    await ask("PUT", "/devices/edge", { capabilities: { iotEdge: true } });
    await ask("PATCH", "/twins/edge", { tags: { site: "a" } });
    const put = async (id: string, priority: number, targetCondition: string, content: Json) =>
      expect((await ask("PUT", `/configurations/${id}`, { priority, targetCondition, content })).status).toBe(
        200,
      );
    const section = (module: string) => hub.twins.get(`edge/${module}`)!.desired;
    const statuses = async (module: string) => {
      const { body } = await ask("GET", `/twins/edge/modules/${encodeURIComponent(module)}`);
      return (body as { configurations?: Json }).configurations ?? {};
    };
    const tag = (site: string) => ask("PATCH", "/twins/edge", { tags: { site } });
    return { ...started, put, section, statuses, tag };
  }
  const layer = (value: Json): Json => ({
    modulesContent: { $edgeAgent: {}, filter: { "properties.desired.level": value } },
  });

  test("a change of a tag is found five minutes later at the latest, a new configuration at once", async () => {
    const { put, section, tag, advance } = await edgeHub();
    await put("base", 10, "*", standard({ filter: {} }));
    await put("layer", 20, "tags.site = 'b'", layer(1));
    expect(section("filter").value).toEqual({});
    await advance(60_000);
    await tag("b");
    await advance(4 * MINUTES - 1);
    expect(section("filter").value).toEqual({});
    await advance(1);
    expect(section("filter").value).toEqual({ level: 1 });
  });

  test("the highest base is Applied and the others Targeted; layers go on top of it by priority", async () => {
    const { put, section, statuses } = await edgeHub();
    await put("base", 10, "*", standard({ filter: {} }));
    await put("better", 11, "*", standard({ filter: { version: "2" } }));
    await put("low", 20, "*", layer(1));
    await put("high", 30, "*", layer(2));
    await put("below", 11, "*", layer(3));
    expect(await statuses("$edgeAgent")).toMatchObject({
      base: { status: "Targeted" },
      better: { status: "Applied" },
    });
    expect(await statuses("filter")).toEqual({ low: { status: "Applied" }, high: { status: "Applied" } });
    expect(section("filter").value).toEqual({ level: 2 });
    expect(section("$edgeAgent").value).toHaveProperty("modules.filter.version", "2");
  });

  test("when one goes the next applies; when none is left everything stays as it is", async () => {
    const { put, section, ask } = await edgeHub();
    await put("old", 10, "*", standard({ filter: { version: "1" } }));
    await put("new", 11, "*", standard({ filter: { version: "2" } }));
    await ask("DELETE", "/configurations/new");
    expect(section("$edgeAgent").value).toHaveProperty("modules.filter.version", "1");
    const { version } = section("$edgeAgent");
    await ask("DELETE", "/configurations/old");
    expect(section("$edgeAgent")).toMatchObject({
      version,
      value: { modules: { filter: { version: "1" } } },
    });
  });

  test.each([
    [false, 0],
    [true, 1],
  ])(
    "the deletion of another deployment sends the same again under a new $version, where asked for: %s",
    async (repushOnDelete, bumps) => {
      const { put, section, ask } = await edgeHub({ repushOnDelete });
      await put("idle", 5, "*", standard({}));
      await put("base", 10, "*", standard({ filter: {} }));
      const before = section("$edgeAgent");
      await ask("DELETE", "/configurations/idle");
      expect(section("$edgeAgent")).toMatchObject({ version: before.version + bumps, value: before.value });
    },
  );

  test.each(["remove", "keep"] as const)(
    "a layer that no longer targets the device: %s",
    async (untargetedLayer) => {
      const { put, section, tag, hub } = await edgeHub({ untargetedLayer });
      await put("base", 10, "*", standard({ filter: {} }));
      await put("layer", 20, "tags.site = 'a'", layer(1));
      await tag("b");
      hub.evaluate();
      expect(section("filter").value).toEqual(untargetedLayer === "keep" ? { level: 1 } : {});
    },
  );

  test.each(["newestOnly", "perPath"] as const)(
    "two layers of one priority: %s",
    async (equalPriorityLayers) => {
      const { put, section } = await edgeHub({ equalPriorityLayers });
      await put("base", 10, "*", standard({ filter: {} }));
      await put("one", 20, "*", layer(1));
      await put("two", 20, "*", {
        modulesContent: { $edgeAgent: {}, filter: { "properties.desired.rate": 5 } },
      });
      expect(section("filter").value).toEqual(
        equalPriorityLayers === "perPath" ? { level: 1, rate: 5 } : { rate: 5 },
      );
    },
  );

  test("configurations of devices meet path by path, and what is taken away is the next one's", async () => {
    const { put, ask, hub } = await edgeHub();
    const twin = () => hub.twins.get("edge")!.desired.value;
    await put("low", 1, "*", { deviceContent: { "properties.desired.a": 1, "properties.desired.b": 1 } });
    await put("high", 2, "*", { deviceContent: { "properties.desired.a": 2 } });
    expect(twin()).toEqual({ a: 2, b: 1 });
    await ask("DELETE", "/configurations/high");
    expect(twin()).toEqual({ a: 1, b: 1 });
  });
});
