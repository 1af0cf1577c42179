import type { ModelPointer, UpdateState } from "../../src/api/device-contract.ts";
import { type JsonObject, valueAt } from "../base/json.ts";
import { createRandom, hash32, shareOf } from "../base/random.ts";
import type { Hub } from "../hub/hub.ts";
import type { Identity } from "../hub/identity.ts";
import { twinKey } from "../hub/twin.ts";
import type { DeviceLinks, Listener } from "../mqtt/device-link.ts";
import { type Behaviour, type Effects, effectsFor } from "./behaviour.ts";
import type { Download, Downloads } from "./downloads.ts";
import { createEdgeRuntimes } from "./edge-runtime.ts";
import {
  activeOf,
  newSlot,
  parsePointer,
  recallOf,
  resourcesOf,
  type Slot,
  stateReport,
  taskOf,
  type Update,
  type UpdateError,
  windowOf,
} from "./slot.ts";

export type FleetOptions = {
  readonly seed: number;
  /** Milliseconds between two reports of a device. */
  readonly reportInterval: number;
  /** Milliseconds that each state of an update takes. */
  readonly stateDelay: number;
  /** Modules that report from their first day; others only once they were given a model. */
  readonly agentModules: readonly string[];
};

export type DeviceSummary = {
  readonly deviceId: string;
  readonly module: string | null;
  readonly connected: boolean;
  readonly reachable: boolean;
  readonly release: string | null;
  readonly digest: string | null;
  readonly update: {
    readonly release: string;
    readonly state: UpdateState;
    readonly error: UpdateError | null;
  } | null;
};

export type FleetSummary = {
  /** Devices that are simulated here. */
  readonly devices: number;
  /** Places for models that report. */
  readonly slots: number;
  readonly reachable: number;
  readonly releases: Readonly<Record<string, number>>;
  readonly updates: Readonly<Record<string, number>>;
};

export type Fleet = {
  /** Every identity that is there or comes is a live device from now on. */
  readonly start: () => void;
  readonly behaviours: () => readonly Behaviour[];
  readonly setBehaviours: (behaviours: readonly Behaviour[]) => void;
  readonly summary: () => FleetSummary;
  readonly list: () => readonly DeviceSummary[];
};

type Device = { readonly deviceId: string; readonly iotEdge: boolean; readonly slots: Map<string, Slot> };
/** A step of an update; it is dropped when the slot is at another attempt by then. */
type Step = { readonly slot: Slot; readonly attempt: number; readonly download: Download | null };

