import type { SimClock } from "../base/clock.ts";
import type { JsonObject } from "../base/json.ts";
import { createRandom } from "../base/random.ts";
import { type Configurations, createConfigurations } from "./configurations/configurations.ts";
import { createEvaluation, type Evaluation, type EvaluationOptions } from "./configurations/evaluation.ts";
import { type Answer, ok, refuse } from "./errors.ts";
import { createFaults, type Faults } from "./faults/faults.ts";
import { blobContainers } from "./jobs/blob-container.ts";
import { concurrentJobsOf, createJobs, type Jobs } from "./jobs/jobs.ts";
import { exportLines } from "./jobs/registry-export.ts";
import { createRegistryJobs, type RegistryJobs } from "./jobs/registry-jobs.ts";
import { type Counters, createCounters } from "./limits/counters.ts";
import { createQuota, type Quota, type QuotaNumbers } from "./limits/quota.ts";
import { budgetsOf, createThrottle, type Shaping, type Throttle } from "./limits/throttle.ts";
import type { Tier } from "./limits/tier.ts";
import {
  type CloudMessageNumbers,
  type CloudMessages,
  createCloudMessages,
} from "./messaging/cloud-messages.ts";
import { createEventFeed, type EventFeed } from "./messaging/event-feed.ts";
import { createMethods, type MethodCall, type Methods } from "./messaging/methods.ts";
import { createModuleInputs, type ModuleInputs } from "./messaging/module-inputs.ts";
import { createTelemetry, type Telemetry } from "./messaging/telemetry.ts";
import {
  createListeners,
  createPersistence,
  type PersistedRecords,
  type Persistence,
} from "./persistence.ts";
import { type Activity, NO_ACTIVITY } from "./query/document.ts";
import { createFleetIndex, type FleetIndex } from "./query/fleet-index.ts";
import { type Bulk, createBulk } from "./registry/bulk.ts";
import type { RegistryNumbers } from "./registry/identity-store.ts";
import { createRegistry, type Registry } from "./registry/registry.ts";
import { defaultPolicies, type Policy } from "./sas.ts";
import { type TwinKey, twinKey } from "./twins/twin.ts";
import { createTwins, type Twins } from "./twins/twins.ts";
import type { Undocumented } from "./undocumented.ts";

export type HubOptions = EvaluationOptions & {
  readonly hostName: string;
  readonly seed: number;
  readonly tier: Tier;
  readonly units: number;
  /** Whether requests beyond the budgets of the tier get 429. */
  readonly throttling: boolean;
  /** What happens to requests beyond a budget. */
  readonly shaping: Shaping;
  /** Seconds in the header `Retry-After` of a 429; `null`: no such header. */
  readonly retryAfter: number | null;
  /** Whether the daily quota of messages is a limit. It is none without throttling, unless `dailyQuota` is given. */
  readonly quota: boolean;
  /** Messages a day in place of what the tier has. */
  readonly dailyQuota: number | null;
  /** Whether what devices do is charged to budgets and quota, as on a real hub. */
  readonly chargeDevices: boolean;
  readonly maximumDevices: number;
  readonly maximumPageSize: number;
  /** Rows of a page where a client does not say how many it wants. */
  readonly defaultPageSize: number;
  /** Labels of one configuration at most; `null`: any number. */
  readonly maximumLabels: number | null;
  readonly undocumented: Undocumented;
  /** Milliseconds between a write and the first query that may see it. */
  readonly queryStaleness: number;
  /** Milliseconds between two evaluations of the configurations. */
  readonly evaluationInterval: number;
  /** Milliseconds between a change of a configuration and the evaluation that follows it; 0 is at once. */
  readonly evaluationDelay: number;
  /** Milliseconds by which what the hub says of connections is late. */
  readonly connectionLag: number;
};

/** The simulated IoT Hub without its transports. */
export type Hub = {
  readonly options: HubOptions;
  readonly clock: SimClock;
  /** Milliseconds since the epoch by the hub's own clock: the simulated world's, unless a fault has it wrong. */
  readonly now: () => number;
  /** The same for the expiry of tokens: clients sign by the machine's time. */
  readonly tokenTime: () => number;
  readonly policies: readonly Policy[];
  readonly registry: Registry;
  readonly twins: Twins;
  readonly bulk: Bulk;
  readonly configurations: Configurations;
  readonly index: FleetIndex;
  readonly evaluation: Evaluation;
  readonly throttle: Throttle;
  readonly quota: Quota;
  readonly faults: Faults;
  readonly counters: Counters;
  readonly methods: Methods;
  /** A method of a registered device that is not disabled, or of one of its modules. */
  readonly invoke: (key: TwinKey, call: MethodCall, signal?: AbortSignal) => Promise<Answer<JsonObject>>;
  readonly jobs: Jobs;
  readonly registryJobs: RegistryJobs;
  readonly messages: CloudMessages;
  readonly inputs: ModuleInputs;
  /** Takes what devices send. */
  readonly telemetry: Telemetry;
  /** What the hub's own endpoint for events would give out. */
  readonly events: EventFeed;
  /** Runs an evaluation now; answers how many twins it wrote. */
  readonly evaluate: () => number;
  readonly activityOf: (key: TwinKey) => Activity;
  /** Whether it is connected at this moment: no real hub tells that without delay. */
  readonly isConnected: (key: TwinKey) => boolean;
  /** Told by whoever serves a device's link. */
  readonly noteConnection: (key: TwinKey, connected: boolean) => void;
  /** The listener is told of every connection that begins or ends. */
  readonly onConnection: (listener: (key: TwinKey) => void) => void;
  readonly start: () => void;
  /** What outlives the process where a state is kept. */
  readonly persistence: Persistence;
};

