import type { EdgeDevice } from "../api/edge-device.ts";
import type { InferenceDeployment } from "../api/inference-deployment.ts";
import type { Grant } from "../api/tenancy.ts";
import type { Fault } from "../base/fault.ts";
import type { Instant } from "../base/time.ts";
import type { Json, SlotState } from "../hub/hub.ts";

/** What one twin says about the model: the pointer that was given and the report that came back. */
export type ModuleSlot = Pick<SlotState, "pointer" | "report">;

export type IdentitySeen = {
  /** `null`: not asked, because nothing depends on it. */
  readonly generationId: string | null;
  readonly enabled: boolean;
  readonly iotEdge: boolean;
  /** The uid of the object that the identity was created for; left out: not asked. */
  readonly madeFor?: string | null;
  /** Of the identity: it changes with its keys. `null`: not known. */
  readonly identityEtag: string | null;
  /** Of the device's twin. */
  readonly etag: string;
  readonly tags: Json;
  /** By module; the device twin's own slot is under the empty name. */
  readonly slots: Readonly<Record<string, ModuleSlot>>;
};

export type HubSeen =
  | { readonly kind: "absent" }
  | { readonly kind: "unreadable"; readonly fault: Fault }
  | ({ readonly kind: "present" } & IdentitySeen);

/** A frozen picture of one device at `now`: the decision and the report never look anywhere else. */
export type DeviceSeen = {
  readonly now: Instant;
  readonly device: EdgeDevice;
  readonly deviceId: string;
  /** Host name of the hub. */
  readonly host: string;
  readonly salt: string;
  /** Id of this cluster: two may share a hub. */
  readonly clusterId: string;
  /** Whether the object that the tags name gives the identity up to this one. */
  readonly succeeds: boolean;
  /** The EdgeDevice of the same namespace that takes the identity over when this one is deleted; `null`: there is none. */
  readonly successor: string | null;
  /**
   * Of an object that is deleted and whose identity the tags give to another: whether that one has it (taken), has yet to
   * take it or to let go (waiting), or is gone without having taken it (gone). `none`: it was given to no other.
   */
  readonly handedTo: "none" | "waiting" | "taken" | "gone";
  /** Those of the device's namespace. */
  readonly deployments: readonly InferenceDeployment[];
  readonly hub: HubSeen;
  /** Whether the fleet view could be read lately: silence means nothing otherwise. */
  readonly hubReachable: boolean;
  /** What the namespace may use. */
  readonly grant: Grant;
  /** Too many identities would go at once: this one waits for a person. */
  readonly mustWait: boolean;
};

/** The result of writing the connection Secret in this pass. */
export type SecretOutcome =
  | { readonly kind: "written"; readonly generationId: string; readonly identityEtag: string | null }
  /** A Secret of that name exists and is not owned by this object. */
  | { readonly kind: "foreign" }
  /** The identity has no symmetric keys. */
  | { readonly kind: "keyless" }
  | { readonly kind: "failed"; readonly source: "kube" | "hub"; readonly fault: Fault };

/** What acting found out and the report needs; it counts even where a later action failed. */
export type DeviceActed = {
  /** The generation of the identity that was created in this pass. */
  readonly created: string | null;
  readonly secret: SecretOutcome | null;
  /** Which system a fault came from. */
  readonly failedAt: "hub" | "kube";
};

export const NOT_ACTED: DeviceActed = { created: null, secret: null, failedAt: "hub" };
