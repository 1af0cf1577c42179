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
      "EdgeDevice represents one device registered with an IoT hub. The operator creates its identity, writes its twin tags, and reports its state.",
    spec: edgeDeviceSpecSchema,
    status: edgeDeviceStatusSchema,
    rules: [
      cel(
        "has(self.spec.deviceId) || self.metadata.name.size() <= 128",
        "IoT Hub allows at most 128 characters in a device ID; set spec.deviceId, or choose a shorter name",
      ),
    ],
    columns: [
      column("Class", ".spec.deviceClass", "Hardware class of the device."),
      column("Site", ".spec.site", "Site of the device."),
      condition("Online", "Online", "status", "Whether the device has reported recently."),
      condition("InSync", "ModelInSync", "status", "Whether the device runs the release that it should run."),
      column("Release", ".status.model.release", "ModelRelease that the device reports running."),
      column(
        "State",
        ".status.model.state",
        "State of the model on the device: Running, a stage of an update, or Failed.",
      ),
      column("Track", ".status.placement.track", "Release track of the device: Stable or Candidate."),
      condition(
        "Ready",
        "Ready",
        "status",
        "Whether the identity on the hub is as specified. Says nothing about the device itself.",
      ),
      AGE,
      wide(column("Digest", ".status.model.digest", "Digest of the model that the device reports running.")),
      wide({ ...column("Bucket", ".status.bucket", "Canary bucket of the device."), type: "integer" }),
      wide(condition("Presence", "Online", "reason", "Reason of the Online condition.")),
      wide(condition("Sync", "ModelInSync", "reason", "Reason of the ModelInSync condition.")),
      wide(condition("Reason", "Ready", "reason", "Reason of the Ready condition.")),
    ],
  },
  {
    kind: "ModelRelease",
    plural: "modelreleases",
    singular: "modelrelease",
    shortName: "mrel",
    description:
      "ModelRelease is one immutable version of a model: its files, identified by digest, and the checks they must pass. A release is not deployed to any device until the verifier has passed it.",
    spec: modelReleaseSpecSchema,
    status: modelReleaseStatusSchema,
    rules: [
      cel(
        "!has(self.spec.verification) || !has(self.spec.verification.parity) || self.spec.verification.parity.with != self.metadata.name",
        "a release cannot be compared with itself; set verification.parity.with to another release, or to previous",
      ),
    ],
    columns: [
      column("Model", ".spec.model", "Name of the model."),
      column("Version", ".spec.version", "Version of the model."),
      condition("Verified", "Verified", "status", "Status of the Verified condition."),
      condition("Reason", "Verified", "reason", "Reason of the Verified condition."),
      AGE,
      wide({
        ...column("Checked", ".status.variants[0].verifiedAt", "Time since the first variant was verified."),
        type: "date",
      }),
      wide(
        column(
          "Verifier",
          ".status.variants[0].verifierVersion",
          "Version of the verifier that verified the first variant.",
        ),
      ),
      wide(condition("Message", "Verified", "message", "Message of the Verified condition.")),
    ],
  },
  {
    kind: "InferenceDeployment",
    plural: "inferencedeployments",
    singular: "inferencedeployment",
    shortName: "idep",
    description:
      "InferenceDeployment rolls a ModelRelease out to a set of devices, step by step, and rolls it back automatically when an objective is breached.",
    spec: inferenceDeploymentSpecSchema,
    status: inferenceDeploymentStatusSchema,
    columns: [
      column("Release", ".spec.release.name", "ModelRelease that the devices should run."),
      column("Phase", ".status.phase", "Phase of the rollout."),
      {
        ...column("Step", ".status.step.percent", "Percentage of devices in the current step."),
        type: "integer",
      },
      {
        ...column("Exposed", ".status.devices.exposed", "Number of devices that should run the candidate."),
        type: "integer",
      },
      {
        ...column(
          "Updated",
          ".status.devices.updated",
          "Number of devices that run the release they should run.",
        ),
        type: "integer",
      },
      {
        ...column("Failed", ".status.devices.failed", "Number of devices on which the candidate failed."),
        type: "integer",
      },
      condition("Ready", "Ready", "status", "Status of the Ready condition."),
      AGE,
      wide(column("Stable", ".status.stable.release", "ModelRelease that a rollback returns to.")),
      wide(condition("Reason", "Ready", "reason", "Reason of the Ready condition.")),
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
                apiVersion: {
                  type: "string",
                  description: `API version of the object: ${GROUP}/${VERSION}.`,
                },
                kind: { type: "string", description: `Kind of the object: ${kind.kind}.` },
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
  return forUsers(JSON.parse(JSON.stringify(schema)));
}

/** Fields with a default are not required of users, and descriptions say what `kubectl explain` leaves out. */
function forUsers(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(forUsers);
  if (!isRecord(node)) return node;
  const inner = Object.fromEntries(
    Object.entries(node).map(([key, value]) => [key, key === "default" ? value : forUsers(value)]),
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
  const written = isDecimal
    ? [`An integer, or a decimal as a quoted string, for example 200 or "0.95".`]
    : [];
  const isStated = description.includes("Defaults to");
  const value = defaultText(node["default"]);
  const defaulted = isStated || value === null ? [] : [`Defaults to ${value}.`];
  // First, so that the YAML reads well too.
  return { description: [description, ...written, ...defaulted].join(" "), ...rest };
}

/**
 * The API server checks the type of an int-or-string itself, and a rule of ours the form: with these two it would add
 * three lines about its schema to a number that a user forgot to quote.
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
