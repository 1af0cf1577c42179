import { ANY, type Fields, globOf, PERCENT, readFields, SHARE } from "../base/fields.ts";
import { isObject, type JsonObject, type JsonValue } from "../base/json.ts";
import { shareOf } from "../base/random.ts";

export type Latency = { readonly p50: number; readonly p95: number; readonly p99: number };

export const FAILING_STATES = ["Downloading", "Checking", "Loading", "Probing"] as const;
export type FailingState = (typeof FAILING_STATES)[number];

/** What a simulated device does otherwise than a healthy one. `null`: nothing is said about it. */
export type Effects = {
  /** Milliseconds. Every window is some percent off. */
  readonly latency: Latency | null;
  /** Share of inferences, 0 to 1. */
  readonly errorRate: number | null;
  readonly framesPerSecond: number | null;
  readonly inferencesPerSecond: number | null;
  /** The update fails in this state. */
  readonly failAt: { readonly state: FailingState; readonly code: string; readonly message: string } | null;
  /** Reported instead of the digest that runs. */
  readonly lieDigest: string | null;
  /** Never reports, and hears nothing. */
  readonly offline: boolean;
  /** Milliseconds reachable, then milliseconds not. */
  readonly flapping: { readonly up: number; readonly down: number } | null;
  /** Milliseconds that every download takes longer. */
  readonly slowDownload: number | null;
  /** Milliseconds that the device's clock is ahead; negative: behind. */
  readonly wrongClock: number | null;
};

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
};

export const HEALTHY: Effects = {
  latency: null,
  errorRate: null,
  framesPerSecond: null,
  inferencesPerSecond: null,
  failAt: null,
  lieDigest: null,
  offline: false,
  flapping: null,
  slowDownload: null,
  wrongClock: null,
};

/** All rules that match count; where two give the same effect, the later one wins. */
export function effectsFor(behaviours: readonly Behaviour[], subject: Subject): Effects {
  let effects = HEALTHY;
  for (const behaviour of behaviours)
    if (behaviour.matches(subject)) effects = { ...effects, ...behaviour.effects };
  return effects;
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
  if (inner === null) fields.complain("effects", "is needed");
  const effects = inner === null ? {} : parseEffects(inner);
  fields.done();
  return { source: rule, matches, effects };
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

function parseEffects(fields: Fields): Partial<Effects> {
  const effects: { -readonly [Name in keyof Effects]?: Effects[Name] } = {};
  const latency = fields.inner("latency");
  if (latency !== null) effects.latency = parseLatency(latency);
  const errorRate = fields.optionalNumber("errorRate", SHARE);
  if (errorRate !== null) effects.errorRate = errorRate;
  const framesPerSecond = fields.optionalNumber("framesPerSecond", ANY);
  if (framesPerSecond !== null) effects.framesPerSecond = framesPerSecond;
  const inferencesPerSecond = fields.optionalNumber("inferencesPerSecond", ANY);
  if (inferencesPerSecond !== null) effects.inferencesPerSecond = inferencesPerSecond;
  const failAt = fields.inner("failAt");
  if (failAt !== null) effects.failAt = parseFailure(failAt);
  const lieDigest = fields.optionalText("lieDigest");
  if (lieDigest !== null) effects.lieDigest = lieDigest;
  if (fields.raw("offline") !== undefined) effects.offline = fields.flag("offline");
  const flapping = fields.inner("flapping");
  if (flapping !== null)
    effects.flapping = { up: flapping.duration("up", 60_000), down: flapping.duration("down", 60_000) };
  const slowDownload = fields.optionalDuration("slowDownload");
  if (slowDownload !== null) effects.slowDownload = slowDownload;
  const wrongClock = fields.optionalDuration("wrongClock");
  if (wrongClock !== null) effects.wrongClock = wrongClock;
  return effects;
}

function parseLatency(fields: Fields): Latency {
  const p50 = fields.number("p50", 20, ANY);
  const p95 = fields.number("p95", p50 * 1.75, ANY);
  const p99 = fields.number("p99", p95 * 1.4, ANY);
  if (p50 > p95 || p95 > p99) fields.complain("p95", "must lie between p50 and p99");
  return { p50, p95, p99 };
}

function parseFailure(fields: Fields): NonNullable<Effects["failAt"]> {
  const state = fields.oneOf("state", FAILING_STATES, null);
  if (fields.raw("state") === undefined)
    fields.complain("state", `is needed: one of ${FAILING_STATES.join(", ")}`);
  const codes: Readonly<Record<FailingState, string>> = {
    Downloading: "DownloadFailed404",
    Checking: "DigestMismatch",
    Loading: "LoadFailed",
    Probing: "ProbeFailed",
  };
  const code = fields.text("code", codes[state ?? "Loading"]);
  return { state: state ?? "Loading", code, message: fields.text("message", `simulated: ${code}`) };
}
