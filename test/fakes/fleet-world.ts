import type { InferenceReport, ModelPointer } from "../../src/api/device-contract.ts";
import {
  deviceIdOf,
  type EdgeDevice,
  type EdgeDeviceSpec,
  type EdgeDeviceStatus,
} from "../../src/api/edge-device.ts";
import type {
  InferenceDeploymentSpec,
  InferenceDeploymentStatus,
} from "../../src/api/inference-deployment.ts";
import { bucketOf, membershipsOf, orphanedTags, taggedFor } from "../../src/api/membership.ts";
import type { ModelReleaseSpec, ModelReleaseStatus } from "../../src/api/model-release.ts";
import { isOwner, type Owner, ownerOf, succeeds } from "../../src/api/ownership.ts";
import { canonicalJson, type Digest, digestOf } from "../../src/base/digest.ts";
import type { Fault } from "../../src/base/fault.ts";
import { err, ok, type Result } from "../../src/base/result.ts";
import { type Instant, instant, millis, parseTimestamp, timestampOf } from "../../src/base/time.ts";
import { createHubHealth } from "../../src/hub/health.ts";
import type { CallKind } from "../../src/hub/health-evidence.ts";
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
import { createFakeLog } from "./fake-log.ts";
import { createFakeMeter } from "./fake-meter.ts";
import { createFakeResources } from "./fake-resources.ts";
import { compileCondition } from "./target-condition.ts";

// A hub, its devices, and the objects of one cluster, in memory and in virtual time. Devices keep the contract (or
// break it, where a test says so); conditions are evaluated late; the views are as old as their last sweep. What the
// contract allows happens: a failed report stays until it is overwritten, a device that dies leaves its last report in
// the twin for ever, and a window with nothing in it is left out.

export const SALT = "edgefleet";
export const CLUSTER = "c1";
export const NAMESPACE = "plant-a";
const SECOND = 1000;
const WINDOW = 60 * SECOND;

/** Numbers that cannot be, each in its own way. */
export const LIES = ["errors", "huge", "seconds", "negative", "old", "future"] as const;
export type Lie = (typeof LIES)[number];

/** How a device behaves with a certain model. Times are milliseconds. */
export type Behaviour = {
  readonly p95: number;
  readonly errorRate: number;
  readonly inferences: number;
  /** Time from the pointer to Running (or Failed). */
  readonly takes: number;
  /** The code that the device reports instead of Running. */
  readonly fails: string | null;
  readonly lies: Lie | null;
  /** Dies for good while the model loads, or so long after it runs; its last report stays. */
  readonly dies: "loading" | number | null;
  /** So long after it runs the model infers nothing more; the device goes on reporting. */
  readonly hangs: number | null;
  /** So long after it runs the device returns to the model before, for good. */
  readonly fallsBack: number | null;
  /** Connected, then not, for so long each, from when the model runs. */
  readonly flaps: { readonly up: number; readonly down: number } | null;
};
export const WELL: Behaviour = {
  p95: 40,
  errorRate: 0,
  inferences: 600,
  takes: 20 * SECOND,
  fails: null,
  lies: null,
  dies: null,
  hangs: null,
  fallsBack: null,
  flaps: null,
};

