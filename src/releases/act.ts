import type { BlobReference, ReportError, VariantStatus } from "../api/model-release.ts";
import { REASONS } from "../api/reasons.ts";
import { blobRefusal, mayUseBlob } from "../api/tenancy.ts";
import type { FullReport } from "../api/verification-report.ts";
import type { Attempt, Fault } from "../base/fault.ts";
import { setOwn } from "../base/lookup.ts";
import { redacted } from "../base/redact.ts";
import { ok } from "../base/result.ts";
import { type Instant, later, timestampOf } from "../base/time.ts";
import type { Done } from "../runtime/cycle.ts";
import type { ModelStore } from "../store/store.ts";
import type {
  Download,
  Reference,
  ReportSubject,
  VerificationKey,
  Verifier,
} from "../verification/verification.ts";
import type { ReleasePlan, SizedReference, Start } from "./plan.ts";
import { retryDelay } from "./retry-delay.ts";
import { NOT_ACTED, type ReleaseActed, type ReleaseSeen, type Saved } from "./seen.ts";
import { shown, URL_LIFETIME } from "./start.ts";
import { checksOf } from "./verdict-match.ts";

export type ActDeps = {
  readonly store: Pick<ModelStore, "readUrl" | "put">;
  readonly verifier: Pick<Verifier, "start" | "report">;
  /** A report as HTML: `verification/report-page.ts`, handed in. */
  readonly pageOf: (report: FullReport, subject: ReportSubject) => string;
};

/** Starts what is to be started and stops at the first fault; starting is idempotent. Then stores reports. */
export function actOnRelease(deps: ActDeps) {
  return async (seen: ReleaseSeen, plan: ReleasePlan, signal: AbortSignal): Promise<Done<ReleaseActed>> => {
    const { acted, fault } = await startAll(deps, seen, plan, signal);
    return { acted: { ...acted, saved: await saveAll(deps, seen, plan, signal) }, fault };
  };
}

async function startAll(
  deps: ActDeps,
  seen: ReleaseSeen,
  plan: ReleasePlan,
  signal: AbortSignal,
): Promise<Done<ReleaseActed>> {
  const started: string[] = [];
  for (const { start } of plan.variants) {
    if (start === null) continue;
    const urls = await downloads(deps, seen, start, signal);
    if (!urls.ok) return { acted: { ...NOT_ACTED, started, failedAt: "store" }, fault: urls.error };
    const request = {
      tenant: seen.release.namespace,
      urgency: start.urgency,
      ...urls.value,
      checks: checksOf(seen.release),
    };
    const begun = await deps.verifier.start(start.key, request, signal);
    if (!begun.ok) return { acted: { ...NOT_ACTED, started }, fault: begun.error };
    started.push(start.variant.name);
  }
  return { acted: { ...NOT_ACTED, started }, fault: null };
}

type Downloads = {
  readonly model: Download;
  readonly golden: Download | null;
  readonly parity: Reference | null;
  readonly variantParity: Reference | null;
};

async function downloads(
  deps: ActDeps,
  seen: ReleaseSeen,
  start: Start,
  signal: AbortSignal,
): Attempt<Downloads> {
  const expiresAt = later(seen.now, URL_LIFETIME);
  type File = { readonly blob: BlobReference; readonly digest: string; readonly sizeBytes: number };
  const signed = async ({ blob, digest, sizeBytes }: File): Attempt<Download> => {
    const made = await deps.store.readUrl(blob, expiresAt, signal);
    return made.ok ? ok({ url: made.value.url, digest, sizeBytes }) : made;
  };
  const compared = async (reference: SizedReference | null): Attempt<Reference | null> => {
    if (reference === null) return ok(null);
    const made = await signed(reference);
    return made.ok ? ok({ ...made.value, name: shown(reference) }) : made;
  };
  const signedModel = await signed({ ...start.variant, sizeBytes: start.sizeBytes });
  if (!signedModel.ok) return signedModel;
  const model = ok({ ...signedModel.value, ...(start.etag === "" ? {} : { etag: start.etag }) });
  const set = seen.release.spec.verification?.golden;
  const golden =
    set === undefined || start.goldenSizeBytes === null
      ? ok(null)
      : await signed({ ...set, sizeBytes: start.goldenSizeBytes });
  if (!golden.ok) return golden;
  const parity = await compared(start.parity);
  if (!parity.ok) return parity;
  const variantParity = await compared(start.variantParity);
  if (!variantParity.ok) return variantParity;
  return ok({
    model: model.value,
    golden: golden.value,
    parity: parity.value,
    variantParity: variantParity.value,
  });
}

