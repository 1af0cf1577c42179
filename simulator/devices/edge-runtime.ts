import { isObject, type JsonObject, type JsonValue, NOTHING, setKey } from "../base/json.ts";
import { shareOf } from "../base/random.ts";
import type { Hub } from "../hub/hub.ts";
import { type TwinKey, twinKey } from "../hub/twin.ts";
import type { DeviceLinks, Listener, Session } from "../mqtt/device-link.ts";

/** The runtimes of edge devices: `$edgeAgent` carries out manifests, `$edgeHub` says that it is there. */
export type EdgeRuntimes = {
  readonly appear: (deviceId: string, moduleId: string) => void;
  readonly vanish: (deviceId: string, moduleId: string) => void;
};

export type EdgeRuntimesOptions = {
  /** Milliseconds from hearing of a manifest to having carried it out. */
  readonly delay: number;
  /** Milliseconds after which a runtime that could not be reached looks again. */
  readonly retryAfter: number;
  readonly isReachable: (deviceId: string) => boolean;
};

type Runtime = {
  readonly deviceId: string;
  readonly moduleId: string;
  session: Session | null;
  displaced: boolean;
  /** Version of the desired properties that was last reported as carried out. */
  done: number | null;
  scheduled: boolean;
};

const VERSION = { version: "1.5.0", build: "0", commit: "0" };
const PLATFORM = { os: "linux", architecture: "aarch64", version: "1.5.0" };

export function createEdgeRuntimes(hub: Hub, links: DeviceLinks, options: EdgeRuntimesOptions): EdgeRuntimes {
  const runtimes = new Map<TwinKey, Runtime>();

  const listener: Listener<Runtime> = {
    desired: (runtime) => plan(runtime, options.delay),
    closed: (runtime, because) => {
      runtime.session = null;
      runtime.displaced = because === "displaced";
      if (because === "cut")
        hub.clock.schedule(hub.faults.returnsIn(shareOf(runtime.deviceId)), connect, runtime);
    },
  };

  function connect(runtime: Runtime): void {
    const { deviceId, moduleId } = runtime;
    if (runtime.session !== null || runtime.displaced) return;
    if (runtimes.get(twinKey(deviceId, moduleId)) !== runtime) return;
    const session = links.connect(runtime, listener, runtime);
    if (!session.ok) {
      if (session.refusal.code === "ServiceUnavailable")
        hub.clock.schedule(options.retryAfter, connect, runtime);
      return;
    }
    runtime.session = session.value;
    plan(runtime, options.delay);
  }

  /** However many patches come in, one report follows. */
  function plan(runtime: Runtime, delay: number): void {
    if (runtime.scheduled) return;
    runtime.scheduled = true;
    hub.clock.schedule(delay, carryOut, runtime);
  }

  function carryOut(runtime: Runtime): void {
    runtime.scheduled = false;
    const { session, deviceId } = runtime;
    if (session === null || runtimes.get(session.key) !== runtime) return;
    const twin = options.isReachable(deviceId) ? links.getTwin(session) : null;
    if (twin === null || !twin.ok) {
      plan(runtime, options.retryAfter);
      return;
    }
    if (runtime.done === twin.value.desiredVersion) return;
    const { desired, reported, desiredVersion } = twin.value;
    const patch =
      runtime.moduleId === "$edgeAgent" ? agentReport(desired, reported) : hubReport(hub, deviceId);
    const written = links.report(session, { ...patch, lastDesiredVersion: desiredVersion });
    if (written.ok) runtime.done = desiredVersion;
    else plan(runtime, options.retryAfter);
  }

  return {
    appear(deviceId, moduleId) {
      const key = twinKey(deviceId, moduleId);
      const runtime = runtimes.get(key) ?? {
        deviceId,
        moduleId,
        session: null,
        displaced: false,
        done: null,
        scheduled: false,
      };
      runtimes.set(key, runtime);
      connect(runtime);
    },
    vanish: (deviceId, moduleId) => {
      runtimes.delete(twinKey(deviceId, moduleId));
    },
  };
}

/** 200 when the manifest is carried out, 417 where there is none. */
function agentReport(desired: JsonObject, reported: JsonObject): JsonObject {
  const empty = Object.keys(desired).length === 0;
  const modules: Record<string, JsonValue> = {};
  const before = reported["modules"];
  for (const name of Object.keys(isObject(before) ? before : NOTHING)) setKey(modules, name, null);
  const wanted = desired["modules"];
  for (const [name, module] of Object.entries(isObject(wanted) ? wanted : NOTHING))
    setKey(modules, name, isObject(module) ? moduleReport(module) : null);
  const system = isObject(desired["systemModules"]) ? desired["systemModules"] : NOTHING;
  const running = (module: JsonValue | undefined) =>
    isObject(module) ? moduleReport(module) : { runtimeStatus: "running" };
  return {
    schemaVersion: "1.0",
    version: VERSION,
    lastDesiredStatus: empty
      ? { code: 417, description: "The desired configuration is empty" }
      : { code: 200, description: "" },
    runtime: { type: "docker", platform: PLATFORM },
    systemModules: { edgeAgent: running(system["edgeAgent"]), edgeHub: running(system["edgeHub"]) },
    modules,
  };
}

function moduleReport(module: JsonObject): JsonObject {
  const { settings, status, restartPolicy, version, type } = module;
  const image = isObject(settings) ? (settings["image"] ?? null) : null;
  return {
    runtimeStatus: status === "stopped" ? "stopped" : "running",
    status: status ?? "running",
    restartPolicy: restartPolicy ?? "always",
    version: version ?? null,
    type: type ?? "docker",
    settings: { image },
    exitCode: 0,
    restartCount: 0,
  };
}

function hubReport(hub: Hub, deviceId: string): JsonObject {
  const clients: Record<string, JsonValue> = {};
  for (const { moduleId } of hub.registry.modulesOf(deviceId))
    if (moduleId !== null && !moduleId.startsWith("$"))
      clients[keyOf(`${deviceId}/${moduleId}`)] = { status: "Connected" };
  return {
    schemaVersion: "1.0",
    version: VERSION,
    lastDesiredStatus: { code: 200, description: "" },
    clients,
  };
}

/** Ids may have characters that keys of twins must not have. */
function keyOf(id: string): string {
  return id.replace(/[.$# ]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}
