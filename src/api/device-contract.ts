import type { Of } from "./schema.ts";
import { Type } from "./type.ts";

// The device contract, version 1: what the operator writes to `properties.desired.model` and what a device answers in
// `properties.reported.inference`; in the twin of the module, or of the device when it does not run IoT Edge.
// The simulator's devices import these types, and docs/device-contract.md publishes the schemas.

export const CONTRACT = 1;

export const modelPointerSchema = Type.Object(
  {
    contract: Type.Integer({ description: "1" }),
    deployment: Type.String({
      description: "`<namespace>.<name>` of the InferenceDeployment that wrote this.",
    }),
    release: Type.String({ description: "`<namespace>.<name>` of the ModelRelease." }),
    name: Type.String({ description: "Name of the model." }),
    version: Type.String({ description: "Version of the model." }),
    variant: Type.String({ description: "Variant of the release." }),
    digest: Type.String({ description: "sha256 of the file: a device checks it before it loads." }),
    sizeBytes: Type.Integer({ description: "Size of the file." }),
    url: Type.String({
      description: "Where to download it. A new url with the same digest is not an update.",
    }),
    executionProvider: Type.String({ description: "ONNX Runtime execution provider." }),
    config: Type.Object(
      {
        batchSize: Type.Optional(Type.Integer({ description: "Batch size." })),
        numThreads: Type.Optional(Type.Integer({ description: "Threads." })),
      },
      { description: "Settings that belong to the release." },
    ),
  },
  { description: "properties.desired.model" },
);
export type ModelPointer = Of<typeof modelPointerSchema>;

export const UPDATE_STATES = ["Downloading", "Checking", "Loading", "Probing", "Running", "Failed"] as const;
export type UpdateState = (typeof UPDATE_STATES)[number];

export const inferenceReportSchema = Type.Object(
  {
    contract: Type.Integer({ description: "1" }),
    active: Type.Optional(
      Type.Object({
        release: Type.String(),
        digest: Type.String(),
        variant: Type.String(),
        executionProvider: Type.String(),
        since: Type.String(),
      }),
    ),
    update: Type.Optional(
      Type.Object({
        release: Type.String(),
        digest: Type.String(),
        state: Type.Unsafe<UpdateState>({ type: "string", enum: [...UPDATE_STATES] }),
        error: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() })),
        at: Type.String(),
      }),
    ),
    window: Type.Optional(
      Type.Object({
        release: Type.String(),
        seconds: Type.Number(),
        inferences: Type.Integer(),
        errors: Type.Integer(),
        framesPerSecond: Type.Number(),
        latencyMilliseconds: Type.Object({ p50: Type.Number(), p95: Type.Number(), p99: Type.Number() }),
        endedAt: Type.String(),
      }),
    ),
    resources: Type.Optional(
      Type.Object({
        cpuPercent: Type.Optional(Type.Number()),
        memoryPercent: Type.Optional(Type.Number()),
        diskPercent: Type.Optional(Type.Number()),
        gpuPercent: Type.Optional(Type.Number()),
        gpuCelsius: Type.Optional(Type.Number()),
      }),
    ),
    restarts: Type.Optional(Type.Integer()),
    heartbeatAt: Type.String({ description: "RFC 3339, by the device's clock." }),
  },
  { description: "properties.reported.inference" },
);
export type InferenceReport = Of<typeof inferenceReportSchema>;

/** Our tags: `tags.edgefleet` of the device's twin. */
export type FleetTags = {
  readonly managed: boolean;
  readonly namespace: string;
  /** Name of the EdgeDevice object that owns the identity. */
  readonly device: string;
  readonly class: string;
  readonly site: string;
  readonly bucket: number;
  readonly iotEdge: boolean;
  /** module name → `<namespace>.<name>` of the InferenceDeployment that selects the device for it. */
  readonly deployments: Readonly<Record<string, string>>;
  /** Id of the cluster whose operator manages the twin; older versions did not write it. */
  readonly cluster?: string;
  /** Whether the identity existed before the EdgeDevice: decides what becomes of it in the end. */
  readonly adopted?: boolean;
  /** Names of the further tags that came from the EdgeDevice, sorted and joined by commas: the ones to take away again. */
  readonly keys?: string;
};
