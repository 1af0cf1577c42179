import { readFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { createManualClock } from "../base/clock.ts";
import { createSimulator, type Endpoint, type Simulator } from "../simulator.ts";
import { connectRegistry, statusOf } from "../testing/service-client.ts";
import { parseScenario } from "./parse-scenario.ts";

const NOON = Date.parse("2026-03-01T12:00:00Z");
const MINUTE = 60_000;
const running: Simulator[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
});

function newSimulator(devices: number, seed = 1): Simulator {
  const simulator = createSimulator({ clock: createManualClock(NOON), tier: "S3", download: "skip", seed });
  running.push(simulator);
  for (let index = 0; index < devices; index++)
    simulator.hub.registry.putDevice(`cam-${String(index).padStart(3, "0")}`, {}, null);
  return simulator;
}

function begin(simulator: Simulator, text: string): void {
  const parsed = parseScenario(text, 1);
  if (!parsed.ok) throw new Error(parsed.problems.join("\n"));
  simulator.scenarios.start(parsed.scenario);
}

test("steps happen at their time by the simulator's clock, and progress says which and what is next", async () => {
  const simulator = newSimulator(12);
  begin(
    simulator,
    `
name: day
steps:
  - { name: dark, at: 5m, fault: { id: dark, kind: outage, until: 2m } }
  - { name: broken, at: 6m, behaviours: [{ effects: { offline: true } }] }
  - { name: off, at: 10m, disable: "cam-00?" }
  - { name: on, at: 11m, enable: "cam-*" }
  - { name: fewer, at: 12m, delete: "cam-01*", evaluate: true }
`,
  );
  const { hub, fleet, scenarios } = simulator;
  await simulator.advance(5 * MINUTE - 1);
  expect(hub.faults.list()).toEqual([]);
  expect(scenarios.progress()).toMatchObject({
    state: "running",
    next: { step: "dark", at: "2026-03-01T12:05:00.000Z" },
    history: [],
  });
  await simulator.advance(1);
  expect(hub.faults.list()).toMatchObject([{ id: "dark", expiresAt: NOON + 7 * MINUTE }]);
  await simulator.advance(MINUTE);
  expect(fleet.behaviours()).toHaveLength(1);
  await simulator.advance(4 * MINUTE);
  expect(hub.faults.list()).toEqual([]);
  const enabled = () => [...hub.registry.devices()].filter((device) => device.enabled).length;
  expect(enabled()).toBe(2);
  await simulator.advance(MINUTE);
  expect(enabled()).toBe(12);
  await simulator.advance(MINUTE);
  expect(hub.registry.count()).toBe(10);
  expect(scenarios.progress()).toMatchObject({
    state: "done",
    next: null,
    history: [
      { at: "2026-03-01T12:05:00.000Z", step: "dark", outcome: "fault outage" },
      { step: "broken", outcome: "1 behaviours" },
      { step: "off", outcome: "disabled 10 devices" },
      { step: "on", outcome: "enabled 10 devices" },
      { step: "fewer", outcome: "deleted 2 devices" },
      { step: "fewer", outcome: "evaluation, 0 twins written" },
    ],
  });
});

test("a device that is switched off and on again keeps its keys", async () => {
  const simulator = newSimulator(1);
  const keys = () => simulator.hub.registry.get("cam-000", null)?.authentication;
  const before = keys();
  begin(simulator, "steps: [{ at: 1m, disable: '*' }, { at: 2m, enable: '*' }]");
  await simulator.advance(3 * MINUTE);
  expect(simulator.scenarios.progress()?.history).toHaveLength(2);
  expect(keys()).toEqual(before);
});

test("a step is repeated as often as `times` says, and without it for ever", async () => {
  const simulator = newSimulator(0);
  begin(
    simulator,
    `
steps:
  - { name: thrice, at: 1m, every: 2m, times: 3, evaluate: true }
  - { name: always, at: 0s, every: 10m, evaluate: true }
`,
  );
  await simulator.advance(60 * MINUTE);
  const steps = simulator.scenarios.progress()?.steps;
  expect(steps).toMatchObject([
    { name: "thrice", runs: 3, last: "2026-03-01T12:05:00.000Z", next: null },
    { name: "always", runs: 7, next: "2026-03-01T13:10:00.000Z" },
  ]);
});

test("a step may wait for a request that succeeds; it is stopped with the scenario", async () => {
  const simulator = newSimulator(1);
  const endpoint = await simulator.start();
  const registry = connectRegistry(endpoint);
  const sim = (method: string, text?: string) => sendText(endpoint, method, text);
  const begun = await sim(
    "POST",
    "name: x\nsteps:\n- {name: first, after: twin.patch, at: 1m, every: 1m, fault: {kind: status, status: 503}}",
  );
  expect(begun.status).toBe(200);
  await registry.getTwin("cam-000");
  expect(await statusOf(registry.updateTwin("cam-000", { tags: { n: 1 } }, "old"))).toBe(412);
  expect(simulator.scenarios.progress()?.steps).toMatchObject([{ runs: 0, waitsFor: "twin.patch" }]);
  await registry.updateTwin("cam-000", { tags: { n: 1 } }, "*");
  expect((await sim("GET")).text).toContain('"next": "2026-03-01T12:01:00.000Z"');
  await simulator.advance(MINUTE);
  expect(await statusOf(registry.getTwin("cam-000"))).toBe(503);
  expect((await sim("DELETE")).status).toBe(204);
  simulator.hub.faults.clear();
  await simulator.advance(10 * MINUTE);
  expect(simulator.hub.faults.list()).toEqual([]);
  expect(simulator.scenarios.progress()).toMatchObject({ state: "stopped", steps: [{ runs: 1 }] });
  expect((await sim("DELETE")).status).toBe(404);
});

