import { type JsonObject, type JsonValue, setKey } from "../../base/json.ts";
import { type Container, containerDocument, imageHash, missingDocument, timesOf } from "./containers.ts";
import type { Manifest } from "./manifest.ts";

// What `$edgeAgent` and `$edgeHub` report, whole; only what differs from the twin is sent.

export type DesiredStatus = { readonly code: number; readonly description: string };

/** Whether a module is connected to the device's hub, and since when; milliseconds. */
export type EdgeClient = { connected: boolean; connectedAt: number | null; disconnectedAt: number | null };

export const EDGE_HUB = "$edgeHub";
const VERSION = { version: "1.5.0", build: "0", commit: "0" };
const PLATFORM = { os: "linux", architecture: "aarch64", version: "1.5.0" };

export type AgentView = {
  readonly wanted: Manifest | null;
  readonly containers: ReadonlyMap<string, Container>;
  readonly status: DesiredStatus;
  /** Version of the desired properties that was processed; `null`: none yet. */
  readonly processed: number | null;
  readonly startedAt: number;
};

/** `offset` is by how much the device's clock is ahead, in milliseconds. */
export function agentReport(view: AgentView, offset: number): JsonObject {
  const { wanted, containers } = view;
  const modules: Record<string, JsonValue> = {};
  for (const [name, spec] of Object.entries(wanted?.modules ?? {}))
    setKey(modules, name, missingDocument(spec));
  for (const [name, container] of containers)
    if (name !== EDGE_HUB) setKey(modules, name, containerDocument(container, offset));
  const hub = containers.get(EDGE_HUB);
  const edgeHub = hub === undefined ? NOT_THERE : containerDocument(hub, offset);
  return {
    schemaVersion: "1.0",
    version: VERSION,
    lastDesiredStatus: view.status,
    ...(view.processed !== null && { lastDesiredVersion: view.processed }),
    runtime: { type: "docker", settings: settingsOf(wanted), platform: PLATFORM },
    systemModules: { edgeAgent: ownDocument(view, offset), edgeHub },
    modules,
  };
}

const NOT_THERE: JsonObject = { type: "docker", runtimeStatus: "unknown" };

/** Registry credentials are not repeated in reports. */
function settingsOf(wanted: Manifest | null): JsonObject {
  const settings = wanted?.runtime["settings"];
  if (typeof settings !== "object" || settings === null || Array.isArray(settings)) return {};
  const { registryCredentials: _, ...rest } = settings as JsonObject;
  return rest;
}

function ownDocument({ wanted, startedAt }: AgentView, offset: number): JsonObject {
  const image = wanted?.agent.image ?? null;
  return {
    type: "docker",
    runtimeStatus: "running",
    exitCode: 0,
    ...(image !== null && { settings: { ...wanted?.agent.settings, image, imageHash: imageHash(image) } }),
    ...timesOf({ lastStartTimeUtc: startedAt }, offset),
  };
}

/** A clean shutdown: what becomes of the modules is not known from then on. */
export function shutdownReport(view: AgentView, offset: number): JsonObject {
  const unknown = (module: JsonValue): JsonObject => ({
    ...(module as JsonObject),
    runtimeStatus: "unknown",
  });
  const report = agentReport(view, offset);
  const ofAll = (modules: JsonValue | undefined) =>
    Object.fromEntries(Object.entries(modules as JsonObject).map(([name, one]) => [name, unknown(one)]));
  return {
    ...report,
    lastDesiredStatus: { code: 406, description: "Agent is not running" },
    systemModules: ofAll(report["systemModules"]),
    modules: ofAll(report["modules"]),
  };
}

export function hubReport(
  view: {
    readonly status: DesiredStatus;
    readonly version: number;
    readonly clients: ReadonlyMap<string, EdgeClient>;
  },
  deviceId: string,
  offset: number,
): JsonObject {
  const clients: Record<string, JsonValue> = {};
  for (const [module, { connected, connectedAt, disconnectedAt }] of view.clients)
    setKey(clients, keyOf(`${deviceId}/${module}`), {
      status: connected ? "Connected" : "Disconnected",
      ...timesOf({ lastConnectedTimeUtc: connectedAt, lastDisconnectedTimeUtc: disconnectedAt }, offset),
    });
  return {
    schemaVersion: "1.0",
    version: VERSION,
    lastDesiredVersion: view.version,
    lastDesiredStatus: view.status,
    clients,
  };
}

/** `$edgeHub` knows 1.0 to 1.2. */
export function hubStatusOf(desired: JsonObject): DesiredStatus {
  if (Object.keys(desired).length === 0)
    return { code: 417, description: "The desired configuration is empty" };
  const version = desired["schemaVersion"];
  if (typeof version === "string" && /^1\.[012](\.|$)/.test(version)) return { code: 200, description: "" };
  if (typeof version !== "string")
    return { code: 400, description: "schemaVersion must be text such as 1.1" };
  return { code: 412, description: `The schema version ${version} is not supported: 1.0 to 1.2 are` };
}

/** Ids may have characters that keys of twins must not have. */
function keyOf(id: string): string {
  return id.replace(/[.$# ]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}
