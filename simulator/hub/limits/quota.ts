import { sizeOf, type Tier } from "./tier.ts";

/** Operations that are charged against the daily quota of messages; identities, configurations and keep-alives are free. */
export const CHARGED = [
  "telemetry",
  "cloudMessage",
  "methodRequest",
  "methodResponse",
  "twinRead",
  "twinWrite",
  "desiredNotification",
  "query",
  "jobDevice",
  "applyConfiguration",
] as const;
export type Charged = (typeof CHARGED)[number];

export type QuotaReport = {
  /** UTC, by the hub's clock. */
  readonly day: string;
  /** Messages a day; `null`: no limit. */
  readonly limit: number | null;
  readonly messages: number;
  readonly left: number | null;
  readonly classes: Readonly<Record<Charged, number>>;
};

export type QuotaOptions = {
  readonly tier: Tier;
  readonly units: number;
  /** Messages a day in place of what the tier has; `null`: the tier's. */
  readonly dailyQuota: number | null;
  /** Whether the quota is a limit: it is counted all the same. */
  readonly limited: boolean;
};

export type Quota = {
  /** Counts one operation of `bytes`; what begins below the limit is carried out, even where it ends above. */
  readonly charge: (what: Charged, bytes: number) => void;
  /** Whether charged operations are refused until midnight UTC. */
  readonly spent: () => boolean;
  readonly report: () => QuotaReport;
  readonly numbers: () => QuotaNumbers;
  /** What was used up of a day is used up after a restart too. */
  readonly resume: (numbers: QuotaNumbers) => void;
};

export type QuotaNumbers = Pick<QuotaReport, "day" | "messages" | "classes">;

/** Messages a day. Source: Microsoft's limits of IoT Hub. */
export function dailyQuotaOf(tier: Tier, units: number): number {
  if (tier === "F1") return 8000;
  return { 1: 400_000, 2: 6_000_000, 3: 300_000_000 }[sizeOf(tier)] * units;
}

/** Messages that `bytes` count as: pieces of 4 KB, of 0.5 KB in the free tier, and one for an empty message. */
export function messagesOf(tier: Tier, bytes: number): number {
  return Math.max(1, Math.ceil(bytes / (tier === "F1" ? 512 : 4096)));
}

/** The messages of a day. `now` is milliseconds since the Unix epoch by the hub's clock. */
export function createQuota(options: QuotaOptions, now: () => number): Quota {
  const { tier, units, dailyQuota, limited } = options;
  const limit = limited ? (dailyQuota ?? dailyQuotaOf(tier, units)) : null;
  let state = fresh();

  function fresh() {
    const classes = Object.fromEntries(CHARGED.map((name) => [name, 0])) as Record<Charged, number>;
    return { day: today(), messages: 0, classes };
  }

  function today(): string {
    return new Date(now()).toISOString().slice(0, 10);
  }

  function current() {
    if (state.day !== today()) state = fresh();
    return state;
  }

  return {
    charge(what, bytes) {
      const messages = messagesOf(tier, bytes);
      const day = current();
      day.messages += messages;
      day.classes[what] += messages;
    },
    spent: () => limit !== null && current().messages >= limit,
    report() {
      const { day, messages, classes } = current();
      const left = limit === null ? null : Math.max(0, limit - messages);
      return { day, limit, messages, left, classes: { ...classes } };
    },
    numbers: () => {
      const { day, messages, classes } = state;
      return { day, messages, classes: { ...classes } };
    },
    resume: ({ day, messages, classes }) => {
      state = { day, messages, classes: { ...fresh().classes, ...classes } };
    },
  };
}
