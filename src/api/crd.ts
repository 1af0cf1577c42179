import type { TSchema } from "typebox";
import { DECIMAL_PATTERN } from "../base/decimal.ts";
import { isRecord } from "../base/guards.ts";
import { own } from "../base/lookup.ts";
import { edgeDeviceSpecSchema, edgeDeviceStatusSchema } from "./edge-device.ts";
import { inferenceDeploymentSpecSchema, inferenceDeploymentStatusSchema } from "./inference-deployment.ts";
import { modelReleaseSpecSchema, modelReleaseStatusSchema } from "./model-release.ts";
import { GROUP, VERSION } from "./resource.ts";
import { cel } from "./schema.ts";

type Json = Readonly<Record<string, unknown>>;
type Column = {
  readonly name: string;
  readonly type: "string" | "integer" | "date";
  readonly jsonPath: string;
  readonly description: string;
  /** 1: shown by `-o wide` only. */
  readonly priority?: 1;
};
type Kind = {
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortName: string;
  readonly description: string;
  readonly spec: TSchema;
  readonly status: TSchema;
  readonly rules?: readonly { readonly rule: string; readonly message: string }[];
  readonly columns: readonly Column[];
};

const AGE: Column = {
  name: "Age",
  type: "date",
  jsonPath: ".metadata.creationTimestamp",
  description: "Age of the object.",
};

const KINDS: readonly Kind[] = [
  {
    kind: "EdgeDevice",
    plural: "edgedevices",
    singular: "edgedevice",
    shortName: "edev",
    description:
      "One device behind IoT Hub: its identity, its tags, and what it runs. The operator creates the identity, writes the tags and reports what the device says.",
    spec: edgeDeviceSpecSchema,
    status: edgeDeviceStatusSchema,
    rules: [
      cel(
        "has(self.spec.deviceId) || self.metadata.name.size() <= 128",
        "the hub allows at most 128 characters in a device id: set spec.deviceId, or choose a shorter name",
      ),
    ],
    columns: [
      column("Class", ".spec.deviceClass", "Kind of hardware."),
      column("Site", ".spec.site", "Where the device is."),
      condition("Online", "Online", "status", "Whether the device has reported lately."),
      column("Release", ".status.model.release", "Release the device says it runs."),
      column("State", ".status.model.state", "Running, how far an update has come, or Failed."),
      column("Track", ".status.placement.track", "Whether the device is exposed to a candidate."),
      condition("Ready", "Ready", "status", "Summary of the conditions."),
      AGE,
      wide(column("Digest", ".status.model.digest", "Digest of the model the device says it runs.")),
      wide({ ...column("Bucket", ".status.bucket", "Place of the device in canaries."), type: "integer" }),
      wide(condition("Reason", "Ready", "reason", "Why Ready is what it is.")),
    ],
  },
  {
    kind: "ModelRelease",
    plural: "modelreleases",
    singular: "modelrelease",
    shortName: "mrel",
    description:
      "One version of one model: its bytes, by digest, and what good means for it. Nothing goes to a device before the verifier has passed it.",
    spec: modelReleaseSpecSchema,
    status: modelReleaseStatusSchema,
    rules: [
      cel(
        "!has(self.spec.verification) || !has(self.spec.verification.parity) || self.spec.verification.parity.with != self.metadata.name",
        "a release cannot be compared with itself: name another one in verification.parity.with, or previous",
      ),
    ],
    columns: [
      column("Model", ".spec.model", "Name of the model."),
      column("Version", ".spec.version", "Version of the model."),
      condition("Verified", "Verified", "status", "Whether every variant has passed verification."),
      condition("Reason", "Verified", "reason", "Why Verified is what it is."),
      AGE,
      wide({
        ...column("Checked", ".status.variants[0].verifiedAt", "How long ago the first variant was judged."),
        type: "date",
      }),
      wide(column("Verifier", ".status.variants[0].verifierVersion", "Which verifier judged it.")),
      wide(condition("Message", "Verified", "message", "What was found.")),
    ],
  },
  {
    kind: "InferenceDeployment",
    plural: "inferencedeployments",
    singular: "inferencedeployment",
    shortName: "idep",
    description:
      "Which devices run which release, in which steps it goes out, and which bounds take it back by itself.",
    spec: inferenceDeploymentSpecSchema,
    status: inferenceDeploymentStatusSchema,
    columns: [
      column("Release", ".spec.release.name", "Release that the devices shall run."),
      column("Phase", ".status.phase", "Where the rollout is."),
      { ...column("Step", ".status.step.percent", "Width of the current step in percent."), type: "integer" },
      {
        ...column("Exposed", ".status.devices.exposed", "Devices meant to run the candidate."),
        type: "integer",
      },
      {
        ...column("Updated", ".status.devices.updated", "Devices that report what they are meant to run."),
        type: "integer",
      },
      {
        ...column("Failed", ".status.devices.failed", "Devices that report that the candidate failed."),
        type: "integer",
      },
      condition("Ready", "Ready", "status", "Summary of the conditions."),
      AGE,
      wide(column("Stable", ".status.stable.release", "Release that a rollback goes back to.")),
      wide(condition("Reason", "Ready", "reason", "Why Ready is what it is.")),
    ],
  },
];

