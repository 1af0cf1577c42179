import { Type } from "typebox";
import type { JsonObject } from "../../base/json.ts";
import type { Hub } from "../../hub/hub.ts";
import type { Identity } from "../../hub/registry/identity.ts";
import { type Section, twinKey } from "../../hub/twins/twin.ts";
import { answered, type ControlRoute, refused } from "./control-route.ts";
import { ANY_OBJECT, COUNT, nullable, object, oneOf, TIME } from "./control-schema.ts";
import { DEVICE_STATES, type DeviceRow } from "./device-row.ts";
import { eventLine } from "./event-line.ts";
import { redact } from "./redact.ts";

// Devices in a readable form. No keys, and no signatures: neither of identities nor in what twins desire.

const DEFAULT_ROWS = 50;
const MOST_ROWS = 500;
const EVENTS_OF_A_DEVICE = 20;

const ROW = {
  deviceId: Type.String(),
  state: oneOf(DEVICE_STATES),
  connected: Type.Boolean(),
  iotEdge: Type.Boolean(),
  deviceClass: nullable(Type.String()),
  site: nullable(Type.String()),
  release: nullable(Type.String()),
  update: nullable(Type.String()),
  error: nullable(Type.String()),
  heartbeatAt: nullable(Type.String()),
};

const SECTION = object({ version: COUNT, value: ANY_OBJECT });

export const EVENT_LINE = object({
  sequenceNumber: COUNT,
  at: TIME,
  source: Type.String(),
  device: Type.String(),
  module: nullable(Type.String()),
  text: Type.String(),
});

export const DEVICE_ROUTES: readonly ControlRoute[] = [
  {
    path: "/sim/devices",
    methods: {
      GET: {
        summary: "Devices in the order of their ids, a page at a time, in a line each",
        query: {
          search: {
            kind: "text",
            description: "words, each of which must be in the id, class, site, release or error",
          },
          state: { kind: "choice", values: DEVICE_STATES, description: "in this state only" },
          offset: { kind: "integer", description: "how many to pass over; 0 by default" },
          limit: {
            kind: "integer",
            description: `rows of a page: ${DEFAULT_ROWS} by default, at most ${MOST_ROWS}`,
          },
        },
        answer: object({ total: COUNT, offset: COUNT, devices: Type.Array(object(ROW)) }),
        handle: ({ roster }, { query }) => {
          const words = (query.text("search") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
          const state = query.text("state");
          const offset = query.integer("offset", 0);
          const limit = Math.min(Math.max(1, query.integer("limit", DEFAULT_ROWS)), MOST_ROWS);
          const rows = roster
            .rows()
            .filter((row) => (state === null || row.state === state) && hasWords(row, words));
          return answered({ total: rows.length, offset, devices: rows.slice(offset, offset + limit) });
        },
      },
    },
  },
  {
    path: "/sim/devices/{id}",
    methods: {
      GET: {
        summary: "One device with its twin, its modules and its newest events; secrets are hidden",
        answer: object({
          ...ROW,
          authenticationType: Type.String(),
          status: oneOf(["enabled", "disabled"]),
          statusReason: nullable(Type.String()),
          messagesWaiting: COUNT,
          tags: ANY_OBJECT,
          desired: SECTION,
          reported: SECTION,
          configurations: ANY_OBJECT,
          modules: Type.Array(
            object({
              moduleId: Type.String(),
              managedBy: nullable(Type.String()),
              connected: Type.Boolean(),
              desired: SECTION,
              reported: SECTION,
              configurations: ANY_OBJECT,
            }),
          ),
          events: Type.Array(EVENT_LINE),
        }),
        handle: ({ hub, roster }, { id }) => {
          const identity = hub.registry.get(id, null);
          const row = roster.row(id);
          if (identity === undefined || row === undefined) return refused(404, [`there is no device ${id}`]);
          return answered(redact({ ...row, ...deviceDetail(hub, identity) }) as JsonObject);
        },
      },
    },
  },
];

function hasWords(row: DeviceRow, words: readonly string[]): boolean {
  if (words.length === 0) return true;
  const { deviceId, deviceClass, site, release, error } = row;
  const text = [deviceId, deviceClass, site, release, error].join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

function deviceDetail(hub: Hub, identity: Identity): JsonObject {
  const { deviceId, authentication, enabled, statusReason } = identity;
  const events = hub.events.tail({ limit: EVENTS_OF_A_DEVICE, source: null, deviceId });
  return {
    authenticationType: authentication.type,
    status: enabled ? "enabled" : "disabled",
    statusReason,
    messagesWaiting: hub.messages.pending(deviceId),
    tags: hub.twins.get(deviceId)?.tags ?? {},
    ...twinOf(hub, deviceId),
    modules: hub.registry.modulesOf(deviceId).map(({ moduleId, managedBy }) => ({
      moduleId,
      managedBy,
      connected: hub.isConnected(twinKey(deviceId, moduleId)),
      ...twinOf(hub, twinKey(deviceId, moduleId)),
    })),
    events: events.map(eventLine).reverse(),
  };
}

function twinOf(hub: Hub, key: string): JsonObject {
  const twin = hub.twins.get(key);
  const section = (one: Section | undefined) => ({ version: one?.version ?? 0, value: one?.value ?? {} });
  return {
    desired: section(twin?.desired),
    reported: section(twin?.reported),
    configurations: twin?.configurations ?? {},
  };
}
