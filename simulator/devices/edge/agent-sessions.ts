import type { Hub } from "../../hub/hub.ts";
import { mergePatch } from "../../hub/twins/merge-patch.ts";
import type { TwinKey } from "../../hub/twins/twin.ts";
import type { DeviceLinks } from "../../mqtt/device-link.ts";
import type { Listener } from "../../mqtt/device-sessions.ts";
import { answerMethod } from "./agent-methods.ts";
import type { EdgePlans } from "./edge-plan.ts";
import type { EdgeReporting } from "./edge-reporting.ts";
import { shutdownReport } from "./edge-reports.ts";
import { type EdgeWorld, isUp, type Link, logOfAgent, type Runtime } from "./edge-runtime.ts";

/** The session of an edge agent: it reads the manifest, and answers direct methods. */
export type AgentSessions = {
  readonly connect: (runtime: Runtime) => void;
  readonly close: (runtime: Runtime) => void;
  /** However many patches come in, the twin is read once. */
  readonly scheduleRead: (runtime: Runtime) => void;
  /** The last report of an agent that shuts down in good order. */
  readonly reportShutdown: (runtime: Runtime) => void;
};

type AgentSessionParts = {
  readonly world: EdgeWorld;
  readonly plans: EdgePlans;
  readonly reporting: EdgeReporting;
  /** Stops an upload of logs. */
  readonly stopped: AbortSignal;
  readonly reconnectSoon: (runtime: Runtime, link: Link) => void;
  readonly reconnectLater: (runtime: Runtime, link: Link) => void;
  /** Restarts a module, or the agent (`null`); `false` where there is no such module. */
  readonly restart: (runtime: Runtime, id: string) => boolean | null;
};

export function createAgentSessions(hub: Hub, links: DeviceLinks, parts: AgentSessionParts): AgentSessions {
  const { world, plans, reporting } = parts;
  const { clock } = world;

  const listener: Listener<Runtime> = {
    desired: scheduleRead,
    closed: (runtime, because) => {
      leave(runtime);
      runtime.agent.displaced = because === "displaced";
      if (because === "cut") parts.reconnectLater(runtime, runtime.agent);
      // The client that has taken the identity looks after the modules now.
      if (because !== "displaced") return;
      runtime.plan += 1;
      runtime.processed = null;
      for (const name of Object.keys(runtime.wanted?.modules ?? {})) world.start(runtime.deviceId, name);
    },
    vacant: (runtime) => parts.reconnectSoon(runtime, runtime.agent),
  };

  function connect(runtime: Runtime): void {
    const { agent, deviceId } = runtime;
    if (!agent.there || agent.displaced || agent.session !== null || runtime.stopped) return;
    const session = links.connect({ deviceId, moduleId: agent.moduleId }, listener, runtime);
    if (!session.ok) return;
    agent.session = session.value;
    runtime.detach = attachMethods(hub, parts, runtime, session.value.key);
    reporting.noteClient(runtime, agent.moduleId, true);
    reporting.changed(runtime);
    scheduleRead(runtime);
  }

  function leave(runtime: Runtime): void {
    runtime.detach?.();
    runtime.detach = null;
    runtime.agent.session = null;
    runtime.unread = true;
  }

  function scheduleRead(runtime: Runtime): void {
    runtime.unread = true;
    if (runtime.readScheduled) return;
    runtime.readScheduled = true;
    clock.schedule(world.delay, read, runtime);
  }

  function read(runtime: Runtime): void {
    runtime.readScheduled = false;
    const { session } = runtime.agent;
    if (session === null || world.isGone(runtime) || !isUp(runtime) || !world.isReachable(runtime.deviceId))
      return;
    const twin = links.getTwin(session);
    if (!twin.ok) return;
    runtime.unread = false;
    if (runtime.version === twin.value.desiredVersion) {
      if (runtime.processed !== runtime.version) plans.carryOut(runtime);
      return;
    }
    plans.follow(runtime, twin.value.desired, twin.value.desiredVersion);
  }

  return {
    connect,
    scheduleRead,
    close: (runtime) => {
      const { session } = runtime.agent;
      leave(runtime);
      if (session !== null) links.close(session);
    },
    reportShutdown: (runtime) => {
      const { session } = runtime.agent;
      if (session === null) return;
      const { wrongClock } = world.effectsOf(runtime.deviceId);
      const reported = hub.twins.get(session.key)?.reported.value ?? {};
      links.report(session, mergePatch(reported, shutdownReport(runtime, wrongClock ?? 0)));
    },
  };
}

/** Answers direct methods of the agent until the returned function is called. */
function attachMethods(
  { methods, options }: Hub,
  { world, stopped, restart }: AgentSessionParts,
  runtime: Runtime,
  key: TwinKey,
): () => void {
  return methods.attach(key, (request) => {
    logOfAgent(world, runtime, 6, `Received direct method call ${request.name}`);
    const answer = answerMethod(request, {
      clock: world.clock,
      iotHub: options.hostName,
      deviceId: runtime.deviceId,
      logs: runtime.logs,
      tasks: runtime.tasks,
      stopped,
      restart: (id) => restart(runtime, id),
    });
    if (answer !== null) methods.respond(key, request.requestId, answer.status, answer.body);
  });
}
