import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { parseCommandLine } from "../../simulator/command-line.ts";
import {
  UNDOCUMENTED,
  UNDOCUMENTED_TOPICS,
  type Undocumented,
  type UndocumentedTopic,
} from "../../simulator/hub/undocumented.ts";
import { createSimulator, type Simulator, type SimulatorSetup } from "../../simulator/simulator.ts";
import { createHubClient, type HubClient } from "./hub-client.ts";
import type { Json } from "./hub-model.ts";

// Undocumented behaviour of the real hub is a switch, and each position of each switch is seen over the wire.

const running: Simulator[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
});

async function startHub(setup: SimulatorSetup) {
  const simulator = createSimulator({ tier: "S3", autoStart: false, ...setup });
  running.push(simulator);
  const client = createHubClient(await simulator.start());
  await client.ask("PUT", "/devices/d", {});
  return { simulator, ...client };
}
type Started = Awaited<ReturnType<typeof startHub>>;

const LAYER = { modulesContent: { $edgeAgent: {} } };
const deviceContent = (value: Json) => ({ deviceContent: { "properties.desired.a": value } });

async function codeOf(answer: ReturnType<HubClient["ask"]>): Promise<string> {
  const { status, code } = await answer;
  return `${status} ${code}`.trim();
}

async function codesOf(...answers: readonly ReturnType<HubClient["ask"]>[]): Promise<readonly string[]> {
  return await Promise.all(answers.map(codeOf));
}

