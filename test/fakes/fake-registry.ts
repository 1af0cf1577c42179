import type { Fault } from "../../src/base/fault.ts";
import { err, ok, type Result } from "../../src/base/result.ts";
import { type Instant, minutes, parseTimestamp } from "../../src/base/time.ts";
import type {
  DeviceHub,
  FleetDevice,
  FleetSlot,
  FleetView,
  Identity,
  Json,
  Twin,
  TwinRef,
} from "../../src/hub/hub.ts";
import { fleetTagsOf, pointerOf, reportOf } from "../../src/hub/reports.ts";
import { type Calls, createCalls } from "./calls.ts";

/** The half of a hub that knows identities and twins; configurations are another fake's. */
export type FakeRegistry = {
  readonly hub: Pick<
    DeviceHub,
    | "host"
    | "getIdentity"
    | "getKeys"
    | "createIdentity"
    | "setEnabled"
    | "removeIdentity"
    | "getTwin"
    | "patchTwin"
  >;
  readonly fleet: FleetView;
  /** An identity made by somebody else. */
  readonly enroll: (
    device: string,
    facts?: {
      readonly iotEdge?: boolean;
      readonly enabled?: boolean;
      readonly tags?: Json;
      readonly keyless?: boolean;
    },
  ) => void;
  readonly identity: (device: string) => Identity | undefined;
  readonly twin: (ref: TwinRef) => Twin | undefined;
  /** Somebody else writes to a twin: a merge patch of its tags, desired or reported properties. */
  readonly write: (
    ref: TwinRef,
    patch: { readonly tags?: Json; readonly desired?: Json; readonly reported?: Json },
  ) => void;
  /** A person regenerates the keys of the identity. */
  readonly regenerateKeys: (device: string) => void;
  /** Somebody else removes the identity. */
  readonly drop: (device: string) => void;
  /** The fleet view reads everything anew. */
  readonly sweep: () => void;
  readonly setReachable: (reachable: boolean, at: Instant) => void;
  /** Everything that could be told from outside, without etags: for comparing two ends. */
  readonly picture: () => unknown;
  /** Texts that must appear nowhere but in a Secret. */
  readonly secrets: () => readonly string[];
};

