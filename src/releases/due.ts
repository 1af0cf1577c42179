import type { ModelRelease, Reverification, VariantStatus } from "../api/model-release.ts";
import { nextTime, parseSchedule } from "../base/cron.ts";
import { clip } from "../base/text.ts";
import { type Instant, instantOf, later, millis, millisOf } from "../base/time.ts";

export type Cause = Reverification["cause"];

/** Whether what has a verdict is to be verified again. */
export type Due =
  | { readonly kind: "now"; readonly cause: Cause }
  /** `null`: not by the clock. */
  | { readonly kind: "later"; readonly at: Instant | null };

/** Its value is a token: a new one asks for one more verification. */
export const REVERIFY_ANNOTATION = "edgefleet.dev/reverify";
const LONGEST_TOKEN = 256;
const SHORTEST_INTERVAL = 3_600_000;

/** The request that has not been served yet; `null`: none. */
export function requestOf({ annotations, status }: ModelRelease): string | null {
  const token = clip(annotations[REVERIFY_ANNOTATION] ?? "", LONGEST_TOKEN);
  return token === "" || token === status?.handledRequests?.reverify ? null : token;
}

/** @param verifierVersion `null`: it could not be asked. */
export function dueOf(
  release: ModelRelease,
  had: VariantStatus,
  verifierVersion: string | null,
  now: Instant,
): Due {
  if (requestOf(release) !== null) return { kind: "now", cause: "Requested" };
  // A verdict of a verifier that did not say which state of the blob it had read counts as one of another version.
  if (had.etag === undefined || (verifierVersion !== null && had.verifierVersion !== verifierVersion))
    return { kind: "now", cause: "VerifierChanged" };
  const at = nextOf(release, had.verifiedAt === undefined ? release.createdAt : instantOf(had.verifiedAt));
  return at !== null && at <= now ? { kind: "now", cause: "Scheduled" } : { kind: "later", at };
}

/** What is wrong with the schedule, which the API server cannot check; `null`: nothing. */
export function scheduleProblemOf(release: ModelRelease): string | null {
  const { schedule, timeZone = "UTC" } = release.spec.verification?.reverify ?? {};
  if (schedule === undefined) return null;
  const parsed = parseSchedule(schedule, timeZone);
  return parsed.ok
    ? null
    : `verification.reverify is invalid (${parsed.error}); the release will not be verified again on schedule`;
}

function nextOf(release: ModelRelease, verifiedAt: Instant): Instant | null {
  const { every, schedule, timeZone = "UTC" } = release.spec.verification?.reverify ?? {};
  if (every !== undefined) return later(verifiedAt, millis(Math.max(SHORTEST_INTERVAL, millisOf(every))));
  if (schedule === undefined) return null;
  const parsed = parseSchedule(schedule, timeZone);
  return parsed.ok ? nextTime(parsed.value, verifiedAt) : null;
}
