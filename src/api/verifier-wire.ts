import { Type } from "typebox";
import { checkResultSchema, verificationSchema } from "./model-release.ts";
import { closed } from "./parse.ts";
import { digest, type Of } from "./schema.ts";

// What the operator and the verifier sidecar send to each other as JSON; docs/verifier.md tells the paths.

const downloadSchema = Type.Object({
  url: Type.String({ description: "A secret: a read-only SAS URL.", pattern: "^https?://", maxLength: 8192 }),
  digest: digest({ description: "sha256 that the file must have." }),
  sizeBytes: Type.Integer({ description: "Size of the file; no more is read.", minimum: 0 }),
});

/** Body of `PUT /v1/verifications/{key}`. */
export const verifyRequestSchema = closed(
  Type.Object({
    model: downloadSchema,
    golden: Type.Unsafe<Of<typeof downloadSchema> | null>({ anyOf: [downloadSchema, { type: "null" }] }),
    checks: verificationSchema,
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
