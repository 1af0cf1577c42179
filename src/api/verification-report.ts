import { checkResultSchema } from "./model-release.ts";
import { type Of, orNull } from "./schema.ts";
import { Type } from "./type.ts";

// The full report of a verification: what `kubectl` shows is a part of it.

const tensorFactsSchema = Type.Object({
  name: Type.String(),
  type: Type.String(),
  shape: Type.Array(Type.Union([Type.Number(), Type.String()])),
  /** Types of the keys of a sequence of maps. */
  keys: Type.Optional(Type.Array(Type.String())),
});

/** What the model file contains. */
const modelFactsSchema = Type.Object({
  digest: Type.String(),
  sizeBytes: Type.Integer(),
  irVersion: Type.Integer(),
  /** Empty if the file names none. */
  producer: Type.String(),
  opsets: Type.Array(Type.Object({ domain: Type.String(), version: Type.Integer() })),
  operators: Type.Array(Type.Object({ domain: Type.String(), name: Type.String(), count: Type.Integer() })),
  nodes: Type.Integer(),
  /** Elements of all initializers and constants. */
  parameters: Type.Integer(),
  inputs: Type.Array(tensorFactsSchema),
  outputs: Type.Array(tensorFactsSchema),
});

const checkReportSchema = Type.Object({
  ...checkResultSchema.properties,
  /** Milliseconds. */
  took: Type.Number(),
  /** Figures by check: docs/verifier.md. */
  details: Type.Optional(Type.Unsafe<object>({ type: "object" })),
});

/** Body of the answer to `GET /v1/verifications/{key}/report`. */
export const fullReportSchema = Type.Object({
  format: Type.Literal("edgefleet.dev/verification-report/v1"),
  verdict: Type.Union([Type.Literal("Passed"), Type.Literal("Failed")]),
  /** Of a failure. */
  reason: Type.Optional(Type.String()),
  message: Type.String(),
  verifierVersion: Type.String(),
  /** ISO 8601. */
  startedAt: Type.String(),
  finishedAt: Type.String(),
  /** `null` if the file could not be read. */
  model: orNull(modelFactsSchema),
  golden: orNull(Type.Object({ digest: Type.String(), sizeBytes: Type.Integer() })),
  checks: Type.Array(checkReportSchema),
});

export type TensorFacts = Of<typeof tensorFactsSchema>;
export type ModelFacts = Of<typeof modelFactsSchema>;
export type CheckReport = Of<typeof checkReportSchema>;
export type FullReport = Of<typeof fullReportSchema>;
