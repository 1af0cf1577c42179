/** Milliseconds from input ready to output ready. `jitter` is the share by which a window is off at most, either way. */
export type Latency = {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly jitter: number;
};

export const FAILING_STATES = ["Downloading", "Checking", "Loading", "Probing"] as const;
export type FailingState = (typeof FAILING_STATES)[number];

/** What a simulated device does otherwise than a healthy one. `null`: nothing is said about it. Times are milliseconds. */
export type Effects = {
  readonly latency: Latency | null;
  /** Share of inferences, 0 to 1. */
  readonly errorRate: number | null;
  readonly framesPerSecond: number | null;
  readonly inferencesPerSecond: number | null;
  /** What each hour that the model runs on the device adds: a share of the latency, and to the error rate. */
  readonly drift: { readonly latencyPerHour: number; readonly errorRatePerHour: number } | null;
  /** The update fails in this state. */
  readonly failAt: { readonly state: FailingState; readonly code: string; readonly message: string } | null;
  /** Reported instead of the digest that runs. */
  readonly lieDigest: string | null;
  /** Never reports, and hears nothing, in these stretches of time. */
  readonly offline: Offline | null;
  /** Reachable, then not. */
  readonly flapping: { readonly up: number; readonly down: number } | null;
  /** By how much every download takes longer. */
  readonly slowDownload: number | null;
  /** By how much the device's clock is ahead; negative: behind. */
  readonly wrongClock: number | null;
  /** The program ends that long after it started, or after the model of the rule did. */
  readonly crashLoop: { readonly every: number; readonly exitCode: number } | null;
  readonly disk: Disk | null;
  readonly heat: Heat | null;
  readonly powerLoss: PowerLoss | null;
  /** How long an edge device takes to pull an image. */
  readonly pullTime: number | null;
  readonly pullFails: PullFailure | null;
  /** The edge agent has been shut down; its modules run on. */
  readonly agentStopped: boolean;
};

/** Stretches of time from `since`, when the rule came into force. */
export type Offline = {
  readonly since: number;
  readonly windows: readonly { readonly from: number; readonly length: number }[];
};

/** `freeMegabytes` is beside the models that the device keeps; it falls from `since` on. */
export type Disk = {
  readonly since: number;
  readonly sizeMegabytes: number;
  readonly freeMegabytes: number;
  readonly fillMegabytesPerHour: number;
};

/** Degrees Celsius: from `idle`, by so many for each hour that a model runs, up to `most`; hotter than `throttleAt` it is slow. */
export type Heat = {
  readonly idle: number;
  readonly risePerHour: number;
  readonly most: number;
  readonly throttleAt: number;
  /** Factor of the latency. */
  readonly slowdown: number;
};

export type PowerLoss = {
  /** Into the download; `null`: in the middle of it. */
  readonly after: number | null;
  readonly length: number;
  /** Whether the download resumes where it was. */
  readonly resume: boolean;
  /** How often for one digest. */
  readonly times: number;
};

export type PullFailure = { readonly matches: (image: string) => boolean; readonly message: string };

export const HEALTHY: Effects = {
  latency: null,
  errorRate: null,
  framesPerSecond: null,
  inferencesPerSecond: null,
  drift: null,
  failAt: null,
  lieDigest: null,
  offline: null,
  flapping: null,
  slowDownload: null,
  wrongClock: null,
  crashLoop: null,
  disk: null,
  heat: null,
  powerLoss: null,
  pullTime: null,
  pullFails: null,
  agentStopped: false,
};

export function isOffline({ offline }: Effects, now: number): boolean {
  if (offline === null) return false;
  const at = now - offline.since;
  return offline.windows.some(({ from, length }) => at >= from && at < from + length);
}

/** What time has made of a device. `null` where no rule says anything. */
export type Wear = {
  /** Factor of the latency. */
  readonly slowdown: number;
  readonly throttled: boolean;
  /** Added to the error rate. */
  readonly errorRate: number;
  readonly celsius: number | null;
  readonly freeMegabytes: number | null;
  readonly diskPercent: number | null;
};

const HOUR = 3_600_000;

/** `runningSince` is when the model started on the device; `null`: there is none. */
export function wearOf({ drift, heat, disk }: Effects, runningSince: number | null, now: number): Wear {
  const hours = runningSince === null ? 0 : Math.max(0, now - runningSince) / HOUR;
  const celsius = heat === null ? null : Math.min(heat.most, heat.idle + heat.risePerHour * hours);
  const throttled = heat !== null && celsius !== null && celsius >= heat.throttleAt;
  const drifted = 1 + (drift?.latencyPerHour ?? 0) * hours;
  const free =
    disk === null
      ? null
      : Math.max(0, disk.freeMegabytes - (disk.fillMegabytesPerHour * Math.max(0, now - disk.since)) / HOUR);
  return {
    slowdown: drifted * (throttled ? heat.slowdown : 1),
    throttled,
    errorRate: (drift?.errorRatePerHour ?? 0) * hours,
    celsius,
    freeMegabytes: free,
    diskPercent:
      disk === null || free === null
        ? null
        : Math.min(100, Math.max(0, 100 - (100 * free) / disk.sizeMegabytes)),
  };
}
