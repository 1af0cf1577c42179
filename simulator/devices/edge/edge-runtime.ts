import type { SimClock } from "../../base/clock.ts";
import type { Session } from "../../mqtt/device-sessions.ts";
import type { Effects } from "../effects.ts";
import { type AgentTasks, createTasks } from "./agent-methods.ts";
import type { Container } from "./containers.ts";
import { type DesiredStatus, EDGE_HUB, type EdgeClient } from "./edge-reports.ts";
import type { Manifest } from "./manifest.ts";
import { addLine, type ModuleLogs } from "./module-logs.ts";

export type Link = { readonly moduleId: string; session: Session | null; displaced: boolean; there: boolean };

/** The runtime of one edge device. It changes in place, thousands of it at once. */
export type Runtime = {
  readonly deviceId: string;
  readonly agent: Link;
  readonly hub: Link;
  /** Takes the receiver of methods back. */
  detach: (() => void) | null;
  stopped: boolean;
  powered: boolean;
  startedAt: number;
  unread: boolean;
  readScheduled: boolean;
  wanted: Manifest | null;
  status: DesiredStatus;
  /** Version of the desired properties that is being carried out, and the one that the status is about. */
  version: number | null;
  processed: number | null;
  /** Number of the plan: steps of an older one are dropped. */
  plan: number;
  readonly todo: string[];
  readonly failures: string[];
  retries: number;
  readonly containers: Map<string, Container>;
  readonly images: Set<string>;
  readonly clients: Map<string, EdgeClient>;
  hubStatus: DesiredStatus;
  hubVersion: number;
  readonly logs: ModuleLogs;
  tasks: AgentTasks;
  /** There is something to report; and it is planned to. */
  changed: boolean;
  reporting: boolean;
};

/** What all runtimes share. */
export type EdgeWorld = {
  readonly clock: SimClock;
  /** Milliseconds that an image takes to be pulled where no rule says otherwise. */
  readonly delay: number;
  readonly isReachable: (deviceId: string) => boolean;
  readonly effectsOf: (deviceId: string) => Effects;
  /** The program of a module comes up; or it goes. */
  readonly start: (deviceId: string, moduleId: string) => void;
  readonly stop: (deviceId: string, moduleId: string) => void;
  readonly isGone: (runtime: Runtime) => boolean;
  /** There is something to report. */
  readonly changed: (runtime: Runtime) => void;
  /** The device's hub comes up, or goes. */
  readonly edgeHub: (runtime: Runtime, running: boolean) => void;
};

const NOT_YET: DesiredStatus = { code: 417, description: "The desired configuration is empty" };

export function newRuntime(deviceId: string, now: number): Runtime {
  const link = (moduleId: string): Link => ({ moduleId, session: null, displaced: false, there: false });
  return {
    deviceId,
    agent: link("$edgeAgent"),
    hub: link(EDGE_HUB),
    detach: null,
    stopped: false,
    powered: true,
    startedAt: now,
    unread: true,
    readScheduled: false,
    wanted: null,
    status: NOT_YET,
    version: null,
    processed: null,
    plan: 0,
    todo: [],
    failures: [],
    retries: 0,
    containers: new Map(),
    images: new Set(),
    clients: new Map(),
    hubStatus: NOT_YET,
    hubVersion: 0,
    logs: new Map(),
    tasks: createTasks(),
    changed: false,
    reporting: false,
  };
}

/** An agent that was shut down, or that has no power, does nothing. */
export function isUp({ powered, stopped }: Runtime): boolean {
  return powered && !stopped;
}

export function writeLog(
  { clock, effectsOf }: Pick<EdgeWorld, "clock" | "effectsOf">,
  runtime: Runtime,
  line: { readonly module: string; readonly level: number; readonly text: string },
): void {
  const { module, level, text } = line;
  const { wrongClock } = effectsOf(runtime.deviceId);
  addLine(runtime.logs, module, { at: clock.now() + (wrongClock ?? 0), level, text });
}

/** As people call a module: system modules have a `$` on the hub only. */
export function nameOf(name: string): string {
  return name === EDGE_HUB ? "edgeHub" : name;
}

/** A line of the agent itself. */
export function logOfAgent(
  world: Pick<EdgeWorld, "clock" | "effectsOf">,
  runtime: Runtime,
  level: number,
  text: string,
): void {
  writeLog(world, runtime, { module: "edgeAgent", level, text });
}