/** The CustomResourceDefinitions as plain JSON, in the order devices, releases, deployments; `crds/` is written from them. */
export function crds(): readonly Json[] {
  return KINDS.map(crdOf);
}

function crdOf(kind: Kind): Json {
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: {
      name: `${kind.plural}.${GROUP}`,
      labels: { "app.kubernetes.io/part-of": "edge-fleet-operator" },
    },
    spec: {
      group: GROUP,
      scope: "Namespaced",
      names: {
        kind: kind.kind,
        listKind: `${kind.kind}List`,
        plural: kind.plural,
        singular: kind.singular,
        shortNames: [kind.shortName],
        categories: ["edgefleet"],
      },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: kind.columns,
          schema: {
            openAPIV3Schema: {
              type: "object",
              description: kind.description,
              required: ["spec"],
              properties: {
                apiVersion: { type: "string", description: `Always ${GROUP}/${VERSION}.` },
                kind: { type: "string", description: `Always ${kind.kind}.` },
                metadata: { type: "object" },
                spec: structural(kind.spec),
                status: structural(kind.status),
              },
              ...(kind.rules === undefined ? {} : { "x-kubernetes-validations": kind.rules }),
            },
          },
        },
      ],
    },
  };
}

/** A schema as the API server takes it and `kubectl explain` shows it well. */
function structural(schema: TSchema): unknown {
  // TypeBox keeps properties of its own on a schema; a round trip through JSON leaves them behind.
  return forPeople(JSON.parse(JSON.stringify(schema)));
}

/** Nothing that has a default is required of a person, and descriptions say what `kubectl explain` leaves out. */
function forPeople(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(forPeople);
  if (!isRecord(node)) return node;
  const inner = Object.fromEntries(
    Object.entries(node).map(([key, value]) => [key, key === "default" ? value : forPeople(value)]),
  );
  const { required, ...rest } = withFullDescription(inner);
  const { properties } = rest;
  if (!isRecord(properties) || !Array.isArray(required))
    return required === undefined ? rest : { ...rest, required };
  const needed = required.filter((name) => !hasDefault(own(properties, String(name))));
  return needed.length === 0 ? rest : { ...rest, required: needed };
}

function withFullDescription(node: Json): Json {
  const isDecimal = node["pattern"] === DECIMAL_PATTERN;
  const { description, ...rest } = isDecimal ? withoutDecimalForm(node) : node;
  if (typeof description !== "string") return node;
  const written = isDecimal ? [`A whole number, or a decimal in quotes: 200 or "0.95".`] : [];
  const told = description.includes("Default");
  const value = defaultText(node["default"]);
  const otherwise = told || value === null ? [] : [`Default: ${value}.`];
  // First, so that the YAML reads well too.
  return { description: [description, ...written, ...otherwise].join(" "), ...rest };
}

/**
 * The API server checks the type of an int-or-string itself, and a rule of ours the form: with these two it would add
 * three lines about its schema to a number that somebody forgot to quote.
 */
function withoutDecimalForm(node: Json): Json {
  const { anyOf: _types, pattern: _form, ...rest } = node;
  return rest;
}

function defaultText(value: unknown): string | null {
  if (Array.isArray(value)) return value.every((item) => typeof item === "string") ? value.join(", ") : null;
  return ["string", "number", "boolean"].includes(typeof value) ? String(value) : null;
}

function hasDefault(schema: unknown): boolean {
  return isRecord(schema) && "default" in schema;
}

function column(name: string, jsonPath: string, description: string): Column {
  return { name, type: "string", jsonPath, description };
}

function condition(
  name: string,
  type: string,
  field: "status" | "reason" | "message",
  description: string,
): Column {
  return column(name, `.status.conditions[?(@.type=="${type}")].${field}`, description);
}

function wide(shown: Column): Column {
  return { ...shown, priority: 1 };
}
