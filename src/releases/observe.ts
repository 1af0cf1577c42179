import type {
  BlobReference,
  ModelRelease,
  ModelReleaseSpec,
  ModelReleaseStatus,
  Variant,
  VariantStatus,
  Verification,
} from "../api/model-release.ts";
import type { ObjectKey } from "../api/resource.ts";
import { type Attempt, ok } from "../base/result.ts";
import { type Clock, type Instant, instantOf } from "../base/time.ts";
import type { Resources } from "../kube/kube.ts";
import type { ModelStore } from "../store/store.ts";
import type { VerificationKey, Verifier } from "../verification/verification.ts";
import { checksOf, stands, statusOf } from "./binding.ts";
import type { BlobSeen, ReleaseSeen, ReportSeen, VariantSeen } from "./seen.ts";

/** Everything that a verdict depends on → its key: `verification/key.ts`, handed in. */
export type KeyOf = (
  question: {
    readonly model: { readonly digest: string };
    readonly golden: { readonly digest: string } | null;
    readonly parity: { readonly digest: string } | null;
    readonly variantParity: { readonly digest: string } | null;
    readonly checks: Verification;
  },
  verifierVersion: string,
) => VerificationKey;

export type ObserveDeps = {
  readonly releases: Pick<Resources<ModelReleaseSpec, ModelReleaseStatus>, "get">;
  readonly store: Pick<ModelStore, "stat">;
  readonly verifier: Pick<Verifier, "look" | "version">;
  readonly keyOf: KeyOf;
  readonly clock: Pick<Clock, "now">;
};

const UNASKED: BlobSeen = { kind: "unasked" };

/** `null`: the object is gone or going: the verifier forgets by itself what nobody asks for any more. */
export function observeRelease(deps: ObserveDeps) {
  const version = createVersionReader(deps.verifier);
  return async (key: ObjectKey, signal: AbortSignal): Attempt<ReleaseSeen | null> => {
    const release = deps.releases.get(key);
    if (release === undefined || release.deleting) return ok(null);
    const now = deps.clock.now();
    const variants: VariantSeen[] = [];
    for (const variant of release.spec.variants)
      variants.push(await lookAtVariant({ ...deps, version }, { release, variant, now }, signal));
    return ok({ now, release, variants });
  };
}

type Looking = ObserveDeps & { readonly version: (signal: AbortSignal) => Attempt<string> };
type Subject = { readonly release: ModelRelease; readonly variant: Variant; readonly now: Instant };

async function lookAtVariant(
  deps: Looking,
  { release, variant, now }: Subject,
  signal: AbortSignal,
): Promise<VariantSeen> {
  const had = statusOf(release, variant);
  const settled = await settledVerdict(deps, had, signal);
  if (settled !== null) return { kind: "settled", variant, had: settled };
  const open = had?.verdict === "Failed" ? null : had;
  if (open?.verdict === "Error" && open.retryAt !== undefined && instantOf(open.retryAt) > now)
    return { kind: "waiting", variant, had: open, retryAt: instantOf(open.retryAt) };

  const asked = await askVerifier(deps, release, variant, signal);
  if (!asked.ok) {
    const blob = open?.sizeBytes === undefined ? await stat(deps, variant.blob, signal) : UNASKED;
    return { kind: "unreachable", variant, had: open, fault: asked.error, blob };
  }
  const { key, report } = asked.value;
  const starting = report.kind === "unknown" || report.kind === "error";
  const golden = release.spec.verification?.golden;
  return {
    kind: "asked",
    variant,
    had: open,
    key,
    report,
    blob: starting || open?.sizeBytes === undefined ? await stat(deps, variant.blob, signal) : UNASKED,
    golden: starting && golden !== undefined ? await stat(deps, golden.blob, signal) : UNASKED,
  };
}

/** A verdict that stands costs no call; only a failed one asks for the verifier's version, once for each process. */
async function settledVerdict(
  deps: Looking,
  had: VariantStatus | null,
  signal: AbortSignal,
): Promise<VariantStatus | null> {
  if (had === null) return null;
  if (had.verdict !== "Failed") return stands(had, null) ? had : null;
  const version = await deps.version(signal);
  return stands(had, version.ok ? version.value : null) ? had : null;
}

async function askVerifier(
  deps: Looking,
  release: ModelRelease,
  variant: Variant,
  signal: AbortSignal,
): Attempt<{ readonly key: VerificationKey; readonly report: ReportSeen }> {
  const version = await deps.version(signal);
  if (!version.ok) return version;
  const golden = release.spec.verification?.golden ?? null;
  const question = { model: variant, golden, parity: null, variantParity: null, checks: checksOf(release) };
  const key = deps.keyOf(question, version.value);
  const report = await deps.verifier.look(key, signal);
  return report.ok ? ok({ key, report: report.value ?? { kind: "unknown" } }) : report;
}

async function stat(deps: Looking, blob: BlobReference, signal: AbortSignal): Promise<BlobSeen> {
  const facts = await deps.store.stat(blob, signal);
  if (!facts.ok) return { kind: "unreadable", fault: facts.error };
  return facts.value === null ? { kind: "missing" } : { kind: "found", sizeBytes: facts.value.sizeBytes };
}

/** The sidecar is replaced together with the operator, so its version is asked for once. */
function createVersionReader(verifier: Pick<Verifier, "version">): (signal: AbortSignal) => Attempt<string> {
  let known: string | null = null;
  return async (signal) => {
    if (known !== null) return ok(known);
    const version = await verifier.version(signal);
    if (version.ok) known = version.value;
    return version;
  };
}
