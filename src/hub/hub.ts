import type { FleetTags, InferenceReport } from "../api/device-contract.ts";
import type { Attempt, Fault } from "../base/fault.ts";
import type { Instant, Millis } from "../base/time.ts";

// The port of the hub: types only. hub/azure-hub.ts speaks to Azure IoT Hub (or the simulator); test/fakes/ has the fake.

export type Json = Readonly<Record<string, unknown>>;

/**
 * Which budget a call is charged to. Ordinary work leaves a part of every budget free; only work of the rollback lane
 * may use that part, so that a cold start of ten thousand devices never delays a rollback.
 */
export type Lane = "normal" | "rollback";

export type Identity = {
  readonly device: string;
  readonly generationId: string;
  readonly etag: string;
  readonly enabled: boolean;
  readonly iotEdge: boolean;
  /** "sas" for symmetric keys; other types are left alone. */
  readonly authentication: string;
  /** The uid of the object that it was created for; `null`: by another program, or by an operator that did not record it. */
  readonly madeFor: string | null;
};

/** Keys of an identity. A secret: it goes into a Secret and nowhere else. */
export type IdentityKeys = { readonly primaryKey: string; readonly secondaryKey: string };

/** `module: null` is the twin of the device itself. */
export type TwinRef = { readonly device: string; readonly module: string | null };

export type Twin = TwinRef & {
  readonly etag: string;
  /** Of tags and desired; it only grows during one life of an identity. */
  readonly version: number;
  readonly tags: Json;
  readonly desired: Json;
  readonly reported: Json;
};

/** A merge patch: `null` deletes a key. */
export type TwinPatch = { readonly tags?: Json; readonly desired?: Json };

/** edge: a layered or base deployment (modulesContent) · device: a device configuration (deviceContent) */
export type ConfigurationKind = "edge" | "device";

export type Configuration = {
  readonly id: string;
  readonly kind: ConfigurationKind;
  readonly labels: Readonly<Record<string, string>>;
  readonly priority: number;
  readonly targetCondition: string;
  /**
   * What stands inside modulesContent (by module) or deviceContent (by twin path); `kind` says which of the two it is.
   * It can hold SAS URLs: never log it.
   */
  readonly content: Json;
  readonly etag: string;
};
export type NewConfiguration = Omit<Configuration, "etag">;
export type ConfigurationChange = Partial<Pick<Configuration, "targetCondition" | "priority" | "labels">>;

/** One row of the fleet query over devices. */
export type DeviceRow = {
  readonly device: string;
  readonly etag: string;
  readonly version: number;
  readonly enabled: boolean;
  readonly iotEdge: boolean;
  /** Etag of the identity: it changes with its keys and its status. `null`: the row does not say. */
  readonly identityEtag: string | null;
  readonly tags: Json;
  /** Of the device twin itself: what counts where `iotEdge` is false. */
  readonly slot: SlotState;
};
/** What one twin says about its model: the pointer (without its url, which is a secret) and the report. */
export type SlotState = {
  readonly etag: string;
  readonly pointer: PointerRow | null;
  readonly report: InferenceReport | null;
};
export type PointerRow = { readonly deployment: string; readonly release: string; readonly digest: string };
export type ModuleRow = {
  readonly device: string;
  readonly module: string;
  readonly slot: SlotState;
  /** As of twins; lets the fleet view tell an older row from a newer one. */
  readonly version?: number;
};
export type Page<T> = { readonly rows: readonly T[]; readonly next: string | null };

