/** Classes of operations that the hub gives budgets to. */
export const OPERATION_CLASSES = [
  "identity",
  "query",
  "twinRead",
  "twinWrite",
  "configuration",
  "method",
  "job",
] as const;
export type OperationClass = (typeof OPERATION_CLASSES)[number];

export const TIERS = ["F1", "S1", "S2", "S3"] as const;
export type Tier = (typeof TIERS)[number];

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

/** Microsoft's table of IoT Hub quotas and throttling (2023-02-09, the same rows in 2025), for `units` of a tier. */
export function budgetsOf(tier: Tier, units: number): Readonly<Record<OperationClass, Budget>> {
  const small = {
    identity: perMinute(100 * units),
    query: perMinute(20 * units),
    configuration: perMinute(20 * units),
    job: perMinute(100 * units),
  };
  switch (tier) {
    case "F1":
    case "S1":
      return {
        ...small,
        twinRead: perSecond(100),
        twinWrite: perSecond(50),
        method: perSecond(40 * units),
      };
    case "S2":
      return {
        ...small,
        twinRead: perSecond(Math.max(100, 10 * units)),
        twinWrite: perSecond(Math.max(50, 5 * units)),
        method: perSecond(120 * units),
      };
    case "S3":
      return {
        identity: perMinute(5000 * units),
        query: perMinute(1000 * units),
        configuration: perMinute(20 * units),
        job: perMinute(5000 * units),
        twinRead: perSecond(500 * units),
        twinWrite: perSecond(250 * units),
        method: perSecond(6000 * units),
      };
  }
}

export type Throttle = {
  /** Takes `cost` from the budget, or takes nothing and answers false. */
  readonly take: (operation: OperationClass, cost: number) => boolean;
  /** What is left of every budget. */
  readonly left: () => Readonly<Record<OperationClass, number>>;
};

/** Token buckets, one for each class. `now` is milliseconds since the Unix epoch. */
export function createThrottle(tier: Tier, units: number, now: () => number): Throttle {
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

  return {
    take(operation, cost) {
      const bucket = refilled(operation);
      // A hair of slack: refilling in many small steps must not lose the last token to rounding.
      if (bucket.tokens + 1e-6 < cost) return false;
      bucket.tokens -= cost;
      return true;
    },
    left: () =>
      Object.fromEntries(OPERATION_CLASSES.map((name) => [name, refilled(name).tokens])) as Record<
        OperationClass,
        number
      >,
  };
}