/** What a client sees with each behaviour. */
const SEEN: {
  readonly [Topic in UndocumentedTopic]: {
    readonly look: (hub: Started) => Promise<unknown>;
    readonly sees: Readonly<Record<(typeof UNDOCUMENTED)[Topic]["behaviours"][number], unknown>>;
  };
} = {
  "condition-functions": {
    look: async ({ ask }) => {
      const targetCondition = "STARTSWITH(deviceId, 'd') AND NOT ENDSWITH(deviceId, 'e')";
      const tested = await ask("POST", "/configurations/testQueries", { targetCondition });
      const written = await codeOf(
        ask("PUT", "/configurations/c", { targetCondition, content: deviceContent(1) }),
      );
      const twin = await ask("GET", "/twins/d");
      return [
        (tested.body as { readonly targetConditionError: string | null }).targetConditionError === null,
        written,
        desiredOf(twin.body)["a"],
      ];
    },
    sees: {
      refused: [false, "400 InvalidConfigurationTargetCondition", undefined],
      accepted: [true, "200", 1],
    },
  },
  "edge-star": {
    look: async ({ ask }) => {
      await ask("PUT", "/devices/e", { capabilities: { iotEdge: true } });
      await ask("PUT", "/configurations/layer", { targetCondition: "*", content: LAYER });
      const { body } = await ask("GET", "/configurations/layer");
      return (body as { readonly systemMetrics: { readonly results: Json } }).systemMetrics.results;
    },
    sees: {
      all: expect.objectContaining({ targetedCount: 1 }),
      none: expect.objectContaining({ targetedCount: 0 }),
    },
  },
  "twin-versions": {
    look: async ({ ask }) => {
      const steps: number[] = [];
      let before = 1;
      for (const a of [1, 2, 3]) {
        const { body } = await ask("PATCH", "/twins/d", { tags: { a } });
        const { etag, version } = body as { readonly etag: string; readonly version: number };
        expect(version).toBe(a + 2);
        const counter = Number(Buffer.from(etag, "base64").readBigUInt64BE());
        expect(counter).toBeGreaterThan(before);
        steps.push(counter - before);
        before = counter;
      }
      return steps.every((one) => one === 1);
    },
    sees: { together: true, apart: false },
  },
  "created-status": {
    look: async ({ ask }) => [
      ...(await codesOf(
        ask("PUT", "/devices/d/modules/m", { moduleId: "m", deviceId: "d" }),
        ask("PUT", "/configurations/c", { content: deviceContent(1) }),
      )),
      ...(await codesOf(
        ask("PUT", "/devices/d/modules/m", { moduleId: "m", deviceId: "d" }, '"*"'),
        ask("PUT", "/configurations/c", { content: deviceContent(1) }, '"*"'),
      )),
    ],
    sees: { 200: ["200", "200", "200", "200"], 201: ["201", "201", "200", "200"] },
  },
  "unquoted-etags": {
    look: async ({ ask }) => {
      const { etag = "" } = await ask("GET", "/twins/d");
      const bare = etag.replaceAll('"', "");
      return [
        await codeOf(ask("PATCH", "/twins/d", { tags: { a: 1 } }, "AAAAAAAAAAk=")),
        await codeOf(ask("PUT", "/devices/d", {}, "AAAA")),
        await codeOf(ask("PATCH", "/twins/d", { tags: { a: 1 } }, `"${bare}x"`)),
      ];
    },
    sees: {
      ignored: ["200", "409 DeviceAlreadyExists", "412 PreconditionFailed"],
      refused: ["400 ArgumentInvalid", "400 ArgumentInvalid", "412 PreconditionFailed"],
      compared: ["412 PreconditionFailed", "412 PreconditionFailed", "412 PreconditionFailed"],
    },
  },
  "bulk-etags": {
    look: async ({ ask }) => {
      const seen: number[] = [];
      for (const spelling of ["eTag", "etag"]) {
        const { etag = "" } = await ask("GET", "/devices/d");
        const entry = { id: "d", importMode: "updateIfMatchETag", [spelling]: etag.replaceAll('"', "") };
        seen.push((await ask("POST", "/devices", [entry])).status);
      }
      return seen;
    },
    sees: { either: [200, 200], eTag: [200, 400], etag: [400, 200] },
  },
  arrays: {
    look: ({ ask }) =>
      codesOf(
        ask("PATCH", "/twins/d", { tags: { a: { b: [1] } } }),
        ask("PATCH", "/twins/d", { properties: { desired: { a: [1] } } }),
        ask("PUT", "/configurations/c", { content: deviceContent([1]) }),
        ask("PATCH", "/twins/d", { tags: { a: { b: { c: 1 } } } }),
      ),
    sees: {
      accepted: ["200", "200", "200", "200"],
      refused: ["400 ArgumentInvalid", "400 ArgumentInvalid", "400 InvalidConfigurationContent", "200"],
    },
  },
  "query-order": {
    look: async ({ ask, registry }) => {
      for (const [id, a] of [
        ["x", 10],
        ["y", 9],
        ["z", 10],
      ] as const) {
        await ask("PUT", `/devices/${id}`, {});
        await ask("PATCH", `/twins/${id}`, { tags: { a, b: id } });
      }
      const rowsOf = async (text: string) => {
        const rows: unknown[] = [];
        const query = registry.createQuery(text, 2);
        for (let next = ""; ; next = query.continuationToken) {
          const page = await query.next(next).catch(() => null);
          if (page === null) return "refused";
          rows.push(...(page.result as readonly object[]).map((row) => Object.values(row).join()));
          if (!query.hasMoreResults) return rows;
        }
      };
      return [
        await rowsOf("SELECT deviceId FROM devices WHERE IS_DEFINED(tags.a) ORDER BY tags.a, tags.b DESC"),
        await rowsOf("SELECT DISTINCT tags.a FROM devices WHERE IS_DEFINED(tags.a)"),
        await rowsOf("SELECT deviceId FROM devices WHERE IS_DEFINED(tags.a)"),
      ];
    },
    sees: {
      refused: ["refused", "refused", ["x", "y", "z"]],
      accepted: [
        ["y", "z", "x"],
        ["10", "9"],
        ["x", "y", "z"],
      ],
    },
  },
  "unnamed-counts": {
    look: async ({ ask }) =>
      (await ask("POST", "/devices/query", { query: "SELECT COUNT(), MAX(version) AS v FROM devices" })).body,
    sees: { numbered: [{ $1: 1, v: 2 }], named: [{ count: 1, v: 2 }] },
  },
  "constant-conditions": {
    look: async ({ ask }) => {
      const found = async (where: string) => {
        const { status, body } = await ask("POST", "/devices/query", {
          query: `SELECT * FROM devices WHERE ${where}`,
        });
        return status === 200 ? (body as Json[]).length : status;
      };
      return [await found("1"), await found("'text'"), await found("true"), await found("1 = 1")];
    },
    sees: { false: [0, 0, 1, 1], refused: [400, 400, 1, 1] },
  },
};

