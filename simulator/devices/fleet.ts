import { type JsonObject, valueAt } from "../base/json.ts";
import { createRandom, hash32, shareOf } from "../base/random.ts";
import type { Hub } from "../hub/hub.ts";
import type { Identity } from "../hub/registry/identity.ts";
import { twinKey } from "../hub/twins/twin.ts";
import type { DeviceLinks } from "../mqtt/device-link.ts";
import type { Listener } from "../mqtt/device-sessions.ts";
import { type Behaviour, effectsFor, inForce } from "./behaviour.ts";
import type { Downloads } from "./downloads.ts";
import { createEdgeRuntimes } from "./edge/edge-runtimes.ts";
import { type Effects, isOffline, wearOf } from "./effects.ts";
import { type DeviceSummary, deviceSummary, type FleetSummary, fleetSummary } from "./fleet-summary.ts";
import { newSlot, parsePointer, recallOf, resourcesOf, type Slot, stateReport, windowOf } from "./slot.ts";
import { createUpdates } from "./updates.ts";

export type FleetOptions = {
  readonly seed: number;
  /** Milliseconds between two reports of a device. */
  readonly reportInterval: number;
  /** Milliseconds that each state of an update takes. */
  readonly stateDelay: number;
  /** Modules that report from their first day; others only once they were given a model. */
  readonly agentModules: readonly string[];
};

export type Fleet = {
  /** Every identity that is there or comes is a live device from now on. */
  readonly start: () => void;
  readonly behaviours: () => readonly Behaviour[];
  readonly setBehaviours: (behaviours: readonly Behaviour[]) => void;
  readonly summary: () => FleetSummary;
  readonly list: () => readonly DeviceSummary[];
};

type Device = {
  readonly deviceId: string;
  readonly iotEdge: boolean;
  readonly slots: Map<string, Slot>;
  powered: boolean;
};
/** A crash to come; it is dropped when the program has started anew by then. */
type Crash = { readonly slot: Slot; readonly at: number };

/** What a system needs to start a program again that has ended, where no edge agent does it. */
const RESTART = 10_000;

