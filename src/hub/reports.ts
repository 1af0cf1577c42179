import { CONTRACT, type FleetTags, type InferenceReport, UPDATE_STATES } from "../api/device-contract.ts";
import { BUCKETS } from "../api/membership.ts";
import { parseDigest } from "../base/digest.ts";
import { isRecord } from "../base/guards.ts";
import type { Intern } from "../base/intern.ts";
import { clip } from "../base/text.ts";
import type { Json, PointerRow } from "./hub.ts";

// Reads what stands in twins. Devices can write anything into theirs, so nothing here throws and nothing is
// trusted: a part of a wrong shape is left out, and so is a number out of range, which must not become a good one.
// Numbers of a window stay as they are: whether they can be true is judged with the rest of the report
// (rollouts/evidence/plausible.ts).

const MAX_NAME = 256;
const MAX_MESSAGE = 512;
const MAX_MODULES = 64;

/** `tags.edgefleet`, where it is whole; `null` otherwise. */
export function fleetTagsOf(tags: Json, intern: Intern = plain): FleetTags | null {
  const ours = tags["edgefleet"];
  if (!isRecord(ours)) return null;
  const { managed, namespace, device, class: deviceClass, site = "", bucket, iotEdge } = ours;
  if (typeof managed !== "boolean" || typeof iotEdge !== "boolean") return null;
  if (typeof namespace !== "string" || typeof device !== "string") return null;
  if (typeof deviceClass !== "string" || typeof site !== "string") return null;
  if (typeof bucket !== "number" || !Number.isInteger(bucket) || bucket < 0 || bucket >= BUCKETS) return null;
  const { cluster } = ours;
  const deployments = stringsOf(ours["deployments"] ?? {}, intern);
  if (deployments === null) return null;
  return {
    managed,
    ...(typeof cluster === "string" ? { cluster: intern(cluster) } : {}),
    namespace: intern(namespace),
    device,
    class: intern(deviceClass),
    site: intern(site),
    bucket,
    iotEdge,
    deployments,
  };
}

/** The pointer of a twin's `desired.model`, or of a row of a query; without its url. */
export function pointerOf(model: unknown, intern: Intern = plain): PointerRow | null {
  if (!isRecord(model)) return null;
  const { deployment, release, digest } = model;
  if (typeof deployment !== "string" || typeof release !== "string" || typeof digest !== "string")
    return null;
  return { deployment: intern(deployment), release: intern(release), digest: intern(digest) };
}

/** `properties.reported.inference`; `null` where there is none. Only the fields of the contract are read. */
export function reportOf(reported: unknown, intern: Intern = plain): InferenceReport | null {
  if (!isRecord(reported)) return null;
  const active = activeOf(reported["active"], intern);
  const update = updateOf(reported["update"], intern);
  const window = windowOf(reported["window"], intern);
  const resources = resourcesOf(reported["resources"]);
  const restarts = countOf(reported["restarts"]);
  const contract = reported["contract"];
  return {
    contract: contract === undefined ? CONTRACT : (countOf(contract) ?? 0),
    ...(active === null ? {} : { active }),
    ...(update === null ? {} : { update }),
    ...(window === null ? {} : { window }),
    ...(resources === null ? {} : { resources }),
    ...(restarts === null ? {} : { restarts }),
    heartbeatAt: textOf(reported["heartbeatAt"], MAX_NAME) ?? "",
  };
}

/** Digests are compared as text: hexadecimal digits in upper case are the same digest. */
function digestIn(written: unknown): string | null {
  const digest = textOf(written, MAX_NAME);
  return digest === null ? null : (parseDigest(digest.toLowerCase()) ?? digest);
}

type Part<K extends keyof InferenceReport> = NonNullable<InferenceReport[K]>;

function activeOf(active: unknown, intern: Intern): Part<"active"> | null {
  if (!isRecord(active)) return null;
  const release = textOf(active["release"], MAX_NAME);
  const digest = digestIn(active["digest"]);
  if (release === null || digest === null) return null;
  return {
    release: intern(release),
    digest: intern(digest),
    variant: intern(textOf(active["variant"], MAX_NAME) ?? ""),
    executionProvider: intern(textOf(active["executionProvider"], MAX_NAME) ?? ""),
    since: textOf(active["since"], MAX_NAME) ?? "",
  };
}