/** The hub's service API. Every call may wait for its budget; it answers `throttled` rather than wait very long. */
export type DeviceHub = {
  /** Host name of the hub, such as `fleet.azure-devices.net`. */
  readonly host: string;
  /** `null`: there is no such identity. */
  readonly getIdentity: (device: string, signal: AbortSignal) => Attempt<Identity | null>;
  /** Keys of an identity with symmetric keys; `null` where it has none. */
  readonly getKeys: (device: string, signal: AbortSignal) => Attempt<IdentityKeys | null>;
  /** `conflict`: it exists already. */
  readonly createIdentity: (
    identity: {
      readonly device: string;
      readonly iotEdge: boolean;
      readonly enabled: boolean;
      /** Written into the identity itself, so that a crash after its creation leaves no doubt whose it is. */
      readonly madeFor?: string;
    },
    signal: AbortSignal,
  ) => Attempt<Identity>;
  /** Reads, changes and writes the whole identity under its etag, so that keys survive. */
  readonly setEnabled: (device: string, enabled: boolean, signal: AbortSignal) => Attempt<Identity>;
  /** An identity that is not there is removed already. */
  readonly removeIdentity: (device: string, signal: AbortSignal) => Attempt<void>;
  /** Always current, unlike a query. `null`: no such twin. */
  readonly getTwin: (ref: TwinRef, lane: Lane, signal: AbortSignal) => Attempt<Twin | null>;
  /** `conflict`: the twin is no longer the one with that etag. */
  readonly patchTwin: (
    ref: TwinRef & { readonly etag: string },
    patch: TwinPatch,
    lane: Lane,
    signal: AbortSignal,
  ) => Attempt<Twin>;
  readonly listConfigurations: (lane: Lane, signal: AbortSignal) => Attempt<readonly Configuration[]>;
  /** `conflict`: the id exists. `rejected`: refused, or the hub is full (it says which). */
  readonly createConfiguration: (
    configuration: NewConfiguration,
    lane: Lane,
    signal: AbortSignal,
  ) => Attempt<Configuration>;
  readonly updateConfiguration: (
    had: Configuration,
    change: ConfigurationChange,
    lane: Lane,
    signal: AbortSignal,
  ) => Attempt<Configuration>;
  readonly removeConfiguration: (
    had: Pick<Configuration, "id" | "etag">,
    lane: Lane,
    signal: AbortSignal,
  ) => Attempt<void>;
  /** Asks the hub whether it understands a target condition: `null`, or the hub's message. */
  readonly testCondition: (targetCondition: string, signal: AbortSignal) => Attempt<string | null>;
  /** Devices that carry our tag, page by page. */
  readonly queryDevices: (from: string | null, signal: AbortSignal) => Attempt<Page<DeviceRow>>;
  /** Module twins that have a pointer or a report of ours, page by page. */
  readonly queryModules: (from: string | null, signal: AbortSignal) => Attempt<Page<ModuleRow>>;
};

/** A device as the fleet view remembers it; its identity's etag is `null` until a sweep has seen it. */
export type FleetDevice = Omit<DeviceRow, "slot"> & {
  /** `tags.edgefleet`, where it is whole; `null` otherwise. */
  readonly fleetTags: FleetTags | null;
  /** By module name; the device twin's own slot is under the empty name. */
  readonly slots: Readonly<Record<string, FleetSlot>>;
};

export type FleetSlot = SlotState & {
  /**
   * When the report was received, by our clock: when another heartbeat was first seen, or, for the first
   * that this process saw, what the device says, if that is earlier. `null`: there is no report.
   */
  readonly heardAt: Instant | null;
};

export type HubHealth = {
  /** Whether queries and twins can both be read: the whole fleet is seen. */
  readonly reachable: boolean;
  /** Whether twins can be read one by one, although queries may fail: the exposed devices are seen. */
  readonly canReadTwins: boolean;
  /** Since when `reachable` has been what it is. */
  readonly since: Instant;
  /** Since when `canReadTwins` has been what it is: while twins cannot be read, silence is ours and not the devices'. */
  readonly twinsSince: Instant;
  /** Which reads fail and which do not, and what the hub answered; empty while it is reachable. */
  readonly message: string;
  /** What kind of fault that was: a missing right is fixed elsewhere than an outage. */
  readonly kind?: Fault["kind"];
};

/** An informer for the hub, so that it is never polled device by device. */
export type FleetView = {
  readonly get: (device: string) => FleetDevice | undefined;
  readonly list: () => Iterable<FleetDevice>;
  /** Those whose tags or pointers name this deployment (`namespace.name`), without a look at the others. */
  readonly namedBy: (deployment: string) => Iterable<FleetDevice>;
  readonly health: () => HubHealth;
  /** How long the last whole sweep took, with the pause before it: the greatest age of what is known from queries. */
  readonly sweepTime: () => Millis;
  /** Whether a whole sweep has ended since the start: before that there may be devices of which nothing is known. */
  readonly isSwept: () => boolean;
  /**
   * Called for devices whose tags, pointer, running model or update changed; not for heartbeats and windows.
   * `deployments` are those that its tags and pointers named before, or name now.
   */
  readonly onChange: (listener: (device: string, deployments: readonly string[]) => void) => void;
  /** Called when the hub becomes reachable or unreachable. */
  readonly onHealth: (listener: () => void) => void;
  /** Applies what a call has just returned. */
  readonly note: (twin: Twin) => void;
  readonly forget: (device: string) => void;
  /** Reads these twins now (the fast lane), at most as many as the budget gives; stops at the first fault. */
  readonly refresh: (refs: readonly TwinRef[], lane: Lane, signal: AbortSignal) => Attempt<void>;
};

/** The hub's configurations, listed at a pace that fits the budget; its writes are remembered at once. */
export type ConfigurationView = {
  /** `null` until the first listing. */
  readonly list: () => readonly Configuration[] | null;
  /** Called with what was added, changed or removed; with `null` after the first listing. */
  readonly onChange: (listener: (changed: readonly Configuration[] | null) => void) => void;
  readonly create: DeviceHub["createConfiguration"];
  readonly update: DeviceHub["updateConfiguration"];
  readonly remove: (had: Configuration, lane: Lane, signal: AbortSignal) => Attempt<void>;
};