/** What counts up in the hub, and when it evaluates next. */
type HubNumbers = {
  /** Of a virtual clock; `null`: it is the machine's time. */
  readonly now: number | null;
  readonly registry: RegistryNumbers;
  readonly events: number;
  readonly messages: CloudMessageNumbers;
  readonly quota: QuotaNumbers;
  /** Milliseconds since the Unix epoch. */
  readonly nextEvaluation: number | null;
  /** `null`: no change waits for its evaluation. */
  readonly evaluationAfterChange: number | null;
};

export function createHub(options: HubOptions, clock: SimClock): Hub {
  const faults = createFaults(clock.now, createRandom(options.seed ^ 0x5f3759df));
  const now = () => clock.now() + faults.skew();
  const twins = createTwins(now, options.undocumented);
  const registry = createRegistry(twins, { now, seed: options.seed, maximumDevices: options.maximumDevices });
  const bulk = createBulk(registry, twins, options.undocumented["bulk-etags"]);
  const configurations = createConfigurations({ ...options, now, maximum: options.tier === "F1" ? 10 : 100 });
  const counters = createCounters(clock.now);
  const connections = createConnections(clock.now, options.connectionLag);
  const connectionListeners: ((key: TwinKey) => void)[] = [];
  const messages = createCloudMessages(now, (deviceId) => registry.get(deviceId, null)?.generationId ?? "");
  const events = createEventFeed({ hostName: options.hostName, now });
  const throttle = createThrottle(options, clock.now);
  const quota = createQuota(
    { ...options, limited: options.quota && (options.throttling || options.dailyQuota !== null) },
    now,
  );
  const index = createFleetIndex({
    now: clock.now,
    staleness: () => Math.max(options.queryStaleness, faults.staleness()),
    activity: activityOf,
    deviceJobs: () => jobs.deviceJobs(),
    undocumented: options.undocumented,
  });
  const methods = createMethods(clock);
  const jobs = createJobs(
    {
      clock,
      select: index.select,
      patch: twins.patch,
      invoke,
      charge: (bytes) => {
        if (quota.spent())
          return refuse("IotHubQuotaExceeded", "The daily quota of messages is used up until midnight UTC");
        if (options.throttling) throttle.take("jobDevice", 1);
        quota.charge("jobDevice", bytes);
        return ok(undefined);
      },
    },
    {
      concurrent: concurrentJobsOf(options.tier),
      devicesPerSecond: options.throttling
        ? budgetsOf(options.tier, options.units).jobDevice.perSecond
        : Number.POSITIVE_INFINITY,
      undocumented: options.undocumented,
    },
  );
  const registryJobs = createRegistryJobs({
    clock,
    blobs: blobContainers,
    bulk,
    exportLines: (excludeKeys) => exportLines(registry, twins, excludeKeys),
  });
  const evaluation = createEvaluation({ registry, twins, configurations, countRows: index.count }, options);

  function activityOf(key: TwinKey): Activity {
    const activity = connections.activityOf(key);
    const waiting = messages.pending(key);
    return waiting === 0 ? activity : { ...activity, cloudToDeviceMessageCount: waiting };
  }

  async function invoke(key: TwinKey, call: MethodCall, signal?: AbortSignal): Promise<Answer<JsonObject>> {
    const [device = "", module = null] = key.split("/");
    // A disabled device is not there for methods; its modules are not either.
    if (registry.get(device, null)?.enabled !== true)
      return refuse("DeviceNotFound", `Device ${device} not registered`, "B");
    if (registry.get(device, module) === undefined)
      return refuse("ModuleNotFound", `Module ${module} on device ${device} not registered`, "B");
    return methods.invoke(key, call, signal);
  }

  twins.onWrite(({ key, twin, change }) => {
    if (twin === null) return index.note(key, null);
    const identity = registry.get(twin.deviceId, twin.moduleId);
    if (identity !== undefined) index.note(key, { identity, twin });
    if (change !== null) events.twinChanged(twin, change);
  });
  registry.onWrite(({ key, before, after }) => {
    const twin = twins.get(key);
    if (after !== null && twin !== undefined) index.note(key, { identity: after, twin });
    if (before === null && after !== null) events.lifecycle("create", after);
    if (after !== null || before === null) return;
    connections.forget(key);
    messages.forget(key);
    events.lifecycle("delete", before);
  });

  function evaluate(): number {
    const writes = evaluation.run();
    counters.evaluated(writes);
    return writes;
  }

  let soon: number | null = null;
  function evaluateSoon(): void {
    soon = null;
    evaluate();
  }
  configurations.onChange(() => {
    if (options.evaluationDelay <= 0) evaluate();
    else if (soon === null) {
      soon = now() + options.evaluationDelay;
      clock.schedule(options.evaluationDelay, evaluateSoon, undefined);
    }
  });

  let next: number | null = null;
  function evaluateIn(delay: number): void {
    next = now() + delay;
    clock.schedule(delay, evaluateForEver, undefined);
  }
  function evaluateForEver(): void {
    evaluate();
    evaluateIn(options.evaluationInterval);
  }

  const persistence = createPersistence({
    parts: [
      registry.persisted,
      twins.persisted,
      configurations.persisted,
      evaluation.persisted,
      ...messages.persisted,
      ...jobs.persisted,
      registryJobs.persisted,
      connections.persisted,
    ],
    numbers: (): HubNumbers => ({
      now: clock.virtual ? now() : null,
      registry: registry.numbers(),
      events: events.newest(),
      messages: messages.numbers(),
      quota: quota.numbers(),
      nextEvaluation: next,
      evaluationAfterChange: soon,
    }),
    resume: (numbers) => {
      const before = numbers as HubNumbers;
      registry.resume(before.registry);
      events.resume(before.events);
      messages.resume(before.messages);
      quota.resume(before.quota);
      next = before.nextEvaluation;
      soon = before.evaluationAfterChange;
      if (soon !== null) clock.schedule(Math.max(0, soon - now()), evaluateSoon, undefined);
      for (const device of registry.devices())
        for (const identity of [device, ...registry.modulesOf(device.deviceId)]) {
          const key = twinKey(identity.deviceId, identity.moduleId);
          const twin = twins.get(key);
          if (twin !== undefined) index.resume(key, { identity, twin });
        }
      jobs.resume();
      registryJobs.resume();
      // Nobody's connection has outlived the process.
      for (const key of connections.open()) noteConnection(key, false);
    },
  });

  function noteConnection(key: TwinKey, connected: boolean): void {
    connections.note(key, connected);
    for (const listener of connectionListeners) listener(key);
    events.connection(key, connected);
  }

  return {
    options,
    clock,
    now,
    tokenTime: () => Date.now() + faults.skew(),
    policies: defaultPolicies(options.seed),
    registry,
    twins,
    bulk,
    configurations,
    index,
    evaluation,
    throttle,
    quota,
    faults,
    counters,
    methods,
    invoke,
    jobs,
    registryJobs,
    messages,
    inputs: createModuleInputs(),
    telemetry: createTelemetry({ events, counters, throttle, quota }, options),
    events,
    evaluate,
    activityOf,
    isConnected: connections.isConnected,
    noteConnection,
    onConnection: (listener) => {
      connectionListeners.push(listener);
    },
    // An evaluation that was due in an earlier life is late, not lost.
    start: () =>
      evaluateIn(
        next === null
          ? options.evaluationInterval
          : Math.min(options.evaluationInterval, Math.max(0, next - now())),
      ),
    persistence,
  };
}

