import type { InferenceReport, ModelPointer } from "../../src/api/device-contract.ts";
import { deviceIdOf, type EdgeDeviceSpec, type EdgeDeviceStatus } from "../../src/api/edge-device.ts";
import type {
  InferenceDeploymentSpec,
  InferenceDeploymentStatus,
} from "../../src/api/inference-deployment.ts";
import { bucketOf, membershipsOf, orphanedTags, taggedFor } from "../../src/api/membership.ts";
import type { ModelReleaseSpec, ModelReleaseStatus } from "../../src/api/model-release.ts";
import { canonicalJson, type Digest, digestOf } from "../../src/base/digest.ts";
import { err, type Fault, ok, type Result } from "../../src/base/result.ts";
import { type Instant, instant, timestampOf } from "../../src/base/time.ts";
import type {
  Configuration,
  ConfigurationView,
  DeviceHub,
  FleetDevice,
  FleetSlot,
  FleetView,
  Json,
  Twin,
  TwinRef,
} from "../../src/hub/hub.ts";
import type { ModelStore } from "../../src/store/store.ts";
import { type Calls, createCalls } from "./calls.ts";
import { createFakeResources } from "./fake-resources.ts";
import { compileCondition } from "./target-condition.ts";

// A hub, its devices, and the objects of one cluster, in memory and in virtual time. Devices keep the contract (or
// break it, where a test says so); conditions are evaluated late; the views are as old as their last sweep.

export const SALT = "edgefleet";
export const NAMESPACE = "plant-a";
const SECOND = 1000;
const WINDOW = 60 * SECOND;

/** How a device behaves with a certain model. */
export type Behaviour = {
  readonly p95: number;
  readonly errorRate: number;
  readonly inferences: number;
  /** Time from the pointer to Running (or Failed), in milliseconds. */
  readonly takes: number;
  /** The code that the device reports instead of Running. */
  readonly fails: string | null;
  /** Reports numbers that cannot be. */
  readonly lies: boolean;
  /** Infers nothing, and leaves its windows out, as the contract allows. */
  readonly hangs: boolean;
};
export const WELL: Behaviour = {
  p95: 40,
  errorRate: 0,
  inferences: 600,
  takes: 20 * SECOND,
  fails: null,
  lies: false,
  hangs: false,
};

type TwinState = { etag: number; desired: Record<string, unknown>; reported: Record<string, unknown> };
type DeviceState = {
  readonly device: string;
  readonly iotEdge: boolean;
  tagsEtag: number;
  tags: Record<string, unknown>;
  readonly twin: TwinState;
  target: { digest: string; at: number; isExpired: boolean } | null;
  active: { pointer: ModelPointer; since: number } | null;
  windowAt: number;
  beatAt: number;
};

export type WorldOptions = {
  readonly start?: Instant;
  readonly module?: string;
  /** How long the hub takes to evaluate after a change, in milliseconds; at most five minutes. */
  readonly evaluationDelay?: () => number;
  /** Whether a device that no configuration matches any more loses the pointer, or keeps it. */
  readonly unmatched?: "keep" | "remove";
  /** Time between two sweeps of the views, in milliseconds. */
  readonly sweep?: number;
  readonly behaviour?: (device: string, digest: string) => Behaviour;
  /** Whether the device is connected. */
  readonly online?: (device: string, now: number) => boolean;
};

export type FleetWorld = ReturnType<typeof createFleetWorld>;

