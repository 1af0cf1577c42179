import { Type } from "typebox";
import type { JsonObject } from "../../base/json.ts";
import { ACTIONS, parseScenario } from "../../scenario/parse-scenario.ts";
import { BEHAVIOUR } from "./behaviour-schema.ts";
import { answered, type ControlRoute, NO_CONTENT, refused } from "./control-route.ts";
import { COUNT, DURATION, nullable, object, oneOf, TIME } from "./control-schema.ts";
import { FAULT } from "./fault-schema.ts";
import { MESSAGE_SCHEMA } from "./message-fields.ts";

// Scenarios: what happens to the simulated world by its clock.

const LENGTH = Type.Union([
  Type.Number({ minimum: 0 }),
  Type.String({ pattern: "^[+]?([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$" }),
]);
const PERIOD = Type.Union([
  Type.Number({ exclusiveMinimum: 0 }),
  Type.String({ pattern: "^[+]?([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$" }),
]);
const GLOB = Type.Optional(Type.String({ description: "glob of device ids" }));

const STEP = Type.Unsafe<JsonObject>({
  ...object({
    name: Type.Optional(Type.String()),
    at: Type.Optional(LENGTH),
    after: Type.Optional(
      Type.String({ description: "an operation or class to wait for: at counts from it" }),
    ),
    every: Type.Optional(PERIOD),
    times: Type.Optional(Type.Integer({ minimum: 1 })),
    fault: Type.Optional(FAULT),
    behaviours: Type.Optional(Type.Array(BEHAVIOUR)),
    evaluate: Type.Optional(Type.Literal(true)),
    disable: GLOB,
    enable: GLOB,
    delete: GLOB,
    message: Type.Optional(
      object({ devices: Type.String(), ...MESSAGE_SCHEMA, expiresIn: Type.Optional(DURATION) }),
    ),
    clearFaults: Type.Optional(Type.Union([Type.Literal(true), Type.String()])),
  }),
  allOf: [
    { anyOf: [{ required: ["at"] }, { required: ["after"] }] },
    { anyOf: ACTIONS.map((action) => ({ required: [action] })) },
    { anyOf: [{ not: { required: ["times"] } }, { required: ["every"] }] },
  ],
});

const SCENARIO = object({
  name: Type.Optional(Type.String()),
  seed: Type.Optional(Type.Number({ minimum: 0, maximum: 4_294_967_295 })),
  steps: Type.Array(STEP, { minItems: 1 }),
});

const PROGRESS = object({
  name: Type.String(),
  seed: Type.Number(),
  state: oneOf(["running", "done", "stopped"]),
  startedAt: TIME,
  steps: Type.Array(
    object({
      name: Type.String(),
      runs: COUNT,
      last: nullable(TIME),
      next: nullable(TIME),
      waitsFor: nullable(Type.String()),
    }),
  ),
  next: nullable(object({ step: Type.String(), at: TIME })),
  history: Type.Array(object({ at: TIME, step: Type.String(), outcome: Type.String() })),
});

export const SCENARIO_ROUTES: readonly ControlRoute[] = [
  {
    path: "/sim/scenario",
    methods: {
      GET: {
        summary: "How far the scenario is: what ran when, and what comes next",
        answer: object({ scenario: nullable(PROGRESS) }),
        handle: ({ scenarios }) => answered({ scenario: scenarios.progress() }),
      },
      POST: {
        summary: "Begins a scenario; one that runs is stopped",
        body: SCENARIO,
        yaml: true,
        examples: {
          "a night without a hub": {
            name: "night",
            seed: 7,
            steps: [
              { name: "lights out", at: "5m", fault: { kind: "outage", until: "10m" } },
              { after: "twinWrite", at: 1000, every: "1h", times: 3, disable: "cam-00*", evaluate: true },
              { at: "20m", clearFaults: true, behaviours: [{ effects: { errorRate: 0.1 } }] },
              { at: "21m", message: { devices: "cam-*", body: "good morning" } },
            ],
          },
        },
        answer: object({ scenario: PROGRESS }),
        handle: ({ scenarios, seed }, { text }) => {
          const parsed = parseScenario(text, seed);
          if (!parsed.ok) return refused(400, parsed.problems);
          scenarios.start(parsed.scenario);
          return answered({ scenario: scenarios.progress() });
        },
      },
      DELETE: {
        summary: "Stops the scenario; what it did stays",
        answer: null,
        refusals: [404],
        handle: ({ scenarios }) => (scenarios.stop() ? NO_CONTENT : refused(404, ["no scenario is running"])),
      },
    },
  },
];
