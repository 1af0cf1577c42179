import { Type } from "typebox";
import { faultDocument, parseFault } from "../../hub/faults/fault-rules.ts";
import { answered, type ControlRoute, clears, NO_CONTENT, refused } from "./control-route.ts";
import { object } from "./control-schema.ts";
import { FAULT, FAULT_RULE } from "./fault-schema.ts";

// Faults of the hub: what is broken, for whom and for how long.

export const FAULT_ROUTES: readonly ControlRoute[] = [
  {
    path: "/sim/faults",
    methods: {
      GET: {
        summary: "The faults in force",
        answer: object({ faults: Type.Array(FAULT_RULE) }),
        handle: ({ hub }) => answered({ faults: hub.faults.list().map(faultDocument) }),
      },
      POST: {
        summary: "Adds a fault, or replaces the one of the same id",
        body: FAULT,
        examples: {
          "an outage of two minutes": { id: "night", kind: "outage", until: "2m" },
          "throttled writes": {
            kind: "status",
            status: 429,
            operations: ["twinWrite"],
            percent: 20,
            until: "30s",
          },
          "reads as slow as on a bad day": {
            kind: "latency",
            operations: ["twinRead"],
            milliseconds: { p50: 80, p95: 400, p99: "2s" },
          },
          "a small pipe": { kind: "slowBody", bytesPerSecond: 2000, percent: 10 },
          "answers that break off": { kind: "partialBody", variant: "silent", until: 3 },
          "another client wrote first": { kind: "conflict", operations: ["twinWrite"], until: 2 },
          "a page of a proxy": { kind: "malformed", variant: "html", operations: ["twin.get"], until: 1 },
          "a region that is gone": { kind: "regionalOutage", variant: "blackHole", until: "10m" },
          "a restart": { kind: "restart", milliseconds: "20s", reconnectWithin: "10s" },
          "reports that never arrive": { kind: "lostReport", devices: "cam-00*", percent: 10 },
          "a clock that is behind": { kind: "clockSkew", milliseconds: "-10m", until: "1h" },
          "old results": { kind: "stale", milliseconds: "30s" },
          "a lost answer": { kind: "reset", operations: ["twin.patch"], when: "after", until: 1 },
        },
        answer: FAULT_RULE,
        handle: ({ hub }, { body }) => {
          const parsed = parseFault(body, { now: hub.clock.now(), id: hub.faults.freshId });
          if (!parsed.ok) return refused(400, parsed.problems);
          hub.faults.put(parsed.rule);
          return answered(faultDocument(parsed.rule));
        },
      },
      DELETE: clears("Ends all faults", ({ hub }) => hub.faults.clear()),
    },
  },
  {
    path: "/sim/faults/{id}",
    methods: {
      GET: {
        summary: "One fault",
        answer: FAULT_RULE,
        handle: ({ hub }, { id }) => {
          const rule = hub.faults.list().find((one) => one.id === id);
          return rule === undefined
            ? refused(404, [`there is no fault ${id}`])
            : answered(faultDocument(rule));
        },
      },
      DELETE: {
        summary: "Ends one fault",
        answer: null,
        handle: ({ hub }, { id }) =>
          hub.faults.remove(id) ? NO_CONTENT : refused(404, [`there is no fault ${id}`]),
      },
    },
  },
];
