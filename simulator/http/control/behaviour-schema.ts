import { Type } from "typebox";
import type { JsonValue } from "../../base/json.ts";
import { FAILING_STATES } from "../../devices/effects.ts";
import { DURATION, object, oneOf, SPAN } from "./control-schema.ts";

const GLOB = Type.Optional(Type.String({ description: "* stands for any text, ? for one character" }));
const AMOUNT = Type.Number({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const SHARE = Type.Number({ minimum: 0, maximum: 1 });
const POSITIVE = Type.Number({ minimum: 0.001, maximum: 1_000_000_000 });
const CELSIUS = Type.Number({ minimum: -60, maximum: 150 });
const JITTER = Type.Optional(SHARE);
const PERCENTILES = object({
  distribution: Type.Optional(oneOf(["percentiles"])),
  jitter: JITTER,
  p50: Type.Optional(AMOUNT),
  p95: Type.Optional(AMOUNT),
  p99: Type.Optional(AMOUNT),
});
const NORMAL = object({
  distribution: oneOf(["normal"]),
  jitter: JITTER,
  mean: Type.Optional(POSITIVE),
  deviation: Type.Optional(AMOUNT),
});
const LOGNORMAL = object({
  distribution: oneOf(["lognormal"]),
  jitter: JITTER,
  median: Type.Optional(POSITIVE),
  sigma: Type.Optional(Type.Number({ minimum: 0, maximum: 5 })),
});
/** A stretch of time that a device is away for. */
const WINDOW = object({ from: Type.Optional(SPAN), for: Type.Optional(SPAN) });

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
    latency: Type.Optional(Type.Union([PERCENTILES, NORMAL, LOGNORMAL])),
    errorRate: Type.Optional(SHARE),
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
    offline: Type.Optional(Type.Union([Type.Boolean(), WINDOW, Type.Array(WINDOW)])),
    flapping: Type.Optional(object({ up: Type.Optional(SPAN), down: Type.Optional(SPAN) })),
    slowDownload: Type.Optional(SPAN),
    wrongClock: Type.Optional(DURATION),
    drift: Type.Optional(
      object({ latencyPerHour: Type.Optional(AMOUNT), errorRatePerHour: Type.Optional(SHARE) }),
    ),
    crashLoop: Type.Optional(
      object({ every: SPAN, exitCode: Type.Optional(Type.Number({ minimum: 0, maximum: 255 })) }),
    ),
    disk: Type.Optional(
      object({
        sizeMegabytes: Type.Optional(POSITIVE),
        freeMegabytes: Type.Optional(AMOUNT),
        fillMegabytesPerHour: Type.Optional(AMOUNT),
      }),
    ),
    heat: Type.Optional(
      object({
        idle: Type.Optional(CELSIUS),
        risePerHour: Type.Optional(AMOUNT),
        most: Type.Optional(CELSIUS),
        throttleAt: Type.Optional(CELSIUS),
        slowdown: Type.Optional(Type.Number({ minimum: 1, maximum: 1000 })),
      }),
    ),
    powerLoss: Type.Optional(
      object({
        after: Type.Optional(SPAN),
        for: Type.Optional(SPAN),
        resume: Type.Optional(Type.Boolean()),
        times: Type.Optional(Type.Number({ minimum: 1, maximum: 1_000_000 })),
      }),
    ),
    pullTime: Type.Optional(SPAN),
    pullFails: Type.Optional(
      Type.Union([Type.Boolean(), object({ image: GLOB, message: Type.Optional(Type.String()) })]),
    ),
    agentStopped: Type.Optional(Type.Boolean()),
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
  {
    name: "old hardware at sea",
    match: { deviceClass: "nano", site: "ship-*" },
    effects: {
      latency: { distribution: "lognormal", median: 30, sigma: 0.5, jitter: 0.1 },
      drift: { latencyPerHour: 0.1, errorRatePerHour: 0.001 },
      crashLoop: { every: "10m", exitCode: 139 },
      disk: { sizeMegabytes: 32000, freeMegabytes: 200, fillMegabytesPerHour: 5 },
      heat: { idle: 45, risePerHour: 10, throttleAt: 80, slowdown: 2 },
      offline: [{ from: "1h", for: "3d" }],
    },
  },
  {
    name: "bad lines",
    effects: {
      slowDownload: "30s",
      powerLoss: { after: "10s", for: "2m", resume: true, times: 1 },
      pullTime: "3m",
      pullFails: { image: "registry.example/*", message: "no such image" },
      agentStopped: false,
    },
  },
];