export function createFleetWorld(options: WorldOptions = {}) {
  const { evaluationDelay = () => 0, unmatched = "keep", sweep = 30 * SECOND } = options;
  const { behaviour = () => WELL, online = () => true, module = "inference" } = options;
  const calls: Calls = createCalls();
  const deployments = createFakeResources<InferenceDeploymentSpec, InferenceDeploymentStatus>(
    "deployments",
    calls,
  );
  const releases = createFakeResources<ModelReleaseSpec, ModelReleaseStatus>("releases");
  const devices = createFakeResources<EdgeDeviceSpec, EdgeDeviceStatus>("devices");
  const hubDevices = new Map<string, DeviceState>();
  const configurations = new Map<string, Configuration>();
  let now: number = options.start ?? Date.UTC(2026, 0, 5, 8);
  let etags = 0;
  let evaluations: number[] = [];
  let regularEvaluation = now + 5 * 60 * SECOND;
  let sweepAt = now;
  let rows = new Map<string, FleetDevice>();
  let listed: readonly Configuration[] | null = null;
  let outage: { readonly since: number; readonly message: string } | null = null;
  /** Queries fail, and nothing else does: no sweep ends, twins can be read and written. */
  let blindness: { readonly since: number; readonly message: string } | null = null;
  let reachableSince = instant(now);
  let hasChanged = true;
  let truthVersion = 0;

  const down: Fault = { kind: "unavailable", message: "the hub does not answer (503)" };

  // ── the hub

  /** Every call to the hub fails in an outage, and may go wrong otherwise. */
  async function call<T>(name: string, effect: () => Result<T, Fault>): Promise<Result<T, Fault>> {
    return await calls.run(name, () => (outage === null ? effect() : err(down)));
  }

  function stateOf(ref: TwinRef): DeviceState | null {
    const state = hubDevices.get(ref.device);
    if (state === undefined) return null;
    return (state.iotEdge ? module : null) === ref.module ? state : null;
  }

  function twinOf(ref: TwinRef, state: DeviceState): Twin {
    return {
      ...ref,
      etag: String(state.twin.etag),
      version: state.twin.etag,
      tags: ref.module === null ? structuredClone(state.tags) : {},
      desired: structuredClone(state.twin.desired),
      reported: structuredClone(state.twin.reported),
    };
  }

  const hub: Pick<DeviceHub, "getTwin" | "patchTwin" | "testCondition"> = {
    getTwin: (ref) =>
      call("hub.getTwin", () => {
        const state = stateOf(ref);
        return ok(state === null ? null : twinOf(ref, state));
      }),
    patchTwin: (ref, patch) =>
      call("hub.patchTwin", () => {
        const state = stateOf(ref);
        if (state === null || String(state.twin.etag) !== ref.etag)
          return err({ kind: "conflict", message: "412" });
        merge(state.twin.desired, patch.desired ?? {});
        state.twin.etag += 1;
        truthVersion += 1;
        hasChanged = true;
        return ok(twinOf(ref, state));
      }),
    testCondition: (condition) =>
      call("hub.testCondition", () => {
        try {
          compileCondition(condition);
          return ok(refusing === null || !condition.includes(refusing.part) ? null : refusing.words);
        } catch (cause) {
          return ok(cause instanceof Error ? cause.message : String(cause));
        }
      }),
  };
  let refusing: { readonly part: string; readonly words: string } | null = null;

  function changed(): void {
    hasChanged = true;
    truthVersion += 1;
    evaluations = [...evaluations, now + Math.min(evaluationDelay(), 5 * 60 * SECOND)];
  }

  const configurationView: ConfigurationView = {
    list: () => listed,
    onChange: () => undefined,
    create: async (configuration) => {
      const created = await call("configurations.create", (): Result<Configuration, Fault> => {
        if (configurations.has(configuration.id)) return err({ kind: "conflict", message: "409 exists" });
        if (!/^[a-z0-9+%_*!'-]{1,128}$/.test(configuration.id))
          return err({ kind: "rejected", message: "400 id" });
        if (configurations.size >= 100) return err({ kind: "rejected", message: "413 full" });
        try {
          compileCondition(configuration.targetCondition);
        } catch (cause) {
          return err({ kind: "rejected", message: `400 ${String(cause)}` });
        }
        etags += 1;
        const stored = { ...structuredClone(configuration), etag: String(etags) };
        configurations.set(stored.id, stored);
        changed();
        return ok(stored);
      });
      if (created.ok) listed = [...(listed ?? []).filter(({ id }) => id !== created.value.id), created.value];
      return created;
    },
    update: async (had, change) => {
      const updated = await call("configurations.update", (): Result<Configuration, Fault> => {
        const current = configurations.get(had.id);
        if (current === undefined || current.etag !== had.etag)
          return err({ kind: "conflict", message: "412" });
        etags += 1;
        const stored = { ...current, ...change, etag: String(etags) };
        configurations.set(stored.id, stored);
        changed();
        return ok(stored);
      });
      if (updated.ok)
        listed = (listed ?? []).map((one) => (one.id === updated.value.id ? updated.value : one));
      return updated;
    },
    remove: async (had) => {
      const removed = await call("configurations.remove", (): Result<undefined, Fault> => {
        const current = configurations.get(had.id);
        if (current !== undefined && current.etag !== had.etag)
          return err({ kind: "conflict", message: "412" });
        configurations.delete(had.id);
        changed();
        return ok(undefined);
      });
      if (removed.ok) listed = (listed ?? []).filter(({ id }) => id !== had.id);
      return removed;
    },
  };

  function matching(state: DeviceState): readonly Configuration[] {
    return [...configurations.values()]
      .filter(({ kind }) => (kind === "edge") === state.iotEdge)
      .filter(({ targetCondition }) => compileCondition(targetCondition)(state))
      .sort((a, b) => b.priority - a.priority);
  }

  const assigned = new Set<string>();
  /** Gives every device what the configurations say: the highest priority that sets the path wins. */
  function evaluate(): void {
    for (const state of hubDevices.values()) {
      const found = matching(state);
      // A layer without a base does nothing.
      if (state.iotEdge && !found.some(({ id }) => id.startsWith("ef-base-"))) continue;
      const pointer = found
        .map((configuration) => pointerOf(configuration, module))
        .find((one) => one !== undefined);
      // A hub takes away what it gave, and nothing else.
      if (pointer === undefined && (unmatched === "keep" || !assigned.has(state.device))) continue;
      if (pointer === undefined) assigned.delete(state.device);
      else assigned.add(state.device);
      if (canonicalJson(pointer ?? null) === canonicalJson(state.twin.desired["model"] ?? null)) continue;
      if (pointer === undefined) delete state.twin.desired["model"];
      else state.twin.desired["model"] = structuredClone(pointer);
      state.twin.etag += 1;
      truthVersion += 1;
      hasChanged = true;
    }
  }

  // ── devices/, as far as rollouts depend on it

  function tag(): void {
    const everyDeployment = deployments.list();
    const everyDevice = devices.list();
    const version = [...everyDeployment, ...everyDevice].map(({ resourceVersion }) => resourceVersion).join();
    if (version === taggedAt) return;
    taggedAt = version;
    const wanted = new Map<string, Record<string, unknown>>();
    for (const device of everyDevice) {
      if (device.deleting) continue;
      const id = deviceIdOf(device);
      const held = tagsOf(hubDevices.get(id)?.tags);
      const given: Record<string, string> = { ...orphanedTags(device, held, everyDeployment) };
      for (const membership of membershipsOf(device, everyDeployment)) {
        const name = taggedFor(membership, held[membership.module]);
        if (name !== undefined) given[membership.module] = name;
      }
      wanted.set(id, {
        managed: true,
        namespace: device.namespace,
        device: device.name,
        class: device.spec.deviceClass,
        site: device.spec.site ?? "",
        bucket: bucketOf(SALT, id),
        iotEdge: device.spec.iotEdge,
        deployments: given,
      });
      if (hubDevices.has(id)) continue;
      hubDevices.set(id, {
        device: id,
        iotEdge: device.spec.iotEdge,
        tagsEtag: 1,
        tags: {},
        twin: { etag: 1, desired: {}, reported: {} },
        target: null,
        active: null,
        windowAt: now,
        beatAt: 0,
      });
    }
    for (const state of hubDevices.values()) {
      const own = wanted.get(state.device);
      if (canonicalJson(state.tags["edgefleet"] ?? null) === canonicalJson(own ?? null)) continue;
      state.tags = own === undefined ? {} : { edgefleet: own };
      state.tagsEtag += 1;
      truthVersion += 1;
      // An identity that lost its object is gone from the hub.
      if (own === undefined && !retained.has(state.device)) {
        hubDevices.delete(state.device);
        rows.delete(state.device);
      } else rows.set(state.device, rowOf(state));
      hasChanged = true;
    }
  }
  const retained = new Set<string>();
  let taggedAt = "";

  // ── devices themselves

  function stepDevice(state: DeviceState): void {
    if (!online(state.device, now)) return;
    const pointer = state.twin.desired["model"] as ModelPointer | undefined;
    const report = { ...(state.twin.reported["inference"] as Partial<InferenceReport> | undefined) };
    const before = said(report);
    if (pointer === undefined || pointer === null) {
      state.active = null;
      state.target = null;
      delete report.active;
      delete report.update;
      delete report.window;
    } else if (state.target?.digest !== pointer.digest) {
      const isExpired = Number(new URL(pointer.url).searchParams.get("se")) <= now;
      const isCached = state.active?.pointer.digest === pointer.digest;
      state.target = { digest: pointer.digest, at: now, isExpired: isExpired && !isCached };
      report.update = { release: pointer.release, digest: pointer.digest, state: "Downloading", at: stamp() };
    }
    if (pointer !== undefined && pointer !== null && state.target !== null) {
      const acts = behaviour(state.device, pointer.digest);
      const isSame = state.active?.pointer.digest === pointer.digest;
      if (isSame && state.active !== null && state.active.pointer.release !== pointer.release) {
        state.active = { ...state.active, pointer };
      }
      if (!isSame && now >= state.target.at + acts.takes) {
        const code = state.target.isExpired ? "DownloadFailed" : acts.fails;
        if (code !== null) {
          report.update = {
            release: pointer.release,
            digest: pointer.digest,
            state: "Failed",
            error: { code, message: `model ${pointer.version} does not run` },
            at: report.update?.state === "Failed" ? report.update.at : stamp(),
          };
        } else {
          state.active = { pointer, since: now };
          state.windowAt = now;
          delete report.window;
        }
      }
      if (state.active !== null && state.active.pointer.digest === pointer.digest) {
        report.update = {
          release: pointer.release,
          digest: pointer.digest,
          state: "Running",
          at: stamp(state.active.since),
        };
      }
    }
    if (state.active !== null) {
      const { pointer: running, since } = state.active;
      report.active = {
        release: running.release,
        digest: running.digest,
        variant: running.variant,
        executionProvider: running.executionProvider,
        since: stamp(since),
      };
      if (now >= state.windowAt + WINDOW) {
        state.windowAt = now;
        const acts = behaviour(state.device, running.digest);
        if (!acts.hangs) report.window = windowOf(running, acts);
      }
    }
    if (now >= state.beatAt + WINDOW) {
      state.beatAt = now;
      report.heartbeatAt = stamp();
    }
    if (report.heartbeatAt === undefined) return;
    state.twin.reported["inference"] = { contract: 1, ...report };
    if (said(report) !== before) hasChanged = true;
  }

  function windowOf(pointer: ModelPointer, acts: Behaviour): NonNullable<InferenceReport["window"]> {
    return {
      release: pointer.release,
      seconds: 60,
      inferences: acts.inferences,
      errors: acts.lies ? acts.inferences + 1 : Math.round(acts.inferences * acts.errorRate),
      framesPerSecond: acts.inferences / 60,
      latencyMilliseconds: { p50: acts.p95 / 2, p95: acts.p95, p99: acts.p95 * 1.2 },
      endedAt: stamp(),
    };
  }

  function stamp(at: number = now): string {
    return timestampOf(instant(at));
  }

  // ── views

  function rowOf(state: DeviceState): FleetDevice {
    const own = state.tags["edgefleet"] as FleetDevice["fleetTags"] | undefined;
    const pointer = state.twin.desired["model"] as ModelPointer | undefined;
    const report = (structuredClone(state.twin.reported["inference"]) as InferenceReport | undefined) ?? null;
    const had = rows.get(state.device)?.slots[state.iotEdge ? module : ""];
    const isNew = had?.report?.heartbeatAt !== report?.heartbeatAt;
    const heardAt = isNew ? instant(now) : (had?.heardAt ?? null);
    const slot: FleetSlot = {
      etag: String(state.twin.etag),
      pointer:
        pointer === undefined || pointer === null
          ? null
          : { deployment: pointer.deployment, release: pointer.release, digest: pointer.digest },
      report,
      heardAt: report === null ? null : heardAt,
    };
    return {
      device: state.device,
      etag: String(state.tagsEtag),
      version: state.tagsEtag,
      enabled: true,
      iotEdge: state.iotEdge,
      tags: structuredClone(state.tags),
      fleetTags: own === undefined ? null : structuredClone(own),
      slots: { [state.iotEdge ? module : ""]: slot },
    };
  }

  function sweepNow(): void {
    rows = new Map([...hubDevices.values()].map((state) => [state.device, rowOf(state)]));
    listed = [...configurations.values()];
    hasChanged = true;
  }

  const fleet: FleetView = {
    get: (device) => rows.get(device),
    list: () => rows.values(),
    health: () => {
      if (outage !== null) {
        const since = instant(outage.since);
        return { reachable: false, canReadTwins: false, since, twinsSince: since, message: outage.message };
      }
      const seeing = { canReadTwins: true, twinsSince: reachableSince };
      return blindness === null
        ? { ...seeing, reachable: true, since: reachableSince, message: "" }
        : { ...seeing, reachable: false, since: instant(blindness.since), message: blindness.message };
    },
    onChange: () => undefined,
    onHealth: () => undefined,
    note: (twin) => {
      const state = hubDevices.get(twin.device);
      if (state !== undefined) rows.set(twin.device, rowOf(state));
    },
    forget: (device) => void rows.delete(device),
    refresh: (refs) =>
      call("fleet.refresh", () => {
        for (const { device } of refs) {
          const state = hubDevices.get(device);
          if (state !== undefined) rows.set(device, rowOf(state));
        }
        return ok(undefined);
      }),
  };

  const store: Pick<ModelStore, "stat" | "readUrl"> = {
    stat: () => calls.run("store.stat", () => ok({ sizeBytes: 102_400, etag: "1" })),
    readUrl: ({ container, path }, expiresAt) =>
      calls.run("store.readUrl", () =>
        ok({ url: `https://store.invalid/${container}/${path}?se=${expiresAt}&sig=secret`, expiresAt }),
      ),
  };

  return {
    calls,
    deployments,
    releases,
    devices,
    hub,
    fleet,
    configurations: configurationView,
    store,
    clock: { now: () => instant(now) },
    now: () => instant(now),

    /** Time goes on: the hub evaluates, devices act, views are swept. */
    advance: (by: number): void => {
      now += by;
      if (outage === null) tag();
      const due = evaluations.filter((at) => at <= now);
      if (outage === null && (due.length > 0 || now >= regularEvaluation)) {
        evaluations = evaluations.filter((at) => at > now);
        if (now >= regularEvaluation) regularEvaluation = now + 5 * 60 * SECOND;
        evaluate();
      }
      if (outage === null) for (const state of hubDevices.values()) stepDevice(state);
      if (outage === null && now >= sweepAt) {
        sweepAt = now + sweep;
        if (blindness === null) sweepNow();
        else listed = [...configurations.values()];
      }
    },
    /** Whether anything changed that triggers a reconcile; asking resets it. */
    takeChange: (): boolean => {
      const had = hasChanged;
      hasChanged = false;
      return had;
    },
    touch: (): void => {
      hasChanged = true;
    },
    failHub: (message = down.message): void => {
      outage = { since: now, message };
      hasChanged = true;
    },
    failQueries: (message = "queries fail (429); twins can be read"): void => {
      blindness = { since: now, message };
      hasChanged = true;
    },
    mendHub: (): void => {
      if (outage !== null) reachableSince = instant(now);
      outage = null;
      blindness = null;
      // The first thing a view does is to look.
      sweepAt = now;
      hasChanged = true;
    },
    isDown: (): boolean => outage !== null,
    /** The hub refuses conditions that contain `part`, with these words. */
    refuse: (part: string | null, words = "InvalidConfigurationTargetCondition"): void => {
      refusing = part === null ? null : { part, words };
    },
    /** The identity stays on the hub when its object goes. */
    retain: (device: string): void => void retained.add(device),
    /** What the hub really has, whatever the views say. */
    truth: {
      /** Another number whenever tags, pointers or configurations are others. */
      version: (): number => truthVersion,
      configurations: (): readonly Configuration[] => [...configurations.values()],
      /** Puts a configuration of somebody else on the hub. */
      addConfiguration: (configuration: Configuration): void =>
        void configurations.set(configuration.id, configuration),
      /** A configuration is edited, or (`null`) removed, behind our back. */
      editConfiguration: (id: string, change: Partial<Configuration> | null): void => {
        const had = configurations.get(id);
        if (had === undefined) throw new Error(`no configuration ${id}`);
        if (change === null) configurations.delete(id);
        else configurations.set(id, { ...had, ...change, etag: `edited ${had.etag}` });
        changed();
      },
      pointers: (): ReadonlyMap<string, ModelPointer | null> =>
        new Map(
          [...hubDevices.values()].map((state) => [
            state.device,
            (state.twin.desired["model"] as ModelPointer | undefined) ?? null,
          ]),
        ),
      running: (): ReadonlyMap<string, string | null> =>
        new Map(
          [...hubDevices.values()].map((state) => [state.device, state.active?.pointer.release ?? null]),
        ),
      /** Devices that a target condition selects now. */
      targeted: (condition: string): readonly string[] =>
        [...hubDevices.values()].filter(compileCondition(condition)).map(({ device }) => device),
      tags: (device: string): Json => structuredClone(hubDevices.get(device)?.tags ?? {}),
    },
  };
}

/** The digest that a test's model of that name has. */
export function digestNamed(name: string): Digest {
  return digestOf(`model ${name}`);
}

function pointerOf({ kind, content }: Configuration, module: string): unknown {
  const section = kind === "device" ? (content as Json | undefined) : (content[module] as Json | undefined);
  return section?.["properties.desired.model"];
}

function tagsOf(tags: Json | undefined): Readonly<Record<string, string>> {
  const own = tags?.["edgefleet"] as { readonly deployments?: Readonly<Record<string, string>> } | undefined;
  return own?.deployments ?? {};
}

/** What of a report the fleet view tells others about: not heartbeats, not windows. */
function said({ active, update }: Partial<InferenceReport>): string {
  return `${active?.release} ${active?.digest} ${update?.digest} ${update?.state}`;
}

/** A merge patch, as twins take it: `null` deletes. */
function merge(target: Record<string, unknown>, patch: Json): void {
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete target[key];
    else if (isRecord(value) && isRecord(target[key])) merge(target[key], value);
    else target[key] = structuredClone(value);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
