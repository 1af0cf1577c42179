import { Type } from "./type.ts";

// What a page about a report understands of the details of its checks: docs/verifier.md. Whatever else they say is in the
// JSON.

const percentileSchema = Type.Object({ value: Type.Number(), low: Type.Number(), high: Type.Number() });
/** Of Latency, in milliseconds. */
export const timingSchema = Type.Object({
  runs: Type.Number(),
  mean: Type.Number(),
  least: Type.Number(),
  p50: percentileSchema,
  p95: percentileSchema,
  p99: percentileSchema,
  most: Type.Object({ value: Type.Number(), run: Type.Number() }),
  outliers: Type.Number(),
});
/** Of Golden (against labels) and Parity (against the classes of the other model). */
export const classificationSchema = Type.Object({
  samples: Type.Number(),
  correct: Type.Number(),
  byClass: Type.Array(Type.Object({ label: Type.Number(), samples: Type.Number(), correct: Type.Number() })),
  confused: Type.Array(Type.Object({ expected: Type.Number(), got: Type.Number(), samples: Type.Number() })),
});
/** Of Golden, Determinism and Parity; numbers that are infinite are null in JSON, and left out here. */
export const comparisonSchema = Type.Object({
  samples: Type.Number(),
  elements: Type.Number(),
  beyond: Type.Number(),
  nonFinite: Type.Number(),
});
