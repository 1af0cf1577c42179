import { Type } from "typebox";
import { isObject, type JsonObject, type JsonValue } from "../../base/json.ts";
import { parseBehaviours } from "../../devices/behaviour.ts";
import type { Hub } from "../../hub/hub.ts";
import { twinKey } from "../../hub/twins/twin.ts";
import type { HttpReply } from "../transport/http-message.ts";
import { BEHAVIOUR, BEHAVIOUR_EXAMPLE, BEHAVIOURS } from "./behaviour-schema.ts";
import {
  answered,
  type ControlOperation,
  type ControlParts,
  type ControlRoute,
  refused,
} from "./control-route.ts";
import { ANY_OBJECT, ANYTHING, COUNT, COUNTS, nullable, object } from "./control-schema.ts";

// The simulated devices, and how they behave.

const BEHAVIOURS_ANSWER = object({ behaviours: Type.Array(BEHAVIOUR) });

const FLEET = object({
  devices: COUNT,
  slots: COUNT,
  reachable: COUNT,
  releases: COUNTS,
  updates: COUNTS,
  configurations: Type.Array(Type.String()),
  behaviours: Type.Array(BEHAVIOUR),
  list: Type.Optional(
    Type.Array(
      object({
        deviceId: Type.String(),
        module: nullable(Type.String()),
        connected: Type.Boolean(),
        reachable: Type.Boolean(),
        release: nullable(Type.String()),
        digest: nullable(Type.String()),
        update: nullable(
          object({
            release: Type.String(),
            state: Type.String(),
            error: nullable(object({ code: Type.String(), message: Type.String() })),
          }),
        ),
      }),
    ),
  ),
  identities: Type.Optional(
    Type.Array(
      object({
        deviceId: Type.String(),
        enabled: Type.Boolean(),
        tags: ANY_OBJECT,
        pointers: Type.Array(Type.Record(Type.String(), ANYTHING), {
          description: "what the twins desire of models, without the url, which is a secret",
        }),
      }),
    ),
  ),
});

const ADD: ControlOperation = {
  summary: "Adds behaviours to those that are there",
  body: BEHAVIOURS,
  examples: { "a dead disk": BEHAVIOUR_EXAMPLE },
  answer: BEHAVIOURS_ANSWER,
  handle: (parts, { body }) => putBehaviours(parts, body, true),
};

const REPLACE: ControlOperation = {
  ...ADD,
  summary: "Replaces all behaviours by these",
  handle: (parts, { body }) => putBehaviours(parts, body, false),
};

export const FLEET_ROUTES: readonly ControlRoute[] = [
  {
    path: "/sim/fleet",
    methods: {
      GET: {
        summary:
          "Summary of the simulated devices; with devices=N the first N of them, with tags and pointers",
        query: { devices: { kind: "integer", description: "how many devices to list" } },
        answer: FLEET,
        handle: ({ hub, fleet }, { query }) => {
          const top = query.integer("devices", 0);
          const devices =
            top > 0 ? { list: fleet.list().slice(0, top), identities: identitiesOf(hub).slice(0, top) } : {};
          return answered({
            ...fleet.summary(),
            ...devices,
            configurations: hub.configurations.list().map(({ id }) => id),
            behaviours: fleet.behaviours().map((rule) => rule.source),
          });
        },
      },
      POST: ADD,
      PUT: REPLACE,
    },
  },
  {
    path: "/sim/fleet/behaviours",
    methods: {
      GET: {
        summary: "The behaviours, as they were written",
        answer: BEHAVIOURS_ANSWER,
        handle: behavioursReply,
      },
      POST: ADD,
      PUT: REPLACE,
      DELETE: {
        summary: "Takes all behaviours away: every device is healthy",
        answer: BEHAVIOURS_ANSWER,
        handle: (parts) => putBehaviours(parts, [], false),
      },
    },
  },
];

function behavioursReply({ fleet }: ControlParts): HttpReply {
  return answered({ behaviours: fleet.behaviours().map((rule) => rule.source) });
}

function putBehaviours(parts: ControlParts, body: JsonValue | undefined, keep: boolean): HttpReply {
  const { fleet, seed } = parts;
  const parsed = parseBehaviours(body ?? null, seed);
  if (!parsed.ok) return refused(400, parsed.problems);
  fleet.setBehaviours(keep ? [...fleet.behaviours(), ...parsed.behaviours] : parsed.behaviours);
  return behavioursReply(parts);
}

/** Every identity of a device, with its tags and what its twins desire of models: `module` is null in the device's own. */
function identitiesOf(hub: Hub): readonly JsonObject[] {
  return [...hub.registry.devices()].map(({ deviceId, enabled }) => {
    const pointers = [null, ...hub.registry.modulesOf(deviceId).map(({ moduleId }) => moduleId)].flatMap(
      (module) => {
        const pointer = hub.twins.get(twinKey(deviceId, module))?.desired.value["model"];
        if (!isObject(pointer)) return [];
        // Its url is a secret: it grants the download.
        const { url: _, ...shown } = pointer;
        return [{ module, ...shown }];
      },
    );
    return { deviceId, enabled, tags: hub.twins.get(twinKey(deviceId, null))?.tags ?? {}, pointers };
  });
}