/** Devices that live in this process and keep the device contract. One queue of the clock moves all of them. */
export function createFleet(
  parts: {
    readonly hub: Hub;
    readonly links: DeviceLinks;
    readonly downloads: Downloads;
    /** Ends what devices send elsewhere. */
    readonly stopped: AbortSignal;
  },
  options: FleetOptions,
): Fleet {
  const { hub, links, downloads } = parts;
  const { clock } = hub;
  const devices = new Map<string, Device>();
  let behaviours: readonly Behaviour[] = [];
  const runtimes = createEdgeRuntimes(hub, links, {
    delay: options.stateDelay,
    lookInterval: options.reportInterval,
    isReachable: (deviceId) => isReachable(deviceId, effectsOf(deviceId, null)),
    effectsOf: (deviceId) => effectsOf(deviceId, null),
    phaseOf: (deviceId) => shareOf(`${options.seed}/edge/${deviceId}`),
    start: (deviceId, moduleId) => withSlot(deviceId, moduleId, startProgram),
    stop: (deviceId, moduleId) => withSlot(deviceId, moduleId, stopProgram),
    stopped: parts.stopped,
  });
  const updates = createUpdates({
    clock,
    downloads,
    stateDelay: options.stateDelay,
    effectsOf: (slot, pointer) => effectsOf(slot.deviceId, pointer ?? slot.active),
    deviceTime,
    isGone,
    report: reportState,
    log,
    losePower: (slot, length) => losePower(slot.deviceId, length),
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
      if (because === "disabled" || because === "removed") updates.abandon(slot);
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
    const device = devices.get(deviceId) ?? {
      deviceId,
      iotEdge: identity.iotEdge,
      slots: new Map(),
      powered: true,
    };
    devices.set(deviceId, device);
    if (!identity.enabled) return;
    if (!device.iotEdge) live(device, null);
    else for (const module of hub.registry.modulesOf(deviceId)) appear(module);
  }

  function vanish({ deviceId, moduleId }: Identity): void {
    if (moduleId === null) devices.delete(deviceId);
    else if (moduleId.startsWith("$")) runtimes.vanish(deviceId, moduleId);
    else {
      devices.get(deviceId)?.slots.delete(moduleId);
      runtimes.client(deviceId, moduleId, null);
    }
  }

  function withSlot(deviceId: string, moduleId: string, act: (slot: Slot) => void): void {
    const slot = devices.get(deviceId)?.slots.get(moduleId);
    if (slot !== undefined) act(slot);
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
    // Where a manifest names the module it waits for its container.
    slot.running = moduleId === null || !runtimes.governs(device.deviceId, moduleId);
    slot.startedAt = clock.now();
    slot.windowSince = clock.now();
    const twin = hub.twins.get(twinKey(device.deviceId, moduleId));
    if (twin !== undefined) Object.assign(slot, recallOf(twin));
    slot.activeSince = slot.active === null ? null : Date.parse(slot.active.since);
    device.slots.set(name, slot);
    if (moduleId !== null && slot.running) runtimes.client(device.deviceId, moduleId, true);
    connect(slot);
    clock.schedule(slot.random() * firstReport(), tick, slot);
  }

  /** A device says that it lives soon after it started; then each keeps its own beat. */
  function firstReport(): number {
    return Math.min(options.reportInterval, 2000);
  }

  function connect(slot: Slot): void {
    if (!slot.running || !isReachable(slot.deviceId, runningEffects(slot))) return;
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

  /** The program comes up, with the model that is on its disk. */
  function startProgram(slot: Slot): void {
    if (slot.running) return;
    slot.running = true;
    slot.startedAt = clock.now();
    slot.windowSince = clock.now();
    if (slot.moduleId !== null) runtimes.client(slot.deviceId, slot.moduleId, true);
    if (!slot.displaced) connect(slot);
    planCrash(slot);
  }

  /** The program ends, whoever ended it: what it counted and what was under way is lost. */
  function stopProgram(slot: Slot): void {
    if (!slot.running) return;
    slot.running = false;
    slot.crashAt = null;
    updates.abandon(slot);
    lose(slot);
    if (slot.moduleId !== null) runtimes.client(slot.deviceId, slot.moduleId, false);
  }

  function planCrash(slot: Slot): void {
    const { crashLoop } = runningEffects(slot);
    if (crashLoop === null || !slot.running) return;
    const at = Math.max(slot.startedAt, slot.activeSince ?? 0) + crashLoop.every;
    if (slot.crashAt === at) return;
    slot.crashAt = at;
    clock.schedule(at - clock.now(), crash, { slot, at });
  }

  function crash({ slot, at }: Crash): void {
    if (slot.crashAt !== at || isGone(slot) || !slot.running) return;
    slot.crashAt = null;
    const { crashLoop } = runningEffects(slot);
    if (crashLoop === null) return;
    stopProgram(slot);
    slot.restarts += 1;
    const { deviceId, moduleId } = slot;
    if (moduleId !== null && runtimes.governs(deviceId, moduleId))
      runtimes.exited(deviceId, moduleId, crashLoop.exitCode);
    else clock.schedule(RESTART, restart, slot);
  }

  function restart(slot: Slot): void {
    if (!isGone(slot) && devices.get(slot.deviceId)?.powered === true) startProgram(slot);
  }

  function losePower(deviceId: string, length: number): void {
    const device = devices.get(deviceId);
    if (device === undefined || !device.powered) return;
    device.powered = false;
    for (const slot of device.slots.values()) {
      if (slot.running) slot.restarts += 1;
      stopProgram(slot);
    }
    runtimes.powerOff(deviceId);
    clock.schedule(length, returnPower, device);
  }

  function returnPower(device: Device): void {
    device.powered = true;
    if (devices.get(device.deviceId) !== device) return;
    for (const slot of device.slots.values())
      if (slot.moduleId === null || !runtimes.governs(device.deviceId, slot.moduleId)) startProgram(slot);
    runtimes.powerOn(device.deviceId);
  }

  function log(slot: Slot, level: number, text: string): void {
    if (slot.moduleId !== null) runtimes.log(slot.deviceId, slot.moduleId, level, text);
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
    if (devices.get(deviceId)?.powered === false || isOffline(effects, clock.now())) return false;
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
    if (!slot.running) return;
    planCrash(slot);
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
    updates.follow(slot, parsePointer(twin.value.desired["model"]));
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
    const wear = wearOf(effects, slot.activeSince, clock.now());
    const measured =
      slot.active === null || seconds <= 0
        ? null
        : windowOf(slot.active, { effects, wear }, { seconds, endedAt }, slot.random);
    // A window with nothing in it is left out.
    const window = measured?.inferences === 0 ? null : measured;
    const inference: JsonObject = {
      ...stateReport(slot, effects, endedAt),
      window,
      resources: resourcesOf(slot.active, wear, slot.random) as JsonObject,
      restarts: slot.restarts,
    };
    // A window that was not delivered goes on: nothing that happened is lost.
    if (links.report(slot.session, { inference }).ok) slot.windowSince = clock.now();
  }

  function list(): readonly DeviceSummary[] {
    return [...devices.values()].flatMap((device) =>
      [...device.slots.values()].map((slot) =>
        deviceSummary(slot, isReachable(slot.deviceId, runningEffects(slot))),
      ),
    );
  }

  return {
    start,
    behaviours: () => behaviours,
    setBehaviours: (next) => {
      behaviours = next.map((one) => inForce(one, clock.now()));
      runtimes.look();
    },
    summary: () => fleetSummary(devices.size, list()),
    list,
  };
}