type Link = { readonly connected: boolean; readonly at: number; readonly before: boolean };

/** Connection states as late as the real hub's: nobody should take them for liveness. */
function createConnections(now: () => number, lag: number) {
  const links = new Map<TwinKey, Link>();
  const changes = createListeners();
  const persisted: PersistedRecords = {
    kind: "connection",
    record: (key) => links.get(key),
    restore: (key, record) => links.set(key, record as Link),
    onChange: changes.add,
  };
  return {
    persisted,
    open: (): readonly TwinKey[] => [...links].flatMap(([key, link]) => (link.connected ? [key] : [])),
    note: (key: TwinKey, connected: boolean): void => {
      const before = links.get(key);
      links.set(key, { connected, at: now(), before: before === undefined ? false : stateOf(before) });
      changes.notify(key);
    },
    forget: (key: TwinKey): void => {
      if (links.delete(key)) changes.notify(key);
    },
    isConnected: (key: TwinKey): boolean => links.get(key)?.connected === true,
    activityOf: (key: TwinKey): Activity => {
      const link = links.get(key);
      if (link === undefined || (!link.before && link.at > now() - lag)) return NO_ACTIVITY;
      const at = new Date(link.at).toISOString();
      return {
        connectionState: stateOf(link) ? "Connected" : "Disconnected",
        connectionStateUpdatedTime: at,
        lastActivityTime: at,
        cloudToDeviceMessageCount: 0,
      };
    },
  };

  function stateOf(link: Link): boolean {
    return link.at > now() - lag ? link.before : link.connected;
  }
}