function desiredOf(twin: Json): Readonly<Record<string, unknown>> {
  return (twin as { readonly properties: { readonly desired: Record<string, unknown> } }).properties.desired;
}

describe.each(UNDOCUMENTED_TOPICS)("%s", (topic) => {
  const { look, sees } = SEEN[topic];

  test.each(Object.entries(sees))("as %s", async (behaviour, expected) => {
    const asked = { [topic]: behaviour } as Partial<Undocumented>;
    const isDefault = UNDOCUMENTED[topic].behaviours[0] === behaviour;
    expect(await look(await startHub(isDefault ? {} : { undocumented: asked }))).toEqual(expected);
  });

  test("is in the manual with its behaviours, the default first", () => {
    const manual = readFileSync(join(import.meta.dirname, "../../simulator/README.md"), "utf8");
    const row = manual.split("\n").find((line) => line.includes(`| \`--undocumented ${topic}=`));
    const [, , here = "", otherwise = ""] = (row ?? "").split("|");
    const [fallback, ...others] = UNDOCUMENTED[topic].behaviours;
    expect(here).toContain(`\`${fallback}\``);
    expect([...otherwise.matchAll(/`([^`]+)`/g)].map(([, code]) => code)).toEqual(
      others.map((one) => `--undocumented ${topic}=${one}`),
    );
  });
});

test("pages without a requested number, and labels, have limits of their own", async () => {
  const { ask, registry } = await startHub({ defaultPageSize: 2, maximumLabels: 1 });
  for (const id of ["a", "b"]) await ask("PUT", `/devices/${id}`, {});
  const query = registry.createQuery("SELECT deviceId FROM devices");
  expect((await query.next("")).result).toHaveLength(2);
  expect(query.hasMoreResults).toBe(true);
  const labelled = (labels: Json) => ask("PUT", "/configurations/c", { labels, content: deviceContent(1) });
  expect(await codeOf(labelled({ a: "1", b: "2" }))).toBe("400 ArgumentInvalid");
  expect(await codeOf(labelled({ a: "1" }))).toBe("200");
});

test("what was accepted under one switch comes back from a state under another", async () => {
  const directory = await mkdtemp(join(tmpdir(), "undocumented-"));
  const state = join(directory, "hub.state");
  const first = await startHub({ state, undocumented: { "condition-functions": "accepted" } });
  const written = {
    targetCondition: "STARTSWITH(deviceId, 'd')",
    content: deviceContent([1]),
    labels: { a: "1", b: "2" },
  };
  expect(await codeOf(first.ask("PUT", "/configurations/c", written))).toBe("200");
  await first.simulator.stop();
  const second = createSimulator({
    state,
    autoStart: false,
    maximumLabels: 1,
    undocumented: { arrays: "refused" },
  });
  expect(second.hub.configurations.get("c")).toBeDefined();
  await second.stop();
  await rm(directory, { recursive: true });
});

test("the flag may be given again, with commas, and in a file; what is wrong is reported with what there is", () => {
  const file = "undocumented: [arrays=refused, created-status=201]\n";
  const parse = (...args: readonly string[]) => parseCommandLine(args, () => file);
  const chosen = { arrays: "refused", "created-status": "201" };
  const run = { command: { options: { undocumented: expect.objectContaining(chosen) } } };
  expect(parse("--config", "a.yaml")).toMatchObject(run);
  expect(parse("--undocumented", "arrays=refused", "--undocumented=created-status=201")).toMatchObject(run);
  const printed = parse("--config", "a.yaml", "--print-config");
  if (printed.kind !== "printConfig") throw new Error(printed.kind);
  expect(parseCommandLine(["--config", "b.yaml"], () => printed.text)).toMatchObject(run);
  expect(
    parse("--undocumented", "array=refused", "--undocumented", "arrays=maybe", "--undocumented=arrays"),
  ).toMatchObject({
    problems: [
      expect.stringMatching(
        /^--undocumented must be TOPIC=BEHAVIOUR with one of the topics condition-functions, /,
      ),
      "--undocumented arrays must be one of accepted, refused",
      "--undocumented arrays must be one of accepted, refused",
    ],
  });
});