/** Operations of the hub that can fail each without the others. `queries` are the sweeps of the fleet view. */
export const FAULT_KINDS = [
  "queries",
  "twinReads",
  "twinWrites",
  "configurationWrites",
  "testQueries",
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

type TwinState = { etag: number; desired: Record<string, unknown>; reported: Record<string, unknown> };
type DeviceState = {
  readonly device: string;
  readonly iotEdge: boolean;
  tagsEtag: number;
  tags: Record<string, unknown>;
  readonly twin: TwinState;
  /** What the device was last asked to run; `ended`: it made an end of that, good or bad. */
  target: {
    readonly digest: string;
    readonly url: string;
    readonly at: number;
    readonly isExpired: boolean;
    ended: boolean;
  } | null;
  active: Active | null;
  /** What ran before: the model to fall back to. */
  previous: Active | null;
  enabled: boolean;
  isDead: boolean;
  windowAt: number;
  beatAt: number;
};
/** A report while it is written. */
type Said = { -readonly [Key in keyof InferenceReport]?: InferenceReport[Key] };
type Active = { readonly pointer: ModelPointer; readonly since: number };

/** What a device is, whatever it reports. */
export type TrueDevice = {
  readonly device: string;
  /** The namespace whose object owns the identity, by the tags. */
  readonly namespace: string | undefined;
  /** Alive, enabled and online now. */
  readonly connected: boolean;
  /** The release that it runs; `null`: none, or it is dead. */
  readonly running: string | null;
  /** The release that it last said it runs. */
  readonly reported: string | null;
  /** The release that its pointer names. */
  readonly desired: string | null;
  /** When it last reported, by the world's clock; 0: never. */
  readonly beatAt: number;
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
  /** Whether the device is connected: always false for a device that was never seen. */
  readonly online?: (device: string, now: number) => boolean;
  /** By how much the device's clock is ahead, in milliseconds; it may jump. */
  readonly clockOffset?: (device: string, now: number) => number;
};

export type FleetWorld = ReturnType<typeof createFleetWorld>;

export function createFleetWorld(options: WorldOptions = {}) {
  const { evaluationDelay = () => 0, unmatched = "keep", sweep = 30 * SECOND } = options;
  const { behaviour = () => WELL, online = () => true, module = "inference" } = options;
  const { clockOffset = () => 0 } = options;
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
  let isSwept = false;
  let listed: readonly Configuration[] | null = null;
  let outage: { readonly since: number; readonly message: string } | null = null;
  /** Queries fail, and nothing else does: no sweep ends, twins can be read and written. */
  let blindness: { readonly since: number; readonly message: string } | null = null;
  let reachableSince = instant(now);
  let hasChanged = true;
  let truthVersion = 0;
  const faults = new Map<FaultKind, Fault>();
  let monitor = beginMonitor();

  const down: Fault = { kind: "unavailable", message: "the hub is not responding (503)" };

  // ── the hub

  /** The product's own judgement of whether the hub can be reached, fed with the calls that are made here. */
  function beginMonitor() {
    const made = createHubHealth({
      clock: { now: () => instant(now), sleep: async () => undefined },
      log: createFakeLog(),
      meter: createFakeMeter(),
    });
    made.onChange(() => {
      hasChanged = true;
    });
    return made;
  }

  /** Every call to the hub fails in an outage, or while its kind does, and may go wrong otherwise. */
  async function call<T>(
    name: string,
    kind: FaultKind,
    effect: () => Result<T, Fault>,
  ): Promise<Result<T, Fault>> {
    if (outage !== null) return await calls.run(name, () => err(down));
    const ended = monitor.begin(CALL_KINDS[kind]);
    const fault = faults.get(kind);
    const result = await calls.run(name, () => (fault === undefined ? effect() : err(fault)));
    ended(result.ok ? null : result.error);
    return result;
  }

  /** A read of a view: nobody waits for its answer. */
  function look(kind: "queries" | "twinReads"): boolean {
    const fault = faults.get(kind) ?? null;
    monitor.begin(CALL_KINDS[kind])(fault);
    return fault === null;
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
      call("hub.getTwin", "twinReads", () => {
        const state = stateOf(ref);
        return ok(state === null ? null : twinOf(ref, state));
      }),
    patchTwin: (ref, patch) =>
      call("hub.patchTwin", "twinWrites", () => {
        const state = stateOf(ref);
        if (state === null || String(state.twin.etag) !== ref.etag)
          return err({ kind: "conflict", message: "412" });
        merge(state.twin.desired, patch.desired ?? {});
        state.twin.etag += 1;
        truthVersion += 1;
        hasChanged = true;
        patched.add(ref.device);
        return ok(twinOf(ref, state));
      }),
    testCondition: (condition) =>
      call("hub.testCondition", "testQueries", () => {
        try {
          compileCondition(condition);
          return ok(refusing === null || !condition.includes(refusing.part) ? null : refusing.words);
        } catch (cause) {
          return ok(cause instanceof Error ? cause.message : String(cause));
        }
      }),
  };
  const patched = new Set<string>();
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
      const created = await call(
        "configurations.create",
        "configurationWrites",
        (): Result<Configuration, Fault> => {
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
        },
      );
      if (created.ok) listed = [...(listed ?? []).filter(({ id }) => id !== created.value.id), created.value];
      return created;
    },
    update: async (had, change) => {
      const updated = await call(
        "configurations.update",
        "configurationWrites",
        (): Result<Configuration, Fault> => {
          const current = configurations.get(had.id);
          if (current === undefined || current.etag !== had.etag)
            return err({ kind: "conflict", message: "412" });
          etags += 1;
          const stored = { ...current, ...change, etag: String(etags) };
          configurations.set(stored.id, stored);
          changed();
          return ok(stored);
        },
      );
      if (updated.ok)
        listed = (listed ?? []).map((one) => (one.id === updated.value.id ? updated.value : one));
      return updated;
    },
    remove: async (had) => {
      const removed = await call(
        "configurations.remove",
        "configurationWrites",
        (): Result<undefined, Fault> => {
          const current = configurations.get(had.id);
          if (current !== undefined && current.etag !== had.etag)
            return err({ kind: "conflict", message: "412" });
          configurations.delete(had.id);
          changed();
          return ok(undefined);
        },
      );
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

  /** Two objects may have one deviceId: as the devices controller, the world obeys the one that the tags name. */
  function belongs(device: EdgeDevice, owner: Owner): boolean {
    return isOwner(device, owner, CLUSTER) || succeeds(device, owner, CLUSTER, devices.get);
  }

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
      const owner = ownerOf(hubDevices.get(id)?.tags ?? {});
      if (owner === null ? wanted.has(id) : !belongs(device, owner)) continue;
      const held = tagsOf(hubDevices.get(id)?.tags);
      const given: Record<string, string> = { ...orphanedTags(device, held, everyDeployment) };
      for (const membership of membershipsOf(device, everyDeployment)) {
        const name = taggedFor(membership, held[membership.module]);
        if (name !== undefined) given[membership.module] = name;
      }
      wanted.set(id, {
        managed: true,
        cluster: CLUSTER,
        namespace: device.namespace,
        device: device.name,
        class: device.spec.deviceClass,
        site: device.spec.site ?? "",
        bucket: bucketOf(SALT, id),
        iotEdge: device.spec.iotEdge,
        deployments: given,
      });
      const known = hubDevices.get(id);
      if (known !== undefined) {
        if (known.enabled !== device.spec.enabled) {
          known.enabled = device.spec.enabled;
          rows.set(id, rowOf(known));
          truthVersion += 1;
        }
        continue;
      }
      hubDevices.set(id, {
        device: id,
        iotEdge: device.spec.iotEdge,
        tagsEtag: 1,
        tags: {},
        twin: { etag: 1, desired: {}, reported: {} },
        target: null,
        active: null,
        previous: null,
        enabled: device.spec.enabled,
        isDead: false,
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

  function isConnected(state: DeviceState): boolean {
    if (state.isDead || !state.enabled || !online(state.device, now)) return false;
    const { active } = state;
    const flaps = active === null ? null : behaviour(state.device, active.pointer.digest).flaps;
    if (flaps === null || active === null) return true;
    return (now - active.since) % (flaps.up + flaps.down) < flaps.up;
  }

  function stepDevice(state: DeviceState): void {
    if (!isConnected(state)) return;
    const report = { ...(state.twin.reported["inference"] as Said | undefined) };
    const before = said(report);
    follow(state, report, (state.twin.desired["model"] as ModelPointer | undefined) ?? null);
    if (state.isDead) {
      truthVersion += 1;
      return;
    }
    const isBeat = now >= state.beatAt + WINDOW;
    infer(state, report, isBeat);
    // A report says when it was made; changes are reported at once.
    if (isBeat || said(report) !== before) {
      report.heartbeatAt = heartbeat(state);
      state.beatAt = now;
    }
    if (report.heartbeatAt === undefined) return;
    state.twin.reported["inference"] = { contract: 1, ...report };
    if (said(report) !== before) {
      hasChanged = true;
      truthVersion += 1;
    }
    mayDie(state);
  }

  /** Does what the pointer asks, as far as the device is able to. */
  function follow(state: DeviceState, report: Said, pointer: ModelPointer | null): void {
    if (pointer === null) {
      state.active = null;
      state.target = null;
      delete report.active;
      delete report.update;
      delete report.window;
      return;
    }
    const isRunning = state.active?.pointer.digest === pointer.digest;
    if (state.active !== null && isRunning && state.active.pointer.release !== pointer.release)
      state.active = { ...state.active, pointer: structuredClone(pointer) };
    if (isAsked(state, report, pointer)) {
      const isExpired = Number(new URL(pointer.url).searchParams.get("se")) <= now;
      state.target = { digest: pointer.digest, url: pointer.url, at: now, isExpired, ended: isRunning };
      // The digest that runs is no update: what was said of one that failed stays until there is another.
      if (!isRunning || report.update?.state !== "Failed")
        report.update = {
          release: pointer.release,
          digest: pointer.digest,
          state: isRunning ? "Running" : "Downloading",
          at: stamp(state, isRunning ? (state.active?.since ?? now) : now),
        };
    }
    const { target } = state;
    const acts = behaviour(state.device, pointer.digest);
    if (target === null || target.ended || now < target.at + acts.takes) return;
    target.ended = true;
    const update = { release: pointer.release, digest: pointer.digest, at: stamp(state) };
    const code = target.isExpired ? "DownloadFailed" : acts.fails;
    if (code !== null) {
      const error = { code, message: `model ${pointer.version} does not run` };
      report.update = { ...update, state: "Failed", error };
      return;
    }
    if (acts.dies === "loading") {
      state.isDead = true;
      return;
    }
    state.previous = state.active;
    // A copy: what runs does not change with the twin.
    state.active = { pointer: structuredClone(pointer), since: now };
    state.windowAt = now;
    delete report.window;
    report.update = { ...update, state: "Running" };
  }

  /** Another digest than before, or another url where the download had failed. */
  function isAsked(state: DeviceState, report: Said, pointer: ModelPointer): boolean {
    const { target } = state;
    if (target === null || target.digest !== pointer.digest) return true;
    const { update } = report;
    const hasFailed = update?.state === "Failed" && update.digest === pointer.digest;
    return (
      hasFailed && update.error?.code.startsWith("DownloadFailed") === true && target.url !== pointer.url
    );
  }

  /** What the model that runs makes the device say. */
  function infer(state: DeviceState, report: Said, isBeat: boolean): void {
    if (state.active === null) return;
    const acts = behaviour(state.device, state.active.pointer.digest);
    if (acts.fallsBack !== null && state.previous !== null && now >= state.active.since + acts.fallsBack) {
      state.active = { ...state.previous, since: now };
      state.previous = null;
      state.windowAt = now;
      delete report.window;
    }
    const { pointer, since } = state.active;
    const { release, digest, variant, executionProvider } = pointer;
    report.active = { release, digest, variant, executionProvider, since: stamp(state, since) };
    if (!isBeat || now <= state.windowAt) return;
    const seconds = (now - state.windowAt) / SECOND;
    state.windowAt = now;
    const does = behaviour(state.device, digest);
    const hangs = does.hangs !== null && now >= since + does.hangs;
    // A window with nothing in it is left out.
    if (hangs || does.inferences === 0) delete report.window;
    else report.window = windowOf(state, pointer, does, seconds);
  }

  function mayDie(state: DeviceState): void {
    if (state.active === null) return;
    const { dies } = behaviour(state.device, state.active.pointer.digest);
    if (typeof dies !== "number" || now < state.active.since + dies) return;
    state.isDead = true;
    truthVersion += 1;
  }

  function windowOf(
    state: DeviceState,
    pointer: ModelPointer,
    acts: Behaviour,
    seconds: number,
  ): NonNullable<InferenceReport["window"]> {
    const inferences = Math.round((acts.inferences * seconds) / 60);
    const honest = {
      release: pointer.release,
      seconds,
      inferences,
      errors: Math.round(inferences * acts.errorRate),
      framesPerSecond: inferences / seconds,
      latencyMilliseconds: { p50: acts.p95 / 2, p95: acts.p95, p99: acts.p95 * 1.2 },
      endedAt: stamp(state),
    };
    switch (acts.lies) {
      case null:
      case "future":
        return honest;
      case "errors":
        return { ...honest, errors: inferences + 1 };
      case "huge":
        return { ...honest, inferences: 5e12, errors: Math.round(5e12 * acts.errorRate) };
      case "seconds":
        return { ...honest, seconds: 1e9 };
      case "negative":
        return { ...honest, latencyMilliseconds: { p50: -1, p95: -1, p99: -1 } };
      case "old":
        return { ...honest, endedAt: stamp(state, now - 365 * 24 * 3600 * SECOND) };
      default:
        return acts.lies satisfies never;
    }
  }

  function heartbeat(state: DeviceState): string {
    const digest = state.active?.pointer.digest;
    const isLie = digest !== undefined && behaviour(state.device, digest).lies === "future";
    return isLie ? "2031-01-01T00:00:00Z" : stamp(state);
  }

  /** By the device's own clock. */
  function stamp(state: DeviceState, at: number = now): string {
    return timestampOf(instant(at + clockOffset(state.device, now)));
  }

  // ── views

  function rowOf(state: DeviceState): FleetDevice {
    const own = state.tags["edgefleet"] as FleetDevice["fleetTags"] | undefined;
    const pointer = state.twin.desired["model"] as ModelPointer | undefined;
    const report = (structuredClone(state.twin.reported["inference"]) as InferenceReport | undefined) ?? null;
    const had = rows.get(state.device)?.slots[state.iotEdge ? module : ""];
    const slot: FleetSlot = {
      etag: String(state.twin.etag),
      pointer:
        pointer === undefined || pointer === null
          ? null
          : { deployment: pointer.deployment, release: pointer.release, digest: pointer.digest },
      report,
      heardAt: heardAt(had, report),
    };
    return {
      device: state.device,
      etag: String(state.tagsEtag),
      version: state.tagsEtag,
      enabled: state.enabled,
      iotEdge: state.iotEdge,
      identityEtag: null,
      tags: structuredClone(state.tags),
      fleetTags: own === undefined ? null : structuredClone(own),
      slots: { [state.iotEdge ? module : ""]: slot },
    };
  }

  /** As the fleet view remembers it: for the first report that it sees, what the device says, if that is earlier. */
  function heardAt(had: FleetSlot | undefined, report: InferenceReport | null): Instant | null {
    if (report === null) return null;
    if (had !== undefined) return had.report?.heartbeatAt === report.heartbeatAt ? had.heardAt : instant(now);
    const first = parseTimestamp(report.heartbeatAt);
    return first === null || first > now ? instant(now) : first;
  }

  function sweepNow(): void {
    listed = [...configurations.values()];
    if (blindness === null && look("queries")) {
      rows = new Map([...hubDevices.values()].map((state) => [state.device, rowOf(state)]));
      isSwept = true;
    }
    hasChanged = true;
  }

  const fleet: FleetView = {
    get: (device) => rows.get(device),
    list: () => rows.values(),
    namedBy: (deployment) =>
      [...rows.values()].filter(
        ({ fleetTags, slots }) =>
          Object.values(fleetTags?.deployments ?? {}).includes(deployment) ||
          Object.values(slots).some(({ pointer }) => pointer?.deployment === deployment),
      ),
    health: () => {
      if (outage !== null) {
        const since = instant(outage.since);
        return { reachable: false, canReadTwins: false, since, twinsSince: since, message: outage.message };
      }
      const state = monitor.state();
      if (!isSwept && blindness === null && state.reachable) {
        const message = "the fleet has not been read from the hub yet";
        return { ...state, reachable: false, canReadTwins: false, message };
      }
      const since = instant(Math.max(state.since, reachableSince));
      const judged = { ...state, since, twinsSince: instant(Math.max(state.twinsSince, reachableSince)) };
      return blindness === null
        ? judged
        : { ...judged, reachable: false, since: instant(blindness.since), message: blindness.message };
    },
    onChange: () => undefined,
    sweepTime: () => millis(sweep),
    isSwept: () => isSwept,
    onHealth: () => undefined,
    note: (twin) => {
      const state = hubDevices.get(twin.device);
      if (state !== undefined) rows.set(twin.device, rowOf(state));
    },
    forget: (device) => void rows.delete(device),
    refresh: (refs) =>
      call("fleet.refresh", "twinReads", () => {
        for (const { device } of refs) {
          const state = hubDevices.get(device);
          if (state !== undefined) rows.set(device, rowOf(state));
        }
        return ok(undefined);
      }),
  };

  const used = new Set<string>();
  const store: Pick<ModelStore, "stat" | "readUrl"> = {
    stat: ({ container, path }) => {
      used.add(`${container}/${path}`);
      return calls.run("store.stat", () => ok({ sizeBytes: 102_400, etag: "1" }));
    },
    readUrl: ({ container, path }, expiresAt) => {
      used.add(`${container}/${path}`);
      return calls.run("store.readUrl", () =>
        ok({ url: `https://store.invalid/${container}/${path}?se=${expiresAt}&sig=secret`, expiresAt }),
      );
    },
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
        sweepNow();
      }
      // One twin is read at once when reads fail, as the fleet view does.
      if (outage === null && monitor.shouldProbe()) look("twinReads");
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
    /** Queries fail from now on, and it is known at once. */
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
    /** Operations of one kind fail until they are given `null`; the others go on. */
    fault: (kind: FaultKind, fault: Fault | null): void => {
      if (fault === null) faults.delete(kind);
      else faults.set(kind, fault);
    },
    faults: (): readonly FaultKind[] => [...faults.keys()],
    /** The process starts again: what its views remember is lost. */
    restart: (): void => {
      rows = new Map();
      isSwept = false;
      listed = null;
      monitor = beginMonitor();
      sweepAt = now;
      if (outage === null) sweepNow();
      hasChanged = true;
    },
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
          [...hubDevices.values()].map((state) => [
            state.device,
            state.isDead ? null : (state.active?.pointer.release ?? null),
          ]),
        ),
      /** Every device of the hub, as it is and not as it reports. */
      devices: (): readonly TrueDevice[] =>
        [...hubDevices.values()].map((state) => ({
          device: state.device,
          namespace: (state.tags["edgefleet"] as { readonly namespace?: string } | undefined)?.namespace,
          connected: isConnected(state),
          running: state.isDead ? null : (state.active?.pointer.release ?? null),
          reported:
            (state.twin.reported["inference"] as InferenceReport | undefined)?.active?.release ?? null,
          desired: (state.twin.desired["model"] as ModelPointer | undefined)?.release ?? null,
          beatAt: state.beatAt,
        })),
      /** Devices whose twin was written since the last question. */
      takePatched: (): readonly string[] => {
        const taken = [...patched];
        patched.clear();
        return taken;
      },
      /** Blobs that were read or given away since the last question. */
      takeBlobs: (): readonly string[] => {
        const taken = [...used];
        used.clear();
        return taken;
      },
      /** Devices that a target condition selects now. */
      targeted: (condition: string): readonly string[] =>
        [...hubDevices.values()].filter(compileCondition(condition)).map(({ device }) => device),
      tags: (device: string): Json => structuredClone(hubDevices.get(device)?.tags ?? {}),
    },
  };
}

/** Which budget and health a kind of operation belongs to. */
const CALL_KINDS: Readonly<Record<FaultKind, CallKind>> = {
  queries: "query",
  twinReads: "twinRead",
  twinWrites: "other",
  configurationWrites: "other",
  testQueries: "other",
};

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
