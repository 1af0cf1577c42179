import type {
  BlobReference,
  ModelRelease,
  ModelReleaseSpec,
  ModelReleaseStatus,
  Reverification,
  Variant,
  VariantStatus,
  Verification,
} from "../api/model-release.ts";
import { REASONS } from "../api/reasons.ts";
import type { ObjectKey } from "../api/resource.ts";
import type { Grant, GrantOf } from "../api/tenancy.ts";
import type { Attempt } from "../base/fault.ts";
import { ok } from "../base/result.ts";
import { type Clock, type Instant, instantOf, timestampOf } from "../base/time.ts";
import type { Resources } from "../kube/kube.ts";
import type { ModelStore } from "../store/store.ts";
import type { VerificationKey, Verifier } from "../verification/verification.ts";
import { type Due, dueOf, requestOf } from "./due.ts";
import { filesRefusal, referencesRefusal } from "./permitted.ts";
import { type Reference, type References, referencesOf } from "./references.ts";
import type { ReverifySlots } from "./reverify-slots.ts";
import type {
  BlobSeen,
  Next,
  ReferenceSeen,
  ReleaseSeen,
  ReportSeen,
  Standing,
  VariantSeen,
} from "./seen.ts";
import { checksOf, matchingStatus, stands } from "./verdict-match.ts";

/** Everything that a verdict depends on → its key: `verification/key.ts`, handed in. */
export type KeyOf = (
  question: {
    readonly model: {
      readonly digest: string;
      readonly blob: { readonly container: string; readonly path: string; readonly etag: string };
    };
    readonly golden: { readonly digest: string } | null;
    readonly parity: { readonly digest: string } | null;
    readonly variantParity: { readonly digest: string } | null;
    readonly checks: Verification;
    readonly round: string | null;
  },
  verifierVersion: string,
) => VerificationKey;

export type ObserveDeps = {
  readonly releases: Pick<Resources<ModelReleaseSpec, ModelReleaseStatus>, "get" | "list">;
  readonly store: Pick<ModelStore, "stat">;
  readonly verifier: Pick<Verifier, "look" | "version">;
  readonly reverifySlots: ReverifySlots;
  readonly keyOf: KeyOf;
  readonly grants: GrantOf;
  readonly clock: Pick<Clock, "now">;
};

const UNASKED: BlobSeen = { kind: "unasked" };

/** `null`: the object is gone or going. */
export function observeRelease(deps: ObserveDeps) {
  const version = createVersionReader(deps.verifier);
  return async (key: ObjectKey, signal: AbortSignal): Attempt<ReleaseSeen | null> => {
    const release = deps.releases.get(key);
    if (release === undefined || release.deleting) return ok(null);
    const now = deps.clock.now();
    const grant = deps.grants(release.namespace);
    const variants: VariantSeen[] = [];
    for (const variant of release.spec.variants)
      variants.push(await lookAtVariant({ ...deps, version }, { release, grant, variant, now }, signal));
    return ok({ now, release, grant, variants });
  };
}

type Looking = ObserveDeps & { readonly version: VersionReader };
type Subject = {
  readonly release: ModelRelease;
  readonly grant: Grant;
  readonly variant: Variant;
  readonly now: Instant;
};

async function lookAtVariant(deps: Looking, subject: Subject, signal: AbortSignal): Promise<VariantSeen> {
  const { release, grant, variant } = subject;
  const had = matchingStatus(release, variant);
  const message = filesRefusal(grant, release, variant);
  if (message !== null) {
    deps.reverifySlots.release(release.key, variant.name);
    return { kind: "refused", variant, had, standing: null, message };
  }
  if (had === null || !stands(had)) return await lookAtOpen(deps, subject, { had, standing: null }, signal);
  const again = had.reverification;
  if (again !== undefined) {
    const standing = { verdict: had, since: again.since, cause: again.cause };
    return await lookAtOpen(deps, subject, { had: progressOf(had, again), standing }, signal);
  }
  const due = await lookWhetherDue(deps, subject, had, signal);
  if (due.kind !== "now") {
    deps.reverifySlots.release(release.key, variant.name);
    const next: Next =
      due.kind === "unknown" || due.at === null
        ? { kind: due.kind === "unknown" ? "unknown" : "never" }
        : { kind: "at", at: due.at };
    return settled(subject, had, next);
  }
  const standing = { verdict: had, since: timestampOf(subject.now), cause: due.cause };
  // A request is remembered at once, so that it is served once; what was not requested writes nothing while it waits.
  if (due.cause === "Requested")
    return await lookAtOpen(
      deps,
      subject,
      { had: progressOf(had, { since: standing.since, cause: standing.cause, ...IN_LINE }), standing },
      signal,
    );
  if (!deps.reverifySlots.acquire(release.key, variant.name, false))
    return settled(subject, had, { kind: "slot" });
  return await lookAtOpen(deps, subject, { had: null, standing }, signal);
}

