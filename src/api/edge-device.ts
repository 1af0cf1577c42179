import type { Resource } from "./resource.ts";
import { cel, conditionsSchema, duration, type Of, oneOf, stringMap } from "./schema.ts";
import { Type } from "./type.ts";

/** A value that becomes a twin tag and part of a target condition: no quotes, no spaces, nothing to escape. */
export const LABEL_LIKE = "^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$";

export const edgeDeviceSpecSchema = Type.Object(
  {
    deviceId: Type.Optional(
      Type.String({
        description:
          "Identity of the device on the hub; metadata.name when left out. Immutable. The hub allows letters, digits and - . % _ * ? ! ( ) , : = @ $ '",
        minLength: 1,
        maxLength: 128,
        pattern: "^[A-Za-z0-9.%_*?!(),:=@$'-]+$",
        "x-kubernetes-validations": [
          cel(
            "self != '.' && self != '..'",
            "a deviceId of dots alone is a path, and cannot be asked for on the hub; choose another id",
          ),
        ],
      }),
    ),
    deviceClass: Type.String({
      description:
        "Kind of hardware, such as jetson-orin-nano: picks the model variant and is a stratum of canaries.",
      pattern: LABEL_LIKE,
      maxLength: 63,
    }),
    site: Type.Optional(
      Type.String({
        description: "Where the device is: a stratum of canaries.",
        pattern: LABEL_LIKE,
        maxLength: 63,
      }),
    ),
    iotEdge: Type.Boolean({
      description:
        "Whether the device runs the Azure IoT Edge runtime: then the model pointer lives in a module twin, otherwise in the device twin. Immutable, because the hub cannot change it.",
      default: true,
    }),
    enabled: Type.Boolean({ description: "Whether the hub lets the device connect.", default: true }),
    authentication: Type.Optional(
      Type.Object(
        {
          type: oneOf(["SymmetricKey"], { description: "The hub makes the keys.", default: "SymmetricKey" }),
        },
        { description: "How the device proves who it is." },
      ),
    ),
    connectionSecret: Type.Optional(
      Type.Object(
        {
          name: Type.String({
            description: "Name of the Secret, in the device's namespace.",
            pattern: "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$",
            maxLength: 253,
          }),
        },
        {
          description:
            "Opt-in: a Secret with hostName, deviceId, primaryKey, secondaryKey and connectionString, owned by this object.",
        },
      ),
    ),
    tags: Type.Optional(
      stringMap({
        description: "Further tags of the device's twin. The tag edgefleet is the operator's own.",
        maxProperties: 32,
        "x-kubernetes-validations": [
          cel(
            "!('edgefleet' in self)",
            "the tag edgefleet is reserved for the operator; choose another name",
          ),
          cel(
            "self.all(k, k.matches('^[A-Za-z0-9_-]{1,64}$'))",
            "tag names may have letters, digits, - and _ only, at most 64 of them",
          ),
        ],
      }),
    ),
    heartbeatTimeout: duration({
      description: "A device that has not reported for this long is Online=False.",
      default: "5m",
    }),
    deletionPolicy: Type.Optional(
      oneOf(["Delete", "Retain"], {
        description:
          "What happens to the hub identity when this object is deleted. Default: Delete for an identity that the operator created, Retain for one that existed before it.",
      }),
    ),
  },
  {
    description: "What a person says about the device.",
    "x-kubernetes-validations": [
      cel(
        "has(self.deviceId) == has(oldSelf.deviceId) && (!has(self.deviceId) || self.deviceId == oldSelf.deviceId)",
        "deviceId is immutable; delete this EdgeDevice and create another one",
      ),
      cel(
        "self.iotEdge == oldSelf.iotEdge",
        "iotEdge is immutable: the hub cannot change it; delete this EdgeDevice and create another one",
      ),
    ],
  },
);

export const edgeDeviceStatusSchema = Type.Object(
  {
    observedGeneration: Type.Optional(
      Type.Integer({ description: "The generation this status was made for." }),
    ),
    bucket: Type.Optional(
      Type.Integer({
        description:
          "Place of the device in canaries, 0 to 999999: stable for its life; 5 % is bucket < 50000 of its stratum.",
        minimum: 0,
        maximum: 999_999,
      }),
    ),
    hub: Type.Optional(
      Type.Object(
        {
          host: Type.String({ description: "Host name of the hub." }),
          deviceId: Type.String({ description: "Identity on the hub." }),
          generationId: Type.String({ description: "The hub's id of this life of the identity." }),
          adopted: Type.Boolean({ description: "Whether the identity existed before this object." }),
        },
        { description: "The identity on the hub." },
      ),
    ),
    connectionSecret: Type.Optional(
      Type.Object(
        {
          name: Type.String({ description: "Name of the Secret." }),
          generationId: Type.String({ description: "The life of the identity whose keys are in it." }),
          identityEtag: Type.Optional(
            Type.String({ description: "The state of the identity that the keys were read for." }),
          ),
        },
        { description: "The Secret that was written." },
      ),
    ),
    placement: Type.Optional(
      Type.Object(
        {
          deployment: Type.String({
            description: "Name of the InferenceDeployment that selects this device.",
          }),
          module: Type.String({ description: "Module (or model slot) that it manages." }),
          release: Type.Optional(
            Type.String({ description: "ModelRelease that the device is meant to run." }),
          ),
          track: oneOf(["Stable", "Candidate"], {
            description: "Whether the device is exposed to the candidate.",
          }),
        },
        { description: "Which rollout wants what here." },
      ),
    ),
    model: Type.Optional(
      Type.Object(
        {
          release: Type.Optional(Type.String({ description: "Release the device says it runs." })),
          digest: Type.Optional(Type.String({ description: "Digest of the model the device says it runs." })),
          variant: Type.Optional(Type.String({ description: "Variant the device says it runs." })),
          state: Type.Optional(
            Type.String({ description: "Running, or how far the update in flight has come, or Failed." }),
          ),
          since: Type.Optional(Type.String({ description: "Since when, by the device's clock." })),
        },
        { description: "What the device reports." },
      ),
    ),
    conditions: Type.Optional(conditionsSchema),
  },
  { description: "What the operator has observed. It holds no heartbeats." },
);

export type EdgeDeviceSpec = Of<typeof edgeDeviceSpecSchema>;
export type EdgeDeviceStatus = Of<typeof edgeDeviceStatusSchema>;
export type EdgeDevice = Resource<EdgeDeviceSpec, EdgeDeviceStatus>;

export function deviceIdOf(device: Pick<EdgeDevice, "name" | "spec">): string {
  return device.spec.deviceId ?? device.name;
}
