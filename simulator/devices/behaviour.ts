import { ANY, type Fields, globOf, PERCENT, type Range, readFields, SHARE } from "../base/fields.ts";
import { globMatcher } from "../base/glob.ts";
import { isObject, type JsonObject, type JsonValue } from "../base/json.ts";
import { shareOf } from "../base/random.ts";
import {
  type Disk,
  type Effects,
  FAILING_STATES,
  type FailingState,
  HEALTHY,
  type Heat,
  type Latency,
  type Offline,
  type PowerLoss,
  type PullFailure,
} from "./effects.ts";

export type Subject = {
  readonly deviceId: string;
  readonly deviceClass: string | null;
  readonly site: string | null;
  /** `<namespace>.<name>` of the release; `null` where no model is meant: rules that ask for one do not match. */
  readonly release: string | null;
  readonly digest: string | null;
};

export type Behaviour = {
  /** As it was written: what the control API lists. */
  readonly source: JsonObject;
  readonly matches: (subject: Subject) => boolean;
  readonly effects: Partial<Effects>;
  /** When the rule came into force, in milliseconds since the Unix epoch; `null`: not yet. */
  readonly since: number | null;
};

/** All rules that match count; where two give the same effect, the later one wins. */
export function effectsFor(behaviours: readonly Behaviour[], subject: Subject): Effects {
  let effects = HEALTHY;
  for (const behaviour of behaviours)
    if (behaviour.matches(subject)) effects = { ...effects, ...behaviour.effects };
  return effects;
}

/** The rule as it is from `now` on: what it says of time counts from then. One that is in force already stays as it is. */
export function inForce(behaviour: Behaviour, now: number): Behaviour {
  if (behaviour.since !== null) return behaviour;
  const { offline, disk } = behaviour.effects;
  const effects = {
    ...behaviour.effects,
    ...(offline !== undefined && { offline: offline === null ? null : { ...offline, since: now } }),
    ...(disk !== undefined && { disk: disk === null ? null : { ...disk, since: now } }),
  };
  return { ...behaviour, effects, since: now };
}

export type ParsedBehaviours =
  | { readonly ok: true; readonly behaviours: readonly Behaviour[] }
  | { readonly ok: false; readonly problems: readonly string[] };

/** A list of rules, or an object with the list under `behaviours`. Every mistake is reported at once. */
export function parseBehaviours(written: JsonValue, seed: number): ParsedBehaviours {
  const list = isObject(written) ? written["behaviours"] : written;
  if (!Array.isArray(list)) return { ok: false, problems: ["a list of behaviours is expected"] };
  const problems: string[] = [];
  const behaviours = (list as readonly JsonValue[]).flatMap((rule, index) => {
    const path = `behaviours[${index}]`;
    if (isObject(rule)) return [parseBehaviour(rule, path, seed, problems)];
    problems.push(`${path} must be an object`);
    return [];
  });
  return problems.length === 0 ? { ok: true, behaviours } : { ok: false, problems };
}

function parseBehaviour(rule: JsonObject, path: string, seed: number, problems: string[]): Behaviour {
  const fields = readFields(rule, path, problems);
  const name = fields.text("name", path);
  const matches = parseMatch(fields.inner("match"), `${seed}/${name}`);
  const inner = fields.inner("effects");
  if (inner === null) fields.addProblem("effects", "is needed");
  const effects = inner === null ? {} : parseEffects(inner);
  fields.done();
  return { source: rule, matches, effects, since: null };
}

function parseMatch(fields: Fields | null, salt: string): (subject: Subject) => boolean {
  if (fields === null) return () => true;
  const release = globOf(fields, "release");
  const digest = fields.optionalText("digest");
  const deviceClass = globOf(fields, "deviceClass");
  const site = globOf(fields, "site");
  const deviceId = globOf(fields, "deviceId");
  const percent = fields.optionalNumber("percent", PERCENT);
  const fits = (glob: ((text: string) => boolean) | null, value: string | null) =>
    glob === null || (value !== null && glob(value));
  return (subject) =>
    fits(release, subject.release) &&
    (digest === null || digest === subject.digest) &&
    fits(deviceClass, subject.deviceClass) &&
    fits(site, subject.site) &&
    fits(deviceId, subject.deviceId) &&
    (percent === null || shareOf(`${salt}/${subject.deviceId}`) * 100 < percent);
}

