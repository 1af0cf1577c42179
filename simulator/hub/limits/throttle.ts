import { sizeOf, type Tier } from "./tier.ts";

/** Classes of operations that the hub gives budgets to: the rows of Microsoft's table. */
export const OPERATION_CLASSES = [
  "identity",
  "query",
  "twinRead",
  "twinWrite",
  "configuration",
  /** One token is 4 KB of a request's payload. */
  "method",
  "job",
  /** What a running job does to one device. */
  "jobDevice",
  "connection",
  "telemetry",
  "cloudMessage",
  /** Messages that devices fetch over HTTPS. */
  "cloudMessageReceive",
  "fileUpload",
] as const;
export type OperationClass = (typeof OPERATION_CLASSES)[number];

/** - `refuse`: 429 as soon as a budget is spent · `queue`: requests wait for their turn, and 429 once the queue is full */
export const SHAPINGS = ["refuse", "queue"] as const;
export type Shaping = (typeof SHAPINGS)[number];

type Budget = { readonly perSecond: number; readonly capacity: number };

/** Per-minute budgets may be spent at once and then come back evenly. */
function perMinute(count: number): Budget {
  return { perSecond: count / 60, capacity: count };
}

/** Per-second budgets let bursts of this many seconds through, as the hub's traffic shaping does. */
const BURST_SECONDS = 5;
function perSecond(count: number): Budget {
  return { perSecond: count, capacity: count * BURST_SECONDS };
}

/** Methods are metered in 4 KB of payload. `kilobytes` is for one second. */
function methodBudget(kilobytes: number): Budget {
  return perSecond(kilobytes / 4);
}

/** Microsoft's table of IoT Hub quotas and throttling (2023-02-09, the same rows in 2025), for `units` of a tier. */
export function budgetsOf(tier: Tier, units: number): Readonly<Record<OperationClass, Budget>> {
  const small = {
    identity: perMinute(100 * units),
    query: perMinute(20 * units),
    configuration: perMinute(20 * units),
    job: perMinute(100 * units),
    cloudMessage: perMinute(100 * units),
    cloudMessageReceive: perMinute(1000 * units),
    fileUpload: perMinute(100 * units),
  };
  switch (sizeOf(tier)) {
    case 1:
      return {
        ...small,
        connection: perSecond(Math.max(100, 12 * units)),
        telemetry: perSecond(Math.max(100, 12 * units)),
        twinRead: perSecond(100),
        twinWrite: perSecond(50),
        method: methodBudget(160 * units),
        jobDevice: perSecond(10),
      };
    case 2:
      return {
        ...small,
        connection: perSecond(120 * units),
        telemetry: perSecond(120 * units),
        twinRead: perSecond(Math.max(100, 10 * units)),
        twinWrite: perSecond(Math.max(50, 5 * units)),
        method: methodBudget(480 * units),
        jobDevice: perSecond(Math.max(10, units)),
      };
    case 3:
      return {
        identity: perMinute(5000 * units),
        query: perMinute(1000 * units),
        configuration: perMinute(20 * units),
        job: perMinute(5000 * units),
        cloudMessage: perMinute(5000 * units),
        cloudMessageReceive: perMinute(50_000 * units),
        fileUpload: perMinute(5000 * units),
        connection: perSecond(6000 * units),
        telemetry: perSecond(6000 * units),
        twinRead: perSecond(500 * units),
        twinWrite: perSecond(250 * units),
        method: methodBudget(24 * 1024 * units),
        jobDevice: perSecond(50 * units),
      };
  }
}

/** The queue of a class holds what its budget lets through in this time. The real hub's is not documented. */
const LONGEST_QUEUE_SECONDS = 10;

export type Throttle = {
  /** Takes `cost` from the budget, or takes nothing and answers false. */
  readonly take: (operation: OperationClass, cost: number) => boolean;
  /** As `take`, for a request that may be queued: milliseconds until its turn; `null` where it is refused. */
  readonly reserve: (operation: OperationClass, cost: number) => number | null;
  /** What is left of every budget. */
  readonly left: () => Readonly<Record<OperationClass, number>>;
};

export type ThrottleOptions = { readonly tier: Tier; readonly units: number; readonly shaping: Shaping };

/** Token buckets, one for each class; a bucket below zero has a queue. `now` is milliseconds since the Unix epoch. */
export function createThrottle({ tier, units, shaping }: ThrottleOptions, now: () => number): Throttle {
  const budgets = budgetsOf(tier, units);
  const buckets = new Map<OperationClass, { tokens: number; at: number }>(
    OPERATION_CLASSES.map((name) => [name, { tokens: budgets[name].capacity, at: now() }]),
  );

  function refilled(name: OperationClass): { tokens: number; at: number } {
    const bucket = buckets.get(name) ?? { tokens: 0, at: now() };
    const { perSecond: rate, capacity } = budgets[name];
    const at = Math.max(bucket.at, now());
    const tokens = Math.min(capacity, bucket.tokens + ((at - bucket.at) / 1000) * rate);
    const next = { tokens, at };
    buckets.set(name, next);
    return next;
  }

  function take(operation: OperationClass, cost: number): boolean {
    const bucket = refilled(operation);
    // A hair of slack: refilling in many small steps must not lose the last token to rounding.
    if (bucket.tokens + 1e-6 < cost) return false;
    bucket.tokens -= cost;
    return true;
  }

  return {
    take,
    reserve(operation, cost) {
      if (take(operation, cost)) return 0;
      const { perSecond: rate, capacity } = budgets[operation];
      // What is more than a full budget never passes, however long it waits.
      if (shaping === "refuse" || cost > capacity) return null;
      const bucket = refilled(operation);
      const seconds = (cost - bucket.tokens) / rate;
      if (seconds > LONGEST_QUEUE_SECONDS) return null;
      bucket.tokens -= cost;
      return Math.ceil(seconds * 1000);
    },
    left: () =>
      Object.fromEntries(
        OPERATION_CLASSES.map((name) => [name, Math.max(0, refilled(name).tokens)]),
      ) as Record<OperationClass, number>,
  };
}
