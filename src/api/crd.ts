import type { TSchema } from "typebox";
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
  description: "Since when the object exists.",
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
    columns: [
      column("Model", ".spec.model", "Name of the model."),
      column("Version", ".spec.version", "Version of the model."),
      condition("Verified", "Verified", "status", "Whether every variant has passed verification."),
      condition("Reason", "Verified", "reason", "Why Verified is what it is."),
      AGE,
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

/** A schema as the API server takes it: plain JSON, in which nothing that has a default is required of a person. */
function structural(schema: TSchema): unknown {
  // TypeBox keeps properties of its own on a schema; a round trip through JSON leaves them behind.
  return withoutDefaultedRequired(JSON.parse(JSON.stringify(schema)));
}

function withoutDefaultedRequired(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(withoutDefaultedRequired);
  if (!isRecord(node)) return node;
  const entries = Object.entries(node).map(
    ([key, value]) => [key, key === "default" ? value : withoutDefaultedRequired(value)] as const,
  );
  const { required, properties, ...rest } = Object.fromEntries(entries);
  if (!isRecord(properties)) return Object.fromEntries(entries);
  const needed = Array.isArray(required)
    ? required.filter((name) => !hasDefault(properties[String(name)]))
    : [];
  return { ...rest, ...(needed.length > 0 ? { required: needed } : {}), properties };
}

function hasDefault(schema: unknown): boolean {
  return isRecord(schema) && "default" in schema;
}

function isRecord(value: unknown): value is Json {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

function column(name: string, jsonPath: string, description: string): Column {
  return { name, type: "string", jsonPath, description };
}

function condition(name: string, type: string, field: "status" | "reason", description: string): Column {
  return column(name, `.status.conditions[?(@.type=="${type}")].${field}`, description);
}

function wide(shown: Column): Column {
  return { ...shown, priority: 1 };
}
