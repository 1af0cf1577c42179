import fc from "fast-check";
import { expect, test } from "vitest";
import { createManualClock } from "../../base/clock.ts";
import type { JsonObject } from "../../base/json.ts";
import { createSimulator, type SimulatorSetup } from "../../simulator.ts";

function startHub(setup: SimulatorSetup = {}) {
  const clock = createManualClock(Date.parse("2026-03-01T12:00:00Z"));
  const simulator = createSimulator({ clock, autoStart: false, ...setup });
  const { hub } = simulator;
  const add = (device: string, tags: JsonObject = {}, iotEdge = false) => {
    hub.registry.putDevice(device, { capabilities: { iotEdge } }, null);
    hub.twins.patch(device, { tags, desired: null }, null);
  };
  const all = (text: string, size = 100): JsonObject[] => {
    const rows: JsonObject[] = [];
    let continuation: string | null = null;
    do {
      const page = hub.index.query(text, { size, continuation });
      if (!page.ok) throw new Error(page.refusal.message);
      rows.push(...page.value.rows);
      continuation = page.value.continuation;
    } while (continuation !== null);
    return rows;
  };
  return { ...simulator, add, all };
}

test.each<[string, readonly string[]]>([
  ["SELECT deviceId FROM devices", ["a", "b", "c"]],
  ["select deviceid from devices where tags.n > 1", ["b", "c"]],
  ["SELECT deviceId FROM devices WHERE tags.n IN [1, 3]", ["a", "c"]],
  ["SELECT deviceId FROM devices WHERE tags.n NIN [1, 3]", ["b"]],
  ["SELECT deviceId FROM devices WHERE tags.n * 2 + 1 = 5", ["b"]],
  ["SELECT deviceId FROM devices WHERE tags.site = \"x\" OR deviceId = 'c'", ["a", "c"]],
  ["SELECT deviceId FROM devices WHERE NOT IS_DEFINED(tags.site)", ["b", "c"]],
  ["SELECT deviceId FROM devices WHERE NOT tags.site = 'y'", ["a"]],
  ["SELECT deviceId FROM devices WHERE STARTSWITH(tags.[[group]], 'gr')", ["b"]],
  ["SELECT deviceId FROM devices WHERE tags.it = 'it\\'s'", ["c"]],
  ["SELECT TOP 2 deviceId FROM devices", ["a", "b"]],
  ["SELECT deviceId FROM devices WHERE capabilities.iotEdge = true", ["c"]],
  ["SELECT deviceId FROM devices.modules WHERE moduleId = '$edgeHub'", ["c"]],
  [
    "SELECT deviceId FROM devices.modules WHERE properties.desired.$version = 1 AND moduleId = '$edgeAgent'",
    ["c"],
  ],
])("%s", (text, wanted) => {
  const { add, all } = startHub();
  add("a", { n: 1, site: "x" });
  add("b", { n: 2, group: "green" });
  add("c", { n: 3, it: "it's" }, true);
  expect(all(text, 1).map((row) => row["deviceId"])).toEqual(wanted);
});

test.each([
  "SELECT",
  "SELECT * FROM twins",
  "SELECT * FROM devices WHERE",
  "SELECT * FROM devices ORDER BY deviceId",
  "SELECT * FROM devices WHERE tags.group = 1",
  "SELECT * FROM devices WHERE site = 1",
  "SELECT deviceId, COUNT() AS n FROM devices",
  "SELECT * FROM devices WHERE LOWER(deviceId) = 'a'",
  "SELECT COUNT() AS n FROM devices.modules GROUP BY deviceId",
  `SELECT * FROM devices WHERE deviceId = '${"x".repeat(8192)}'`,
])("refused: %s", (text) => {
  const { hub } = startHub();
  expect(hub.index.query(text, { size: 1, continuation: null })).toMatchObject({
    ok: false,
    refusal: { status: 400, code: "ArgumentInvalid" },
  });
});

test("aggregates count, sum and group", () => {
  const { add, all } = startHub();
  add("a", { n: 1, site: "x" });
  add("b", { n: 2, site: "x" });
  add("c", { n: 9, site: "y" });
  add("d");
  expect(all("SELECT COUNT() AS n FROM devices")).toEqual([{ n: 4 }]);
  expect(
    all(
      "SELECT tags.site AS site, COUNT() AS n, SUM(tags.n) AS s, AVG(tags.n) AS a, MIN(tags.n) AS l, MAX(tags.n) AS m FROM devices GROUP BY tags.site",
      1,
    ),
  ).toEqual([
    { site: "x", n: 2, s: 3, a: 1.5, l: 1, m: 2 },
    { site: "y", n: 1, s: 9, a: 9, l: 9, m: 9 },
  ]);
  expect(all("SELECT COUNT() AS n FROM devices WHERE tags.n > 100")).toEqual([{ n: 0 }]);
});

test("queries are behind by the staleness, and a twin never is", async () => {
  const { add, all, hub, advance } = startHub({ queryStaleness: 5000 });
  add("a", { n: 1 });
  expect(all("SELECT * FROM devices")).toEqual([]);
  await advance(5000);
  hub.twins.patch("a", { tags: { n: 2 }, desired: null }, null);
  expect(all("SELECT tags.n AS n FROM devices")).toEqual([{ n: 1 }]);
  expect(hub.twins.get("a")?.tags).toEqual({ n: 2 });
  await advance(5000);
  expect(all("SELECT tags.n AS n FROM devices")).toEqual([{ n: 2 }]);
  hub.registry.removeDevice("a", null);
  expect(all("SELECT tags.n AS n FROM devices")).toEqual([{ n: 2 }]);
  await advance(5000);
  expect(all("SELECT tags.n AS n FROM devices")).toEqual([]);
});

test("a token belongs to its query", () => {
  const { add, hub } = startHub();
  add("a");
  add("b");
  const page = hub.index.query("SELECT * FROM devices", { size: 1, continuation: null });
  if (!page.ok) throw new Error(page.refusal.message);
  const { continuation } = page.value;
  expect(hub.index.query("SELECT deviceId FROM devices", { size: 1, continuation }).ok).toBe(false);
  expect(hub.index.query("SELECT * FROM devices", { size: 1, continuation: "nonsense" }).ok).toBe(false);
});

test("pages of any size show every device that stays exactly once, whatever comes and goes in between", () => {
  const ids = fc.uniqueArray(fc.stringMatching(/^[a-z]{1,3}$/), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(
      ids,
      fc.integer({ min: 1, max: 7 }),
      fc.array(fc.nat(), { maxLength: 10 }),
      (devices, size, picks) => {
        const { add, hub } = startHub();
        for (const device of devices) add(device);
        const touched = new Set<string>();
        const seen: string[] = [];
        let continuation: string | null = null;
        let turn = 0;
        do {
          const page = hub.index.query("SELECT deviceId FROM devices", { size, continuation });
          if (!page.ok) throw new Error(page.refusal.message);
          seen.push(...page.value.rows.map((row) => String(row["deviceId"])));
          continuation = page.value.continuation;
          const pick = picks[turn++];
          if (pick !== undefined) {
            const device = devices[pick % devices.length] ?? "";
            touched.add(device);
            if (!hub.registry.removeDevice(device, null).ok) add(device);
          }
        } while (continuation !== null);
        expect(new Set(seen).size).toBe(seen.length);
        for (const device of devices) if (!touched.has(device)) expect(seen).toContain(device);
      },
    ),
    { numRuns: 50 },
  );
});
