import { checkResultSchema } from "./model-release.ts";
import { closed } from "./parse.ts";
import { digest, orNull } from "./schema.ts";
import { Type } from "./type.ts";
import { verificationSchema } from "./verification-spec.ts";

// What the operator and the verifier sidecar send to each other as JSON; docs/verifier.md tells the paths.

const downloadSchema = Type.Object({
  url: Type.String({ description: "A secret: a read-only SAS URL.", pattern: "^https?://", maxLength: 8192 }),
  digest: digest({ description: "sha256 that the file must have." }),
  sizeBytes: Type.Integer({ description: "Size of the file; no more is read.", minimum: 0 }),
  etag: Type.Optional(
    Type.String({
      description: "State of the blob that is meant: nothing but this blob in this state will do.",
      maxLength: 256,
      pattern: "^[\\x21-\\x7e]*$",
    }),
  ),
});

const referenceSchema = Type.Object({
  ...downloadSchema.properties,
  name: Type.String({ description: "What the model is called, for messages.", maxLength: 300 }),
});

/** Body of `PUT /v1/verifications/{key}`. */
export const verifyRequestSchema = closed(
  Type.Object({
    /** Who asks, so that one namespace with many releases does not keep others waiting. */
    tenant: Type.String({ maxLength: 253 }),
    model: downloadSchema,
    golden: orNull(downloadSchema),
    /** What the model is compared with; `null` where the checks do not ask for it. */
    parity: orNull(referenceSchema),
    variantParity: orNull(referenceSchema),
    checks: verificationSchema,
    /** `again`: it was verified before, and may wait for what was not. Left out: `new`. */
    urgency: Type.Optional(Type.Union([Type.Literal("new"), Type.Literal("again")])),
  }),
);

const finalFields = {
  checks: Type.Array(checkResultSchema, { maxItems: 16 }),
  verifierVersion: Type.String({ maxLength: 256 }),
};
const reasonFields = {
  reason: Type.String({ maxLength: 64 }),
  message: Type.String({ maxLength: 2048 }),
};

/** Body of the answer to `GET /v1/verifications/{key}`. */
export const verifyReportSchema = Type.Union([
  Type.Object({ kind: Type.Literal("running"), check: Type.String({ maxLength: 64 }) }),
  Type.Object({ kind: Type.Literal("passed"), ...finalFields }),
  Type.Object({ kind: Type.Literal("failed"), ...reasonFields, ...finalFields }),
  Type.Object({ kind: Type.Literal("error"), ...reasonFields }),
]);

/** Body of the answer to `GET /v1/version`. */
export const verifierVersionSchema = Type.Object({ version: Type.String({ minLength: 1, maxLength: 256 }) });

/** Body of every refusal. */
export const verifierProblemSchema = Type.Object({ error: Type.String({ maxLength: 8192 }) });