export function createFakeRegistry(host: string, start: Instant, calls: Calls = createCalls()): FakeRegistry {
  const identities = new Map<string, Identity & { readonly key: string | null }>();
  const twins = new Map<string, Twin>();
  const rows = new Map<string, FleetDevice>();
  const changed: ((device: string, deployments: readonly string[]) => void)[] = [];
  const turned: (() => void)[] = [];
  let health = { reachable: true, canReadTwins: true, since: start, twinsSince: start, message: "" };
  let counter = 0;

  const nameOf = ({ device, module }: TwinRef) => `${device}/${module ?? ""}`;
  const next = () => {
    counter += 1;
    return String(counter);
  };

  function makeTwin(ref: TwinRef, tags: Json = {}): Twin {
    const twin: Twin = { ...ref, etag: next(), version: 1, tags, desired: {}, reported: {} };
    twins.set(nameOf(ref), twin);
    return twin;
  }

  function makeIdentity(
    device: string,
    facts: { iotEdge: boolean; enabled: boolean; key: string | null; madeFor: string | null },
  ) {
    const generationId = `life-${next()}`;
    const identity = { device, generationId, etag: next(), authentication: "sas", ...facts };
    identities.set(device, identity);
    return identity;
  }

  function write(ref: TwinRef, patch: { tags?: Json; desired?: Json; reported?: Json }): Twin {
    const had = twins.get(nameOf(ref)) ?? makeTwin(ref);
    const serviceSide = patch.tags !== undefined || patch.desired !== undefined;
    const twin: Twin = {
      ...had,
      etag: serviceSide ? next() : had.etag,
      version: had.version + (serviceSide ? 1 : 0),
      tags: mergePatch(had.tags, patch.tags ?? {}),
      desired: mergePatch(had.desired, patch.desired ?? {}),
      reported: mergePatch(had.reported, patch.reported ?? {}),
    };
    twins.set(nameOf(ref), twin);
    return twin;
  }

  function drop(device: string): void {
    identities.delete(device);
    for (const [name, twin] of twins) if (twin.device === device) twins.delete(name);
  }

  function rowOf(twin: Twin): FleetDevice {
    const identity = identities.get(twin.device);
    const slots = [...twins.values()].flatMap((each) =>
      each.device === twin.device ? [[each.module ?? "", slotOfTwin(each)] as const] : [],
    );
    return {
      device: twin.device,
      etag: twin.etag,
      version: twin.version,
      enabled: identity?.enabled ?? true,
      iotEdge: identity?.iotEdge ?? false,
      identityEtag: identity?.etag ?? null,
      tags: twin.tags,
      fleetTags: fleetTagsOf(twin.tags),
      slots: Object.fromEntries(slots),
    };
  }

  const without = <T extends { readonly key: string | null }>({ key: _, ...identity }: T) => identity;
  const missing = (device: string): Result<never, Fault> =>
    err({ kind: "rejected", message: `no device ${device}` });

  return {
    hub: {
      host,
      getIdentity: (device) =>
        calls.run("hub.getIdentity", () => {
          const identity = identities.get(device);
          return ok(identity === undefined ? null : without(identity));
        }),
      getKeys: (device) =>
        calls.run("hub.getKeys", () => {
          const key = identities.get(device)?.key ?? null;
          return ok(key === null ? null : { primaryKey: key, secondaryKey: `${key}-secondary` });
        }),
      createIdentity: ({ device, iotEdge, enabled, madeFor = null }) =>
        calls.run("hub.createIdentity", () => {
          if (identities.has(device)) return err({ kind: "conflict", message: "it exists" });
          const identity = makeIdentity(device, { iotEdge, enabled, key: `key-${next()}`, madeFor });
          makeTwin({ device, module: null });
          return ok(without(identity));
        }),
      setEnabled: (device, enabled) =>
        calls.run("hub.setEnabled", () => {
          const had = identities.get(device);
          if (had === undefined) return missing(device);
          const identity = { ...had, enabled, etag: next() };
          identities.set(device, identity);
          return ok(without(identity));
        }),
      removeIdentity: (device) =>
        calls.run("hub.removeIdentity", () => {
          drop(device);
          return ok(undefined);
        }),
      getTwin: (ref) => calls.run("hub.getTwin", () => ok(twins.get(nameOf(ref)) ?? null)),
      patchTwin: (ref, patch) =>
        calls.run("hub.patchTwin", () => {
          const had = twins.get(nameOf(ref));
          if (had === undefined) return missing(ref.device);
          if (had.etag !== ref.etag) return err({ kind: "conflict", message: "another etag" });
          return ok(write({ device: ref.device, module: ref.module }, patch));
        }),
    },
    fleet: {
      get: (device) => rows.get(device),
      list: () => rows.values(),
      namedBy: (deployment) =>
        [...rows.values()].filter(
          ({ fleetTags, slots }) =>
            Object.values(fleetTags?.deployments ?? {}).includes(deployment) ||
            Object.values(slots).some(({ pointer }) => pointer?.deployment === deployment),
        ),
      health: () => health,
      sweepTime: () => minutes(1),
      isSwept: () => true,
      onChange: (listener) => void changed.push(listener),
      onHealth: (listener) => void turned.push(listener),
      note: (twin) => {
        const had = rows.get(twin.device);
        if (twin.module !== null) {
          if (had !== undefined)
            rows.set(twin.device, { ...had, slots: { ...had.slots, [twin.module]: slotOfTwin(twin) } });
          return;
        }
        const fleetTags = fleetTagsOf(twin.tags);
        rows.set(twin.device, {
          device: twin.device,
          etag: twin.etag,
          version: twin.version,
          // A twin does not say these.
          enabled: had?.enabled ?? true,
          iotEdge: had?.iotEdge ?? fleetTags?.iotEdge ?? false,
          identityEtag: had?.identityEtag ?? null,
          tags: twin.tags,
          fleetTags,
          slots: { ...had?.slots, "": slotOfTwin(twin) },
        });
      },
      forget: (device) => void rows.delete(device),
      refresh: async () => ok(undefined),
    },
    enroll: (device, { iotEdge = true, enabled = true, tags = {}, keyless = false } = {}) => {
      makeIdentity(device, { iotEdge, enabled, key: keyless ? null : `key-${next()}`, madeFor: null });
      makeTwin({ device, module: null }, tags);
    },
    identity: (device) => identities.get(device),
    twin: (ref) => twins.get(nameOf(ref)),
    write: (ref, patch) => void write(ref, patch),
    regenerateKeys: (device) => {
      const had = identities.get(device);
      if (had !== undefined) identities.set(device, { ...had, key: `key-${next()}`, etag: next() });
    },
    drop,
    sweep: () => {
      rows.clear();
      for (const twin of twins.values())
        if (twin.module === null && twin.tags["edgefleet"] !== undefined) rows.set(twin.device, rowOf(twin));
      for (const device of rows.keys()) for (const listener of changed) listener(device, []);
    },
    setReachable: (reachable, at) => {
      health = {
        reachable,
        canReadTwins: reachable,
        since: at,
        twinsSince: at,
        message: reachable ? "" : "no route",
      };
      for (const listener of turned) listener();
    },
    picture: () => ({
      identities: [...identities.values()].map(({ device, enabled, iotEdge }) => ({
        device,
        enabled,
        iotEdge,
      })),
      twins: [...twins.values()].map(({ device, module, tags, desired }) => ({
        device,
        module,
        tags,
        desired,
      })),
    }),
    secrets: () => [...identities.values()].flatMap(({ key }) => (key === null ? [] : [key])),
  };
}

function slotOfTwin(twin: Twin): FleetSlot {
  const report = reportOf(twin.reported["inference"]);
  return {
    etag: twin.etag,
    pointer: pointerOf(twin.desired["model"]),
    report,
    heardAt: report === null ? null : parseTimestamp(report.heartbeatAt),
  };
}

/** RFC 7386, as a hub merges tags and desired properties. */
export function mergePatch(target: Json, patch: Json): Json {
  const merged = new Map(Object.entries(target));
  for (const [key, value] of Object.entries(patch)) {
    const had = merged.get(key);
    if (value === null) merged.delete(key);
    else if (isObject(value)) merged.set(key, mergePatch(isObject(had) ? had : {}, value));
    else merged.set(key, value);
  }
  return Object.fromEntries(merged);
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