function updateOf(update: unknown, intern: Intern): Part<"update"> | null {
  if (!isRecord(update)) return null;
  const release = textOf(update["release"], MAX_NAME);
  const digest = digestIn(update["digest"]);
  const state = UPDATE_STATES.find((known) => known === update["state"]);
  if (release === null || digest === null || state === undefined) return null;
  const error = isRecord(update["error"]) ? update["error"] : null;
  const failure = {
    code: intern(textOf(error?.["code"], MAX_NAME) ?? "Unknown"),
    message: textOf(error?.["message"], MAX_MESSAGE) ?? "",
  };
  return {
    release: intern(release),
    digest: intern(digest),
    state,
    ...(error === null ? {} : { error: failure }),
    at: textOf(update["at"], MAX_NAME) ?? "",
  };
}

/** Whole or not at all: a missing number is no evidence, and an invented number would be false evidence. */
function windowOf(window: unknown, intern: Intern): Part<"window"> | null {
  if (!isRecord(window) || !isRecord(window["latencyMilliseconds"])) return null;
  const release = textOf(window["release"], MAX_NAME);
  const seconds = numberOf(window["seconds"]);
  const inferences = numberOf(window["inferences"]);
  const errors = numberOf(window["errors"]);
  const framesPerSecond = numberOf(window["framesPerSecond"]);
  const p50 = numberOf(window["latencyMilliseconds"]["p50"]);
  const p95 = numberOf(window["latencyMilliseconds"]["p95"]);
  const p99 = numberOf(window["latencyMilliseconds"]["p99"]);
  const endedAt = textOf(window["endedAt"], MAX_NAME);
  if (release === null || seconds === null || inferences === null || errors === null) return null;
  if (framesPerSecond === null || p50 === null || p95 === null || p99 === null || endedAt === null)
    return null;
  return {
    release: intern(release),
    seconds,
    inferences,
    errors,
    framesPerSecond,
    latencyMilliseconds: { p50, p95, p99 },
    endedAt,
  };
}

function resourcesOf(resources: unknown): Part<"resources"> | null {
  if (!isRecord(resources)) return null;
  const cpuPercent = numberWithin(resources["cpuPercent"], 0, 100);
  const memoryPercent = numberWithin(resources["memoryPercent"], 0, 100);
  const diskPercent = numberWithin(resources["diskPercent"], 0, 100);
  const gpuPercent = numberWithin(resources["gpuPercent"], 0, 100);
  const gpuCelsius = numberWithin(resources["gpuCelsius"], -273, 1000);
  return {
    ...(cpuPercent === null ? {} : { cpuPercent }),
    ...(memoryPercent === null ? {} : { memoryPercent }),
    ...(diskPercent === null ? {} : { diskPercent }),
    ...(gpuPercent === null ? {} : { gpuPercent }),
    ...(gpuCelsius === null ? {} : { gpuCelsius }),
  };
}

function stringsOf(object: unknown, intern: Intern): Readonly<Record<string, string>> | null {
  if (!isRecord(object)) return null;
  const entries = Object.entries(object);
  if (entries.length > MAX_MODULES) return null;
  const strings: [string, string][] = [];
  for (const [key, value] of entries) {
    if (typeof value !== "string") return null;
    strings.push([key, intern(value)]);
  }
  return Object.fromEntries(strings);
}

function textOf(value: unknown, longest: number): string | null {
  return typeof value === "string" ? clip(value, longest) : null;
}

function numberOf(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function numberWithin(value: unknown, least: number, most: number): number | null {
  const read = numberOf(value);
  return read === null || read < least || read > most ? null : read;
}

function countOf(value: unknown): number | null {
  const read = numberWithin(value, 0, Number.MAX_SAFE_INTEGER);
  return Number.isInteger(read) ? read : null;
}

function plain(value: string): string {
  return value;
}