/** How one effect is read; `undefined`: nothing is said about it. */
type Readers = {
  readonly [Name in keyof Effects]: (fields: Fields, name: Name) => Effects[Name] | undefined;
};

const READERS: Readers = {
  latency: (fields, name) => within(fields, name, parseLatency),
  errorRate: (fields, name) => fields.optionalNumber(name, SHARE) ?? undefined,
  framesPerSecond: (fields, name) => fields.optionalNumber(name, ANY) ?? undefined,
  inferencesPerSecond: (fields, name) => fields.optionalNumber(name, ANY) ?? undefined,
  drift: (fields, name) =>
    within(fields, name, (drift) => ({
      latencyPerHour: drift.number("latencyPerHour", 0, ANY),
      errorRatePerHour: drift.number("errorRatePerHour", 0, SHARE),
    })),
  failAt: (fields, name) => within(fields, name, parseFailure),
  lieDigest: (fields, name) => fields.optionalText(name) ?? undefined,
  offline: parseOffline,
  flapping: (fields, name) =>
    within(fields, name, (flapping) => ({
      up: span(flapping, "up", 60_000),
      down: span(flapping, "down", 60_000),
    })),
  slowDownload: (fields, name) => optionalSpan(fields, name),
  wrongClock: (fields, name) => fields.optionalDuration(name) ?? undefined,
  crashLoop: (fields, name) =>
    within(fields, name, (crash) => ({
      every: needed(crash, "every"),
      exitCode: crash.number("exitCode", 139, { least: 0, most: 255 }),
    })),
  disk: (fields, name) => within(fields, name, parseDisk),
  heat: (fields, name) => within(fields, name, parseHeat),
  powerLoss: (fields, name) => within(fields, name, parsePowerLoss),
  pullTime: (fields, name) => optionalSpan(fields, name),
  pullFails: parsePullFailure,
  agentStopped: (fields, name) => (fields.raw(name) === undefined ? undefined : fields.flag(name)),
};

function parseEffects(fields: Fields): Partial<Effects> {
  const read = <Name extends keyof Effects>(name: Name) => [name, READERS[name](fields, name)] as const;
  const names = Object.keys(READERS) as (keyof Effects)[];
  return Object.fromEntries(names.map(read).filter(([, value]) => value !== undefined));
}

function within<T>(fields: Fields, name: string, parse: (inner: Fields) => T): T | undefined {
  const inner = fields.inner(name);
  return inner === null ? undefined : parse(inner);
}

/** A length of time: nothing runs backwards but a clock. */
function optionalSpan(fields: Fields, name: string): number | undefined {
  const length = fields.optionalDuration(name);
  if (length !== null && length < 0) fields.addProblem(name, "must not be negative");
  return length ?? undefined;
}

function span(fields: Fields, name: string, fallback: number): number {
  return optionalSpan(fields, name) ?? fallback;
}

function needed(fields: Fields, name: string): number {
  const length = optionalSpan(fields, name);
  if (fields.raw(name) === undefined) fields.addProblem(name, "is needed: a duration such as 10m");
  else if (length === 0) fields.addProblem(name, "must be longer than nothing");
  return length ?? 0;
}

const POSITIVE: Range = { least: 0.001, most: 1_000_000_000 };
const CELSIUS: Range = { least: -60, most: 150 };
const DEFAULT_JITTER = 0.05;
/** How many standard deviations above the middle the percentiles of a normal distribution are. */
const Z95 = 1.645;
const Z99 = 2.326;

