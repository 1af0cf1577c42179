import type { SimClock } from "../base/clock.ts";
import type { JsonObject } from "../base/json.ts";
import { createRandom } from "../base/random.ts";
import { type Configurations, createConfigurations } from "./configurations/configurations.ts";
import { createEvaluation, type Evaluation, type EvaluationOptions } from "./configurations/evaluation.ts";
import {
  createEvaluationSchedule,
  type EvaluationSchedule,
  type ScheduleNumbers,
  type ScheduleOptions,
} from "./configurations/evaluation-schedule.ts";
import { type Connections, createConnections } from "./connections.ts";
import { type Answer, ok, refuse } from "./errors.ts";
import { createFaults, type Faults } from "./faults/faults.ts";
import { blobContainers } from "./jobs/blob-container.ts";
import type { JobsHub } from "./jobs/job-runner.ts";
import { concurrentJobsOf, createJobs, type Jobs, type JobsOptions } from "./jobs/jobs.ts";
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
import { createPersistence, type Persistence } from "./persistence.ts";
import type { Activity } from "./query/document.ts";
import { createFleetIndex, type FleetIndex } from "./query/fleet-index.ts";
import { type Bulk, createBulk } from "./registry/bulk.ts";
import type { RegistryNumbers } from "./registry/identity-store.ts";
import { createRegistry, type Registry } from "./registry/registry.ts";
import { defaultPolicies, type Policy } from "./sas.ts";
import { type TwinKey, twinKey } from "./twins/twin.ts";
import { createTwins, type Twins } from "./twins/twins.ts";
import type { Undocumented } from "./undocumented.ts";

export type HubOptions = EvaluationOptions &
  ScheduleOptions & {
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
  /** Whether it is connected at this moment: a real hub says so only with delay. */
  readonly isConnected: (key: TwinKey) => boolean;
  /** Called when a link of a device begins or ends. */
  readonly noteConnection: (key: TwinKey, connected: boolean) => void;
  /** The listener is called for every connection that begins or ends. */
  readonly onConnection: (listener: (key: TwinKey) => void) => void;
  readonly start: () => void;
  /** What outlives the process where a state is kept. */
  readonly persistence: Persistence;
};

/** What counts up in the hub, and when it evaluates next. */
type HubNumbers = ScheduleNumbers & {
  /** Of a virtual clock; `null`: it is the machine's time. */
  readonly now: number | null;
  readonly registry: RegistryNumbers;
  readonly events: number;
  readonly messages: CloudMessageNumbers;
  readonly quota: QuotaNumbers;
};

/** Longer than most: the assembly, where each part is handed what it needs of the others, in order. */
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
  const invoke: Hub["invoke"] = (key, call, signal) => {
    const there = checkInvokable(registry, key);
    return there.ok ? methods.invoke(key, call, signal) : Promise.resolve(there);
  };
  const jobs = createJobs(
    jobsHub({ clock, twins, index, quota, throttle, invoke }, options),
    jobsOptions(options),
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

  noteWrites({ twins, registry, index, events, connections, messages });

  function evaluate(): number {
    const writes = evaluation.run();
    counters.evaluated(writes);
    return writes;
  }

  const schedule = createEvaluationSchedule(clock, now, options, evaluate);
  configurations.onChange(schedule.changed);

  const persistence = persistenceOf({
    ...{ clock, now, registry, twins, configurations, evaluation, messages, jobs, registryJobs },
    ...{ connections, events, quota, schedule, index, noteConnection },
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
    start: schedule.start,
    persistence,
  };
}

/** Whether methods of a device or module may be called: a disabled device is not there for methods, nor are its modules. */
function checkInvokable(registry: Registry, key: TwinKey): Answer<void> {
  const [device = "", module = null] = key.split("/");
  if (registry.get(device, null)?.enabled !== true)
    return refuse("DeviceNotFound", `Device ${device} not registered`, "B");
  if (registry.get(device, module) === undefined)
    return refuse("ModuleNotFound", `Module ${module} on device ${device} not registered`, "B");
  return ok(undefined);
}

function jobsHub(
  { quota, throttle, ...hub }: Pick<Hub, "clock" | "twins" | "index" | "quota" | "throttle" | "invoke">,
  { throttling }: HubOptions,
): JobsHub {
  return {
    clock: hub.clock,
    select: hub.index.select,
    patch: hub.twins.patch,
    invoke: hub.invoke,
    charge: (bytes) => {
      if (quota.spent())
        return refuse("IotHubQuotaExceeded", "The daily quota of messages is used up until midnight UTC");
      if (throttling) throttle.take("jobDevice", 1);
      quota.charge("jobDevice", bytes);
      return ok(undefined);
    },
  };
}

function jobsOptions({ tier, units, throttling, undocumented }: HubOptions): JobsOptions {
  return {
    concurrent: concurrentJobsOf(tier),
    devicesPerSecond: throttling ? budgetsOf(tier, units).jobDevice.perSecond : Number.POSITIVE_INFINITY,
    undocumented,
  };
}

/** Whatever is written to twins and registry goes to the index of queries and to the feed of events. */
function noteWrites({
  twins,
  registry,
  index,
  events,
  connections,
  messages,
}: Pick<Hub, "twins" | "registry" | "index" | "events" | "messages"> & {
  readonly connections: Connections;
}): void {
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
}

type PersistedParts = Pick<Hub, "clock" | "now" | "registry" | "twins" | "configurations" | "evaluation"> &
  Pick<Hub, "messages" | "jobs" | "registryJobs" | "events" | "quota" | "index" | "noteConnection"> & {
    readonly connections: Connections;
    readonly schedule: EvaluationSchedule;
  };

function persistenceOf(hub: PersistedParts): Persistence {
  const { clock, now, registry, twins, messages, jobs, registryJobs, connections } = hub;
  return createPersistence({
    parts: [
      registry.persisted,
      twins.persisted,
      hub.configurations.persisted,
      hub.evaluation.persisted,
      ...messages.persisted,
      ...jobs.persisted,
      registryJobs.persisted,
      connections.persisted,
    ],
    numbers: (): HubNumbers => ({
      now: clock.virtual ? now() : null,
      registry: registry.numbers(),
      events: hub.events.newest(),
      messages: messages.numbers(),
      quota: hub.quota.numbers(),
      ...hub.schedule.numbers(),
    }),
    resume: (numbers) => {
      const before = numbers as HubNumbers;
      registry.resume(before.registry);
      hub.events.resume(before.events);
      messages.resume(before.messages);
      hub.quota.resume(before.quota);
      hub.schedule.resume(before);
      for (const device of registry.devices())
        for (const identity of [device, ...registry.modulesOf(device.deviceId)]) {
          const key = twinKey(identity.deviceId, identity.moduleId);
          const twin = twins.get(key);
          if (twin !== undefined) hub.index.resume(key, { identity, twin });
        }
      jobs.resume();
      registryJobs.resume();
      // No connection has outlived the process.
      for (const key of connections.open()) hub.noteConnection(key, false);
    },
  });
}
