import { Type } from "typebox";
import type { Configuration } from "../../hub/configurations/configuration.ts";
import { faultDocument } from "../../hub/faults/fault-rules.ts";
import type { Hub } from "../../hub/hub.ts";
import { JOB_STATUSES } from "../../hub/jobs/job.ts";
import type { CountersReport } from "../../hub/limits/counters.ts";
import { budgetsOf, OPERATION_CLASSES } from "../../hub/limits/throttle.ts";
import { EVENT_SOURCES } from "../../hub/messaging/event-log.ts";
import { JOB_TYPES } from "../../hub/query/device-job.ts";
import { answered, type ControlParts, type ControlRoute } from "./control-route.ts";
import { ANY_OBJECT, COUNT, COUNTS, nullable, object, oneOf, TIME } from "./control-schema.ts";
import { EVENT_LINE } from "./device-routes.ts";
import { DEVICE_STATES, type DeviceRow, type DeviceState } from "./device-row.ts";
import { eventLine } from "./event-line.ts";
import { FAULT_RULE } from "./fault-schema.ts";

// What the status page asks for every few seconds: everything in numbers, nothing as long as the fleet.

const MOST_GROUPS = 12;
const MOST_BEHAVIOURS = 50;
const NEWEST_EVENTS = 25;
const NEWEST_JOBS = 8;

const GROUPS = object({
  distinct: COUNT,
  largest: Type.Array(object({ name: Type.String(), count: COUNT })),
});

export const OVERVIEW_ROUTES: readonly ControlRoute[] = [
  {
    path: "/sim/overview",
    methods: {
      GET: {
        summary: "The simulated world in numbers, as the status page shows it",
        query: {
          source: { kind: "choice", values: EVENT_SOURCES, description: "newest events of this source only" },
        },
        answer: object({
          now: TIME,
          virtualClock: Type.Boolean(),
          hub: object({
            hostName: Type.String(),
            tier: Type.String(),
            units: COUNT,
            throttling: Type.Boolean(),
          }),
          devices: object({
            total: COUNT,
            states: object(Object.fromEntries(DEVICE_STATES.map((state) => [state, COUNT]))),
            releases: GROUPS,
            sites: GROUPS,
            classes: GROUPS,
          }),
          operations: object({
            since: TIME,
            classes: Type.Record(
              Type.String(),
              object({ total: COUNT, throttled: COUNT, refused: COUNT, failed: COUNT }),
            ),
            devices: COUNTS,
          }),
          budgets: Type.Array(object({ name: Type.String(), left: Type.Number(), capacity: Type.Number() })),
          quota: object({ limit: nullable(COUNT), messages: COUNT }),
          configurations: Type.Array(
            object({
              id: Type.String(),
              kind: Type.String(),
              priority: Type.Number(),
              condition: Type.String(),
              metrics: Type.Record(Type.String(), Type.Number(), {
                description: "as of the last evaluation; empty before it",
              }),
            }),
          ),
          jobs: object({
            total: COUNT,
            newest: Type.Array(
              object({
                jobId: Type.String(),
                type: oneOf(JOB_TYPES),
                status: oneOf(JOB_STATUSES),
                devices: COUNT,
                succeeded: COUNT,
                failed: COUNT,
              }),
            ),
          }),
          faults: Type.Array(FAULT_RULE),
          behaviours: object({ total: COUNT, first: Type.Array(ANY_OBJECT) }),
          events: Type.Array(EVENT_LINE),
        }),
        handle: (parts, { query }) => {
          const source = EVENT_SOURCES.find((name) => name === query.text("source")) ?? null;
          const events = parts.hub.events.tail({ limit: NEWEST_EVENTS, source, deviceId: null });
          return answered({ ...overview(parts), events: events.map(eventLine).reverse() });
        },
      },
    },
  },
];

function overview({ hub, fleet, manual, roster }: ControlParts): object {
  const { hostName, tier, units, throttling } = hub.options;
  const report = hub.counters.report();
  const behaviours = fleet.behaviours();
  const quota = hub.quota.report();
  return {
    now: new Date(hub.clock.now()).toISOString(),
    virtualClock: manual !== null,
    hub: { hostName, tier, units, throttling },
    devices: devicesOf(roster.rows()),
    operations: {
      since: report.since,
      classes: Object.fromEntries(
        Object.entries(report.classes).map(([name, tally]) => [name, outcomesOf(tally)]),
      ),
      devices: report.devices,
    },
    budgets: budgetsLeft(hub),
    quota: { limit: quota.limit, messages: quota.messages },
    configurations: hub.configurations.list().map((configuration) => configurationOf(hub, configuration)),
    jobs: jobsOf(hub),
    faults: hub.faults.list().map(faultDocument),
    behaviours: {
      total: behaviours.length,
      first: behaviours.slice(0, MOST_BEHAVIOURS).map(({ source }) => source),
    },
  };
}

function devicesOf(rows: readonly DeviceRow[]): object {
  const states = new Map<DeviceState, number>(DEVICE_STATES.map((state) => [state, 0]));
  const releases = new Map<string, number>();
  const sites = new Map<string, number>();
  const classes = new Map<string, number>();
  const count = <K>(counts: Map<K, number>, key: K | null) => {
    if (key !== null) counts.set(key, (counts.get(key) ?? 0) + 1);
  };
  for (const row of rows) {
    count(states, row.state);
    count(releases, row.release);
    count(sites, row.site);
    count(classes, row.deviceClass);
  }
  return {
    total: rows.length,
    states: Object.fromEntries(states),
    releases: groupsOf(releases),
    sites: groupsOf(sites),
    classes: groupsOf(classes),
  };
}

function groupsOf(counts: ReadonlyMap<string, number>): object {
  const largest = [...counts].map(([name, count]) => ({ name, count })).sort((a, b) => b.count - a.count);
  return { distinct: counts.size, largest: largest.slice(0, MOST_GROUPS) };
}

/** 429 apart from other refusals, and those apart from what the hub failed at. */
function outcomesOf({ total, results }: CountersReport["classes"][string]) {
  const sum = (isMeant: (status: number) => boolean) =>
    Object.entries(results).reduce((all, [result, count]) => all + (isMeant(Number(result)) ? count : 0), 0);
  return {
    total,
    throttled: sum((status) => status === 429),
    refused: sum((status) => status >= 400 && status < 500 && status !== 429),
    // Broken and hanging connections have no number.
    failed: sum((status) => status >= 500 || Number.isNaN(status)),
  };
}

function budgetsLeft(hub: Hub): readonly object[] {
  const budgets = budgetsOf(hub.options.tier, hub.options.units);
  const left = hub.throttle.left();
  return OPERATION_CLASSES.map((name) => ({ name, left: left[name], capacity: budgets[name].capacity }));
}

function configurationOf(hub: Hub, configuration: Configuration): object {
  const { id, kind, priority, condition } = configuration;
  const { system, custom } = hub.configurations.resultsOf(id) ?? { system: {}, custom: {} };
  return { id, kind, priority, condition: condition.text, metrics: { ...custom, ...system } };
}

function jobsOf({ jobs }: Hub): object {
  const all = jobs.list({ type: null, status: null });
  const newest = all.slice(-NEWEST_JOBS).reverse();
  return {
    total: all.length,
    newest: newest.map(({ jobId, type, status }) => {
      const { deviceCount, succeededCount, failedCount } = jobs.statisticsOf(jobId);
      return { jobId, type, status, devices: deviceCount, succeeded: succeededCount, failed: failedCount };
    }),
  };
}