/** A verdict that stands costs no call but one for the verifier's version, once for each process. */
async function lookWhetherDue(
  deps: Looking,
  { release, now }: Subject,
  had: VariantStatus,
  signal: AbortSignal,
): Promise<Due | { readonly kind: "unknown" }> {
  const version = await deps.version.read(signal);
  const due = dueOf(release, had, version.ok ? version.value : null, now);
  return due.kind === "later" && !version.ok ? { kind: "unknown" } : due;
}

function settled({ variant, now }: Subject, had: VariantStatus, next: Next): VariantSeen {
  const { key, report, reportError } = had;
  const again = reportError?.retryAt;
  const save =
    key !== undefined &&
    report === undefined &&
    (reportError === undefined || (again !== undefined && instantOf(again) <= now));
  return { kind: "settled", variant, had, standing: null, save, next };
}

const IN_LINE = {
  verdict: "Pending",
  reason: REASONS.VerificationRunning,
  message: "waiting to be verified",
} as const;

/** What is verified again, as if it were verified for the first time. */
function progressOf(
  { name, digest, sizeBytes, goldenDigest }: VariantStatus,
  { since: _since, cause: _cause, ...progress }: Reverification,
): VariantStatus {
  return {
    name,
    digest,
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
    ...(goldenDigest === undefined ? {} : { goldenDigest }),
    ...progress,
  };
}

type Open = { readonly had: VariantStatus | null; readonly standing: Standing | null };

async function lookAtOpen(
  deps: Looking,
  subject: Subject,
  open: Open,
  signal: AbortSignal,
): Promise<VariantSeen> {
  const { release, grant, variant } = subject;
  const { had } = open;
  const waiting = waitOf(deps, subject, open);
  if (waiting !== null) return waiting;

  const others = deps.releases.list(release.namespace);
  const references = referencesOf(release, variant, had?.comparedWith ?? null, others);
  const refused = references.kind === "missing" ? null : referencesRefusal(grant, release, references);
  if (refused !== null) {
    deps.reverifySlots.release(release.key, variant.name);
    return { kind: "refused", variant, ...open, message: refused };
  }
  // The question is about this blob in this state: as it was when the verification began, and as it is before.
  const known = blobUnderWay(had);
  const blob = known ?? (await stat(deps, variant.blob, signal));
  if (references.kind === "missing")
    return { kind: "unresolved", variant, ...open, message: references.message, blob };

  const question = { ...open, references };
  const asked = await askVerifier(deps, subject, { ...question, blob }, signal);
  if (!asked.ok) return { kind: "unreachable", variant, ...open, fault: asked.error, blob };
  const isLost = known !== null && asked.value.report.kind === "unknown";
  // What the verifier has forgotten starts again, with the blob as it is now.
  if (isLost) return await lookAtOpen(deps, subject, { ...open, had: withoutState(had) }, signal);
  const { key, report } = asked.value;
  const starting = report.kind === "unknown" || report.kind === "error";
  const golden = release.spec.verification?.golden;
  const find = async (reference: Reference | null): Promise<ReferenceSeen | null> =>
    reference === null
      ? null
      : { ...reference, found: starting ? await stat(deps, reference.blob, signal) : UNASKED };
  return {
    kind: "asked",
    variant,
    ...open,
    key,
    report,
    blob,
    golden: starting && golden !== undefined ? await stat(deps, golden.blob, signal) : UNASKED,
    parity: await find(references.parity),
    variantParity: await find(references.variantParity),
  };
}

