import { Type } from "typebox";
import type { JsonValue } from "../../base/json.ts";
import { FAILING_STATES } from "../../devices/behaviour.ts";
import { DURATION, object, oneOf } from "./control-schema.ts";

const GLOB = Type.Optional(Type.String({ description: "* stands for any text, ? for one character" }));
const AMOUNT = Type.Number({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });

export const BEHAVIOUR = object({
  name: Type.Optional(Type.String()),
  match: Type.Optional(
    object({
      release: GLOB,
      digest: Type.Optional(Type.String()),
      deviceClass: GLOB,
      site: GLOB,
      deviceId: GLOB,
      percent: Type.Optional(Type.Number({ minimum: 0, maximum: 100 })),
    }),
  ),
  effects: object({
    latency: Type.Optional(
      object({ p50: Type.Optional(AMOUNT), p95: Type.Optional(AMOUNT), p99: Type.Optional(AMOUNT) }),
    ),
    errorRate: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    framesPerSecond: Type.Optional(AMOUNT),
    inferencesPerSecond: Type.Optional(AMOUNT),
    failAt: Type.Optional(
      object({
        state: oneOf(FAILING_STATES),
        code: Type.Optional(Type.String()),
        message: Type.Optional(Type.String()),
      }),
    ),
    lieDigest: Type.Optional(Type.String()),
    offline: Type.Optional(Type.Boolean()),
    flapping: Type.Optional(object({ up: Type.Optional(DURATION), down: Type.Optional(DURATION) })),
    slowDownload: Type.Optional(DURATION),
    wrongClock: Type.Optional(DURATION),
  }),
});

/** A list of rules, or an object with the list in it. */
export const BEHAVIOURS = Type.Union([
  Type.Array(BEHAVIOUR),
  Type.Object({ behaviours: Type.Array(BEHAVIOUR) }),
]);

export const BEHAVIOUR_EXAMPLE: JsonValue = [
  {
    name: "dead disk",
    match: { deviceId: "cam-004*" },
    effects: { failAt: { state: "Downloading", code: "DiskFull" } },
  },
];
