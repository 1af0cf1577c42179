import { Type } from "typebox";
import { ANY, readFields } from "../../base/fields.ts";
import { isObject } from "../../base/json.ts";
import type { Hub } from "../../hub/hub.ts";
import { answered, type ControlRoute, clears, refused } from "./control-route.ts";
import { COUNT, COUNTS, nullable, object, TIME } from "./control-schema.ts";

// The simulated world as a whole: whether it lives, its time, what was asked of it, and its evaluation.

const TALLIES = Type.Record(Type.String(), object({ total: COUNT, results: COUNTS }));
const QUOTA = object({
  day: Type.String({ format: "date" }),
  limit: nullable(COUNT),
  messages: COUNT,
  left: nullable(COUNT),
  classes: COUNTS,
});
const CLOCK = object({ now: TIME, virtual: Type.Boolean() });

export const WORLD_ROUTES: readonly ControlRoute[] = [
  {
    path: "/sim/health",
    methods: {
      GET: {
        summary: "Whether the simulator serves, its time, and how many devices are registered",
        answer: object({
          status: Type.Literal("ok"),
          now: TIME,
          devices: COUNT,
          virtualClock: Type.Boolean(),
        }),
        handle: ({ hub, manual }) =>
          answered({
            status: "ok",
            now: timeOf(hub),
            devices: hub.registry.count(),
            virtualClock: manual !== null,
          }),
      },
    },
  },
  {
    path: "/sim/counters",
    methods: {
      GET: {
        summary: "Requests by class, operation and result; writes; what devices did; what budgets have left",
        answer: object({
          since: TIME,
          classes: TALLIES,
          operations: TALLIES,
          writes: object({ identity: COUNT, twin: COUNT, configuration: COUNT }),
          devices: object({ reports: COUNT, twinReads: COUNT, messages: COUNT, refused: COUNT, lost: COUNT }),
          evaluation: object({ runs: COUNT, twinWrites: COUNT }),
          budgets: Type.Record(Type.String(), Type.Number({ minimum: 0 })),
          quota: QUOTA,
        }),
        handle: ({ hub }) =>
          answered({ ...hub.counters.report(), budgets: hub.throttle.left(), quota: hub.quota.report() }),
      },
      DELETE: clears("Counts from zero", ({ hub }) => hub.counters.reset()),
    },
  },
  {
    path: "/sim/clock",
    methods: {
      GET: {
        summary: "The simulator's time, and whether it is virtual",
        answer: CLOCK,
        handle: ({ hub, manual }) => answered({ now: timeOf(hub), virtual: manual !== null }),
      },
      POST: {
        summary: "Moves a virtual clock; answers when everything that was due has happened",
        body: object({ advanceMilliseconds: Type.Number({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }) }),
        examples: { "five minutes": { advanceMilliseconds: 300_000 } },
        answer: CLOCK,
        refusals: [409],
        handle: async ({ hub, manual }, { body }) => {
          if (manual === null)
            return refused(409, ["the clock is the machine's; start with --virtual-clock to move it"]);
          const problems: string[] = [];
          const fields = readFields(isObject(body) ? body : {}, "", problems);
          const milliseconds = fields.optionalNumber("advanceMilliseconds", ANY);
          if (milliseconds === null && problems.length === 0)
            fields.addProblem("advanceMilliseconds", "is needed");
          fields.done();
          if (problems.length > 0 || milliseconds === null) return refused(400, problems);
          await manual.advance(milliseconds);
          return answered({ now: timeOf(hub), virtual: true });
        },
      },
    },
  },
  {
    path: "/sim/evaluate",
    methods: {
      POST: {
        summary: "Evaluates the configurations now; answers how many twins that wrote",
        answer: object({ twinWrites: COUNT }),
        handle: ({ hub }) => answered({ twinWrites: hub.evaluate() }),
      },
    },
  },
];

function timeOf({ clock }: Hub): string {
  return new Date(clock.now()).toISOString();
}