/** A report that cannot be stored changes no verdict: why is in the status, and the pass continues. */
async function saveAll(
  deps: ActDeps,
  seen: ReleaseSeen,
  plan: ReleasePlan,
  signal: AbortSignal,
): Promise<ReleaseActed["saved"]> {
  const saved: Record<string, Saved> = {};
  for (const { save, next } of plan.variants) {
    if (!save || signal.aborted) continue;
    setOwn(saved, next.name, await saveOne(deps, seen, next, signal));
  }
  return saved;
}

async function saveOne(
  deps: ActDeps,
  { release, grant, now }: ReleaseSeen,
  had: VariantStatus,
  signal: AbortSignal,
): Promise<Saved> {
  const variant = release.spec.variants.find((one) => one.name === had.name);
  const { key = "" } = had;
  const blob = variant?.blob ?? { container: "", path: "" };
  const beside = (ending: string): BlobReference => ({
    container: blob.container,
    path: `${blob.path}.verification/${key.slice(0, 12)}.${ending}`,
  });
  if (!mayUseBlob(grant, beside("json")))
    return notStored(REASONS.NotPermitted, (had.reportError?.attempts ?? 0) + 1, null, [
      blobRefusal(release.namespace, grant, beside("json")),
      "then request another verification",
    ]);
  const found = await deps.verifier.report(key as VerificationKey, signal);
  if (!found.ok) return failed(had, now, "verifier", found.error);
  if (found.value === null) return lost(had);
  const report = withoutSecrets(found.value);
  const { namespace, name, spec } = release;
  const subject: ReportSubject = {
    ...{ namespace, release: name, model: spec.model, version: spec.version, variant: had.name },
    path: `${blob.container}/${blob.path}`,
    asked: checksOf(release),
    comparedWith: had.comparedWith ?? null,
  };
  const documents = [
    { to: beside("json"), contentType: "application/json", text: `${JSON.stringify(report, null, 2)}\n` },
    {
      to: beside("html"),
      contentType: "text/html; charset=utf-8",
      text: deps.pageOf(report, subject),
    },
  ];
  for (const { to, contentType, text } of documents) {
    const put = await deps.store.put(to, { contentType, bytes: new TextEncoder().encode(text) }, signal);
    if (!put.ok) return failed(had, now, "store", put.error);
  }
  const { container, path } = beside("json");
  return { kind: "stored", report: { container, path, page: beside("html").path } };
}

/** Names of models and files come from outside; those who may read the store must not learn a URL. */
function withoutSecrets(report: FullReport): FullReport {
  const longest = 100_000;
  return JSON.parse(
    JSON.stringify(report, (_, value: unknown) =>
      typeof value === "string" ? redacted(value, longest) : value,
    ),
  ) as FullReport;
}

/** Missing rights and refused names need a person: neither is retried before there is another report. */
function failed(had: VariantStatus, now: Instant, source: "store" | "verifier", fault: Fault): Saved {
  const attempts = (had.reportError?.attempts ?? 0) + 1;
  const cause = redacted(fault.message, 300);
  if (fault.kind === "denied")
    return notStored(REASONS.StoreDenied, attempts, null, [
      `the store refuses to write the report (${cause})`,
      "grant the operator's credential permission to write blobs, then request another verification",
    ]);
  if (fault.kind === "rejected")
    return notStored(REASONS.ReportNotStored, attempts, null, [
      `the ${source} rejected the report (${cause})`,
    ]);
  const reason = source === "store" ? REASONS.StoreUnavailable : REASONS.VerifierUnavailable;
  const retryAt = later(now, retryDelay(attempts));
  return notStored(reason, attempts, retryAt, [
    `the ${source} is not responding (${cause})`,
    "it will be retried automatically",
  ]);
}

function lost(had: VariantStatus): Saved {
  return notStored(REASONS.ReportNotStored, (had.reportError?.attempts ?? 0) + 1, null, [
    "the verifier was restarted before its report was fetched; the verdict is not affected",
  ]);
}

function notStored(
  reason: string,
  attempts: number,
  retryAt: Instant | null,
  words: readonly string[],
): Saved {
  const error: ReportError = {
    reason,
    message: words.join("; "),
    attempts,
    ...(retryAt === null ? {} : { retryAt: timestampOf(retryAt) }),
  };
  return { kind: "failed", error };
}
