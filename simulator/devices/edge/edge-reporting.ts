import type { JsonObject } from "../../base/json.ts";
import type { Hub } from "../../hub/hub.ts";
import { mergePatch } from "../../hub/twins/merge-patch.ts";
import type { DeviceLinks } from "../../mqtt/device-link.ts";
import { agentReport, hubReport } from "./edge-reports.ts";
import { type EdgeWorld, type Link, logOfAgent, type Runtime } from "./edge-runtime.ts";

/** What the agent and the hub of a device report about it. */
export type EdgeReporting = {
  /** However much changes at one time, one report follows. */
  readonly publishSoon: (runtime: Runtime) => void;
  /** There is something to report. */
  readonly changed: (runtime: Runtime) => void;
  /** A module connects to the device's hub or leaves it; `null`: it is no longer a module of the device. */
  readonly noteClient: (runtime: Runtime, moduleId: string, connected: boolean | null) => void;
};

export function createEdgeReporting(
  hub: Hub,
  links: DeviceLinks,
  world: Pick<EdgeWorld, "clock" | "delay" | "isReachable" | "effectsOf" | "isGone">,
): EdgeReporting {
  const { clock } = world;

  function changed(runtime: Runtime): void {
    runtime.changed = true;
    publishSoon(runtime);
  }

  function publishSoon(runtime: Runtime): void {
    if (runtime.reporting) return;
    runtime.reporting = true;
    clock.schedule(world.delay, publish, runtime);
  }

  function publish(runtime: Runtime): void {
    runtime.reporting = false;
    if (world.isGone(runtime) || !runtime.powered || !world.isReachable(runtime.deviceId)) return;
    const offset = world.effectsOf(runtime.deviceId).wrongClock ?? 0;
    const { deviceId, hubStatus, hubVersion, clients } = runtime;
    const view = { status: hubStatus, version: hubVersion, clients };
    // Before it has read the twin the agent has nothing to say.
    const agent = runtime.version === null || send(runtime, runtime.agent, agentReport(runtime, offset));
    const edgeHub = send(runtime, runtime.hub, hubReport(view, deviceId, offset));
    runtime.changed = !agent || !edgeHub;
  }

  /** What differs from the twin; whether nothing is left to say. */
  function send(runtime: Runtime, { session }: Link, report: JsonObject): boolean {
    if (session === null) return true;
    const patch = mergePatch(hub.twins.get(session.key)?.reported.value ?? {}, report);
    if (Object.keys(patch).length === 0) return true;
    const written = links.report(session, patch);
    if (!written.ok) logOfAgent(world, runtime, 4, `The report was refused: ${written.refusal.message}`);
    return written.ok || written.refusal.status === 400;
  }

  return {
    changed,
    publishSoon,
    noteClient(runtime: Runtime, moduleId: string, connected: boolean | null): void {
      const before = runtime.clients.get(moduleId);
      if (connected === null) {
        if (runtime.clients.delete(moduleId)) changed(runtime);
        return;
      }
      if (before?.connected === connected || (before === undefined && !connected)) return;
      const client = before ?? { connected, connectedAt: null, disconnectedAt: null };
      client.connected = connected;
      if (connected) client.connectedAt = clock.now();
      else client.disconnectedAt = clock.now();
      runtime.clients.set(moduleId, client);
      changed(runtime);
    },
  };
}