function sendText(
  endpoint: Endpoint,
  method: string,
  text = "",
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const { port, ca } = endpoint;
    const call = request({ host: "127.0.0.1", port, ca, method, path: "/sim/scenario" }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        body += chunk;
      });
      response.once("end", () => resolve({ status: response.statusCode ?? 0, text: body }));
    });
    call.once("error", reject).end(text);
  });
}

test("messages reach the devices that are meant", async () => {
  const simulator = newSimulator(3);
  begin(simulator, "steps: [{ at: 1s, message: { devices: 'cam-*1', body: { a: 1 }, messageId: m } }]");
  await simulator.advance(1000);
  const pending = ["cam-000", "cam-001"].map((id) => simulator.hub.messages.pending(id));
  expect(pending).toEqual([0, 1]);
  const message = simulator.hub.messages.deliver("cam-001");
  expect([message?.body.toString(), message?.properties]).toEqual(['{"a":1}', { "$.mid": "m" }]);
});

test("all mistakes are reported at once, each with its line and its path", () => {
  const parsed = parseScenario(
    `name: wrong
seed: -1
steps:
  - name: twice
    at: soon
    fault:
      kind: status
      colour: red
  - name: twice
    every: 5m
    behaviours:
      - effects: { errorRate: 2 }
  - at: 1m
  - 7
more: 1
`,
    1,
  );
  expect(parsed).toEqual({
    ok: false,
    problems: [
      "line 2: seed must be a number from 0 to 4294967295",
      "line 5: steps[0].at must be milliseconds or a duration such as 90s or 250ms",
      "line 6: steps[0].fault.status is needed for kind status",
      "line 8: steps[0].fault.colour is not known",
      "line 9: steps[1].at is needed: a duration from the start, or after: an operation to wait for",
      "line 12: steps[1].behaviours[0].effects.errorRate must be a number from 0 to 1",
      expect.stringMatching(/^line 13: steps\[2\] does nothing: it needs one of fault, /),
      "line 14: steps[3] must be an object",
      "line 15: more is not known",
      "line 9: steps[1].name twice is that of another step too",
    ],
  });
});

test.each([
  ["steps: [", /^line 1: /],
  ["7", /^line 1: a scenario must be an object/],
  ["", /^line 1: a scenario must be an object/],
  ["steps: []", /^line 1: steps must be a list/],
  ["a: &a [1]\nsteps: *b", /alias/],
])("what is no scenario is refused with a reason: %s", (text, reason) => {
  const parsed = parseScenario(text, 1);
  expect(parsed.ok ? [] : parsed.problems).toContainEqual(expect.stringMatching(reason));
});

const EXAMPLES = join(import.meta.dirname, "../../examples/scenarios");

test.each(["night-outage", "flaky-factory", "throttled-morning"])(
  "%s goes the same way twice",
  async (name) => {
    const text = readFileSync(join(EXAMPLES, `${name}.yaml`), "utf8");
    const first = await play(text, 5);
    expect(await play(text, 5)).toEqual(first);
    expect(first.progress).toMatchObject({ name, state: "done" });
    expect(first.progress?.steps.filter(({ runs }) => runs === 0)).toEqual([]);
    // Not by standing still: another seed goes another way.
    expect((await play(text.replace(/^seed: .*$/m, "seed: 99"), 6)).events).not.toEqual(first.events);
  },
);

/** An hour of a small fleet, and a client that reads and writes now and then; what came of it. */
async function play(text: string, seed: number) {
  const simulator = newSimulator(20, seed);
  const { port, ca } = await simulator.start();
  begin(simulator, text);
  let giveUp = (): void => {};
  simulator.hub.counters.onRequest((_operation, _name, result) => {
    if (result === "hang") giveUp();
  });

  /** The status of an answer, or how it went wrong. A client's patience ends when the hub has let a request hang. */
  function ask(path: string, method: string, body = ""): Promise<string> {
    return new Promise((resolve) => {
      const headers = { Authorization: "Bearer anybody", "If-Match": '"*"' };
      const url = { host: "127.0.0.1", port, ca, path: `${path}?api-version=2021-04-12` };
      const call = request({ ...url, method, headers, agent: false }, (response) => {
        response.resume();
        response.once("end", () => resolve(String(response.statusCode)));
        response.once("error", () => resolve("cut"));
      });
      giveUp = () => {
        resolve("silent");
        call.destroy();
      };
      call.once("error", (problem: NodeJS.ErrnoException) => resolve(problem.code ?? "error"));
      call.end(body);
    });
  }

  const answers: string[] = [];
  for (let minute = 0; minute < 65; minute++) {
    await simulator.advance(MINUTE);
    if (minute % 10 !== 6) continue;
    answers.push(await ask("/twins/cam-001", "GET"));
    answers.push(await ask("/twins/cam-001", "PATCH", `{"properties":{"desired":{"minute":${minute}}}}`));
    answers.push(await ask("/configurations", "GET"));
  }
  const { since: _, ...counters } = simulator.hub.counters.report();
  const { events } = simulator.hub.events.read({ from: 1, limit: 1000, source: null, deviceId: null });
  return { answers, counters, events, progress: simulator.scenarios.progress() };
}