/** Devices that live in this process and keep the device contract. One queue of the clock moves all of them. */
export function createFleet(
  parts: { readonly hub: Hub; readonly links: DeviceLinks; readonly downloads: Downloads },
  options: FleetOptions,
): Fleet {
  const { hub, links, downloads } = parts;
  const { clock } = hub;
  const devices = new Map<string, Device>();
  let behaviours: readonly Behaviour[] = [];
  const runtimes = createEdgeRuntimes(hub, links, {
    delay: options.stateDelay,
    isReachable: (deviceId) => isReachable(deviceId, effectsOf(deviceId, null)),
    retryAfter: options.reportInterval,
  });

  const listener: Listener<Slot> = {
    desired: (slot) => {
      slot.unheard = true;
      clock.schedule(slot.random() * options.stateDelay, hear, slot);
    },
    closed: (slot, because) => {
      slot.session = null;
      slot.displaced = because === "displaced";
      slot.unheard = true;
      // What was under way dies with the connection of a device that is switched off; it starts anew afterwards.
      if (because === "disabled" || because === "removed") abandon(slot);
      // They all come back at about one time, as after a real outage.
      if (because === "cut") clock.schedule(hub.faults.returnsIn(slot.random()), comeBack, slot);
    },
    vacant: (slot) => {
      clock.schedule(options.stateDelay, comeBack, slot);
    },
  };

  function start(): void {
    hub.registry.onWrite(({ before, after }) => {
      if (after !== null) appear(after);
      else if (before !== null) vanish(before);
    });
    for (const identity of hub.registry.devices()) {
      appear(identity);
      for (const module of hub.registry.modulesOf(identity.deviceId)) appear(module);
    }
  }

  function appear(identity: Identity): void {
    const { deviceId, moduleId } = identity;
    if (moduleId !== null) {
      const device = devices.get(deviceId);
      if (device === undefined || !device.iotEdge) return;
      if (moduleId.startsWith("$")) runtimes.appear(deviceId, moduleId);
      else live(device, moduleId);
      return;
    }
    const device = devices.get(deviceId) ?? { deviceId, iotEdge: identity.iotEdge, slots: new Map() };
    devices.set(deviceId, device);
    if (!identity.enabled) return;
    if (!device.iotEdge) live(device, null);
    else for (const module of hub.registry.modulesOf(deviceId)) appear(module);
  }

  function vanish({ deviceId, moduleId }: Identity): void {
    if (moduleId === null) devices.delete(deviceId);
    else if (moduleId.startsWith("$")) runtimes.vanish(deviceId, moduleId);
    else devices.get(deviceId)?.slots.delete(moduleId);
  }

  function live(device: Device, moduleId: string | null): void {
    const name = moduleId ?? "";
    const known = device.slots.get(name);
    if (known !== undefined) {
      if (known.session === null && !known.displaced) connect(known);
      return;
    }
    const random = createRandom(hash32(`${options.seed}/${device.deviceId}/${name}`));
    const slot = newSlot(device.deviceId, moduleId, random);
    slot.reporting = moduleId === null || options.agentModules.includes(moduleId);
    slot.windowSince = clock.now();
    const twin = hub.twins.get(twinKey(device.deviceId, moduleId));
    if (twin !== undefined) Object.assign(slot, recallOf(twin));
    device.slots.set(name, slot);
    connect(slot);
    clock.schedule(slot.random() * firstReport(), tick, slot);
  }

  /** A device says that it lives soon after it started; then each keeps its own beat. */
  function firstReport(): number {
    return Math.min(options.reportInterval, 2000);
  }

  function connect(slot: Slot): void {
    if (!isReachable(slot.deviceId, runningEffects(slot))) return;
    const session = links.connect(slot, listener, slot);
    if (!session.ok) return;
    slot.session = session.value;
    slot.unheard = true;
    clock.schedule(slot.random() * options.stateDelay, hear, slot);
  }

  /** After the client that had taken the identity; one that is back meanwhile keeps it. */
  function comeBack(slot: Slot): void {
    if (isGone(slot) || slot.session !== null || links.isTaken(slot)) return;
    slot.displaced = false;
    connect(slot);
  }

  function isGone(slot: Slot): boolean {
    return devices.get(slot.deviceId)?.slots.get(slot.moduleId ?? "") !== slot;
  }

  function effectsOf(
    deviceId: string,
    model: { readonly release: string; readonly digest: string } | null,
  ): Effects {
    const tags = hub.twins.get(deviceId)?.tags;
    const text = (name: string) => {
      const value = valueAt(tags, ["edgefleet", name]);
      return typeof value === "string" ? value : null;
    };
    return effectsFor(behaviours, {
      deviceId,
      deviceClass: text("class"),
      site: text("site"),
      release: model?.release ?? null,
      digest: model?.digest ?? null,
    });
  }

  function runningEffects(slot: Slot): Effects {
    return effectsOf(slot.deviceId, slot.active);
  }

  function isReachable(deviceId: string, effects: Effects): boolean {
    if (effects.offline) return false;
    const { flapping } = effects;
    if (flapping === null) return true;
    const period = flapping.up + flapping.down;
    if (period <= 0) return true;
    const phase = shareOf(`${options.seed}/flapping/${deviceId}`) * period;
    return (clock.now() + phase) % period < flapping.up;
  }

  function deviceTime(effects: Effects): string {
    return new Date(clock.now() + (effects.wrongClock ?? 0)).toISOString();
  }

  /** The regular beat of a slot. */
  function tick(slot: Slot): void {
    if (isGone(slot)) return;
    const wobble = 0.95 + slot.random() * 0.1;
    clock.schedule(options.reportInterval * wobble, tick, slot);
    const effects = runningEffects(slot);
    if (!isReachable(slot.deviceId, effects)) {
      lose(slot);
      return;
    }
    if (slot.session === null && !slot.displaced) connect(slot);
    if (slot.session === null) return;
    if (links.missed(slot.session)) slot.unheard = true;
    if (slot.unheard) hear(slot);
    if (slot.reporting) reportAll(slot, effects);
  }

  /** The line went dead: what the hub sends meanwhile is not heard. */
  function lose(slot: Slot): void {
    if (slot.session !== null) links.close(slot.session);
    slot.session = null;
    slot.unheard = true;
  }

  /** Reads the desired properties and does what they ask, if the device can be reached. */
  function hear(slot: Slot): void {
    if (!slot.unheard || slot.session === null || isGone(slot)) return;
    if (!isReachable(slot.deviceId, runningEffects(slot))) return;
    const twin = links.getTwin(slot.session);
    if (!twin.ok) return;
    slot.unheard = false;
    follow(slot, parsePointer(twin.value.desired["model"]));
  }

  function follow(slot: Slot, next: ModelPointer | null): void {
    if (next !== null) slot.reporting = true;
    const task = taskOf(slot, next);
    slot.pointer = next;
    switch (task) {
      case "nothing":
        if (slot.update !== null && next !== null) slot.update = { ...slot.update, pointer: next };
        return;
      case "remove":
        slot.attempt += 1;
        slot.active = null;
        slot.update = null;
        reportState(slot);
        return;
      case "adopt":
        adopt(slot, next);
        return;
      case "start":
        begin(slot, next);
        return;
    }
  }

  function adopt(slot: Slot, pointer: ModelPointer | null): void {
    const { active, update } = slot;
    if (pointer === null || active === null) return;
    const renamed = active.release !== pointer.release || active.variant !== pointer.variant;
    const settled = update?.state === "Running" && update.pointer.digest === pointer.digest;
    if (!renamed && settled && update.pointer.release === pointer.release) return;
    slot.attempt += 1;
    slot.active = { ...activeOf(pointer, active.since) };
    slot.update = { pointer, state: "Running", error: null, at: deviceTime(runningEffects(slot)) };
    reportState(slot);
  }

  function begin(slot: Slot, pointer: ModelPointer | null): void {
    if (pointer === null) return;
    slot.attempt += 1;
    enter(slot, pointer, "Downloading", null);
    const effects = effectsOf(slot.deviceId, pointer);
    const step = { slot, attempt: slot.attempt, download: null };
    clock.schedule(options.stateDelay + (effects.slowDownload ?? 0), download, step);
  }

  function download({ slot, attempt }: Step): void {
    const pointer = inFlight(slot, attempt);
    if (pointer === null || failedAsTold(slot, pointer, "Downloading")) return;
    const done = downloads
      .fetch(pointer.url, pointer.digest)
      .then((result) => downloaded({ slot, attempt, download: result }));
    clock.track(done);
  }

  function downloaded(step: Step): void {
    const pointer = inFlight(step.slot, step.attempt);
    if (pointer === null || step.download === null) return;
    if (!step.download.ok) {
      fail(step.slot, pointer, step.download);
      return;
    }
    enter(step.slot, pointer, "Checking", null);
    clock.schedule(options.stateDelay, check, step);
  }

  function check(step: Step): void {
    const { slot, attempt, download: file } = step;
    const pointer = inFlight(slot, attempt);
    if (pointer === null || file?.ok !== true || failedAsTold(slot, pointer, "Checking")) return;
    if (file.digest !== pointer.digest) {
      fail(slot, pointer, { code: "DigestMismatch", message: `the file has ${file.digest}` });
      return;
    }
    enter(slot, pointer, "Loading", null);
    clock.schedule(options.stateDelay, load, step);
  }

  function load(step: Step): void {
    const { slot, attempt, download: file } = step;
    const pointer = inFlight(slot, attempt);
    if (pointer === null || file?.ok !== true || failedAsTold(slot, pointer, "Loading")) return;
    if (!file.loadable) {
      fail(slot, pointer, { code: "LoadFailed", message: "the file is no ONNX model" });
      return;
    }
    enter(slot, pointer, "Probing", null);
    clock.schedule(options.stateDelay, probe, step);
  }

  function probe({ slot, attempt }: Step): void {
    const pointer = inFlight(slot, attempt);
    if (pointer === null || failedAsTold(slot, pointer, "Probing")) return;
    slot.active = activeOf(pointer, deviceTime(effectsOf(slot.deviceId, pointer)));
    slot.windowSince = clock.now();
    enter(slot, pointer, "Running", null);
  }

  /** The pointer as it is by now: its url may have been renewed on the way. */
  function inFlight(slot: Slot, attempt: number): ModelPointer | null {
    return slot.attempt === attempt && !isGone(slot) ? (slot.update?.pointer ?? null) : null;
  }

  function failedAsTold(slot: Slot, pointer: ModelPointer, state: UpdateState): boolean {
    const { failAt } = effectsOf(slot.deviceId, pointer);
    if (failAt?.state !== state) return false;
    fail(slot, pointer, failAt);
    return true;
  }

  /** The model that ran before goes on running. */
  function fail(slot: Slot, pointer: ModelPointer, { code, message }: UpdateError): void {
    enter(slot, pointer, "Failed", { code, message });
  }

  function enter(slot: Slot, pointer: ModelPointer, state: UpdateState, error: UpdateError | null): void {
    const update: Update = { pointer, state, error, at: deviceTime(runningEffects(slot)) };
    slot.update = update;
    reportState(slot);
  }

  function abandon(slot: Slot): void {
    slot.attempt += 1;
    if (slot.update !== null && slot.update.state !== "Running") slot.update = null;
  }

  function reportState(slot: Slot): void {
    const effects = runningEffects(slot);
    if (slot.session === null || !isReachable(slot.deviceId, effects)) return;
    const state = stateReport(slot, effects, deviceTime(effects));
    links.report(slot.session, { inference: slot.active === null ? { ...state, window: null } : state });
  }

  function reportAll(slot: Slot, effects: Effects): void {
    if (slot.session === null) return;
    const endedAt = deviceTime(effects);
    const seconds = (clock.now() - slot.windowSince) / 1000;
    const window =
      slot.active === null || seconds <= 0
        ? null
        : windowOf(slot.active, effects, { seconds, endedAt }, slot.random);
    const inference: JsonObject = {
      ...stateReport(slot, effects, endedAt),
      window,
      resources: resourcesOf(slot.active, slot.random) as JsonObject,
      restarts: slot.restarts,
    };
    // A window that was not delivered goes on: nothing that happened is lost.
    if (links.report(slot.session, { inference }).ok) slot.windowSince = clock.now();
  }

  function summaries(): readonly DeviceSummary[] {
    const list: DeviceSummary[] = [];
    for (const device of devices.values())
      for (const slot of device.slots.values()) {
        const { update, active } = slot;
        list.push({
          deviceId: slot.deviceId,
          module: slot.moduleId,
          connected: slot.session !== null,
          reachable: slot.session !== null && isReachable(slot.deviceId, runningEffects(slot)),
          release: active?.release ?? null,
          digest: active?.digest ?? null,
          update:
            update === null
              ? null
              : { release: update.pointer.release, state: update.state, error: update.error },
        });
      }
    return list;
  }

  function summary(): FleetSummary {
    const list = summaries();
    const releases: Record<string, number> = {};
    const updates: Record<string, number> = {};
    for (const { release, update } of list) {
      if (release !== null) releases[release] = (releases[release] ?? 0) + 1;
      if (update !== null) updates[update.state] = (updates[update.state] ?? 0) + 1;
    }
    const reachable = list.filter((one) => one.reachable).length;
    return { devices: devices.size, slots: list.length, reachable, releases, updates };
  }

  return {
    start,
    behaviours: () => behaviours,
    setBehaviours: (next) => {
      behaviours = next;
    },
    summary,
    list: summaries,
  };
}