/** Percentiles as they are, or of a distribution. */
function parseLatency(fields: Fields): Latency {
  const distribution = fields.oneOf("distribution", ["percentiles", "normal", "lognormal"], "percentiles");
  const jitter = fields.number("jitter", DEFAULT_JITTER, SHARE);
  if (distribution === "normal") {
    const mean = fields.number("mean", 20, POSITIVE);
    const deviation = fields.number("deviation", mean / 4, ANY);
    return { p50: mean, p95: mean + Z95 * deviation, p99: mean + Z99 * deviation, jitter };
  }
  if (distribution === "lognormal") {
    const median = fields.number("median", 20, POSITIVE);
    const sigma = fields.number("sigma", 0.35, { least: 0, most: 5 });
    return { p50: median, p95: median * Math.exp(Z95 * sigma), p99: median * Math.exp(Z99 * sigma), jitter };
  }
  const p50 = fields.number("p50", 20, ANY);
  const p95 = fields.number("p95", p50 * 1.75, ANY);
  const p99 = fields.number("p99", p95 * 1.4, ANY);
  if (p50 > p95 || p95 > p99) fields.addProblem("p95", "must lie between p50 and p99");
  return { p50, p95, p99, jitter };
}

function parseFailure(fields: Fields): NonNullable<Effects["failAt"]> {
  const state = fields.oneOf("state", FAILING_STATES, null);
  if (fields.raw("state") === undefined)
    fields.addProblem("state", `is needed: one of ${FAILING_STATES.join(", ")}`);
  const codes: Readonly<Record<FailingState, string>> = {
    Downloading: "DownloadFailed404",
    Checking: "DigestMismatch",
    Loading: "LoadFailed",
    Probing: "ProbeFailed",
  };
  const code = fields.text("code", codes[state ?? "Loading"]);
  return { state: state ?? "Loading", code, message: fields.text("message", `simulated: ${code}`) };
}

/** `true`, one window, or a list of them. */
function parseOffline(fields: Fields, name: "offline"): Offline | null | undefined {
  const written = fields.raw(name);
  if (written === undefined) return undefined;
  if (written === false) return null;
  if (written === true) return { since: 0, windows: [{ from: 0, length: Number.POSITIVE_INFINITY }] };
  const windows = fields.inners(name).map((window) => ({
    from: span(window, "from", 0),
    length: optionalSpan(window, "for") ?? Number.POSITIVE_INFINITY,
  }));
  return { since: 0, windows };
}

function parseDisk(fields: Fields): Disk {
  const sizeMegabytes = fields.number("sizeMegabytes", 32_000, POSITIVE);
  const freeMegabytes = fields.number("freeMegabytes", sizeMegabytes / 2, ANY);
  if (freeMegabytes > sizeMegabytes)
    fields.addProblem("freeMegabytes", "must not be more than sizeMegabytes");
  return {
    since: 0,
    sizeMegabytes,
    freeMegabytes,
    fillMegabytesPerHour: fields.number("fillMegabytesPerHour", 0, ANY),
  };
}

function parseHeat(fields: Fields): Heat {
  const idle = fields.number("idle", 45, CELSIUS);
  const most = fields.number("most", 95, CELSIUS);
  if (most < idle) fields.addProblem("most", "must not be below idle");
  return {
    idle,
    most,
    risePerHour: fields.number("risePerHour", 10, ANY),
    throttleAt: fields.number("throttleAt", 80, CELSIUS),
    slowdown: fields.number("slowdown", 2, { least: 1, most: 1000 }),
  };
}

function parsePowerLoss(fields: Fields): PowerLoss {
  return {
    after: optionalSpan(fields, "after") ?? null,
    length: span(fields, "for", 60_000),
    resume: fields.flag("resume"),
    times: fields.number("times", 1, { least: 1, most: 1_000_000 }),
  };
}

/** `true`, or the images and the text. */
function parsePullFailure(fields: Fields, name: "pullFails"): PullFailure | null | undefined {
  const written = fields.raw(name);
  if (written === undefined) return undefined;
  if (written === false) return null;
  const inner = written === true ? null : fields.inner(name);
  return {
    matches: globMatcher(inner?.text("image", "*") ?? "*"),
    message: inner?.text("message", NO_IMAGE) ?? NO_IMAGE,
  };
}

const NO_IMAGE = "manifest unknown: the registry has no such image";