/** The blob that a running verification reads; `null`: none runs, or it is not known. */
function blobUnderWay(had: VariantStatus | null): Extract<BlobSeen, { readonly kind: "found" }> | null {
  if (had?.verdict !== "Running" || had.sizeBytes === undefined || had.etag === undefined) return null;
  return { kind: "found", sizeBytes: had.sizeBytes, etag: had.etag };
}

function withoutState(had: VariantStatus | null): VariantStatus | null {
  if (had === null) return null;
  const { etag: _, ...rest } = had;
  return rest;
}

/** A verification that ended in an error waits for its retry and for a slot, unless a person requests it. */
function waitOf(
  { reverifySlots }: Pick<Looking, "reverifySlots">,
  { release, variant, now }: Subject,
  { had, standing }: Open,
): VariantSeen | null {
  const { key } = release;
  const retryAt = had?.verdict === "Error" && had.retryAt !== undefined ? instantOf(had.retryAt) : null;
  const asked = requestOf(release) !== null;
  if (had !== null && retryAt !== null && retryAt > now && !asked) {
    reverifySlots.release(key, variant.name);
    return { kind: "waiting", variant, had, standing, retryAt };
  }
  if (standing === null) return null;
  if (had?.verdict === "Running") reverifySlots.force(key, variant.name);
  else if (!reverifySlots.acquire(key, variant.name, standing.cause === "Requested") && had !== null)
    return { kind: "waiting", variant, had, standing, retryAt: null };
  return null;
}

/** Of what was not asked, because there is no blob to ask about. */
const NO_KEY = "" as VerificationKey;

async function askVerifier(
  deps: Looking,
  { release, variant }: Subject,
  {
    standing,
    blob,
    references: { parity, variantParity },
  }: Open & {
    readonly blob: BlobSeen;
    readonly references: Extract<References, { readonly kind: "found" }>;
  },
  signal: AbortSignal,
): Attempt<{ readonly key: VerificationKey; readonly report: ReportSeen }> {
  // What is not there cannot be asked about, and is not started either.
  if (blob.kind !== "found") return ok({ key: NO_KEY, report: { kind: "unknown" } });
  const version = await deps.version.read(signal);
  if (!version.ok) return version;
  const golden = release.spec.verification?.golden ?? null;
  const round = standing === null ? null : roundOf(standing);
  const checks = checksOf(release);
  const model = { digest: variant.digest, blob: { ...variant.blob, etag: blob.etag } };
  const question = { model, golden, parity, variantParity, checks, round };
  const key = deps.keyOf(question, version.value);
  const report = await deps.verifier.look(key, signal);
  if (!report.ok) return report;
  if (report.value?.kind === "passed" || report.value?.kind === "failed")
    deps.version.learn(report.value.verifierVersion);
  return ok({ key, report: report.value ?? { kind: "unknown" } });
}

/** A confirmation may begin in the same millisecond as what it confirms, and is another question all the same. */
function roundOf({ since, cause }: Standing): string {
  return cause === "Confirmation" ? `${since} ${cause}` : since;
}

async function stat(deps: Looking, blob: BlobReference, signal: AbortSignal): Promise<BlobSeen> {
  const facts = await deps.store.stat(blob, signal);
  if (!facts.ok) return { kind: "unreadable", fault: facts.error };
  return facts.value === null ? { kind: "missing" } : { kind: "found", ...facts.value };
}

type VersionReader = {
  readonly read: (signal: AbortSignal) => Attempt<string>;
  /** What a verdict says: the sidecar may have been replaced. */
  readonly learn: (version: string) => void;
};

/** The sidecar is replaced together with the operator, so its version is asked for once. */
function createVersionReader(verifier: Pick<Verifier, "version">): VersionReader {
  let known: string | null = null;
  return {
    learn: (version) => {
      known = version;
    },
    read: async (signal) => {
      if (known !== null) return ok(known);
      const version = await verifier.version(signal);
      if (version.ok) known ??= version.value;
      return version;
    },
  };
}
