import { type Attempt, ok } from "../base/result.ts";
import { later, minutes } from "../base/time.ts";
import type { ModelStore } from "../store/store.ts";
import type { Download, VerificationKey, Verifier } from "../verification/verification.ts";
import { checksOf } from "./binding.ts";
import type { ReleasePlan, Start } from "./decide.ts";
import type { Learned, ReleaseSeen } from "./seen.ts";

export type ActDeps = {
  readonly store: Pick<ModelStore, "readUrl">;
  readonly verifier: Pick<Verifier, "start">;
};

/** How long the verifier may read the blobs; the URLs are made anew for every start and kept nowhere. */
const URL_LIFETIME = minutes(60);

/** Starts what is to be started and stops at the first fault; starting twice is starting once. */
export function actOnRelease(deps: ActDeps, learn: (more: Partial<Learned>) => void) {
  return async (seen: ReleaseSeen, plan: ReleasePlan, signal: AbortSignal): Attempt<void> => {
    const started: string[] = [];
    for (const { start } of plan.variants) {
      if (start === null) continue;
      const urls = await downloads(deps, seen, start, signal);
      if (!urls.ok) {
        learn({ failedAt: "store" });
        return urls;
      }
      const request = {
        tenant: seen.release.namespace,
        ...urls.value,
        parity: null,
        variantParity: null,
        checks: checksOf(seen.release),
      };
      const begun = await deps.verifier.start(start.key as VerificationKey, request, signal);
      if (!begun.ok) return begun;
      started.push(start.variant.name);
      learn({ started: [...started] });
    }
    return ok(undefined);
  };
}

async function downloads(
  deps: ActDeps,
  seen: ReleaseSeen,
  start: Start,
  signal: AbortSignal,
): Attempt<{ readonly model: Download; readonly golden: Download | null }> {
  const expiresAt = later(seen.now, URL_LIFETIME);
  const { blob, digest } = start.variant;
  const model = await deps.store.readUrl(blob, expiresAt, signal);
  if (!model.ok) return model;
  const download = { url: model.value.url, digest, sizeBytes: start.sizeBytes };
  const set = seen.release.spec.verification?.golden;
  if (set === undefined || start.goldenSizeBytes === null) return ok({ model: download, golden: null });
  const golden = await deps.store.readUrl(set.blob, expiresAt, signal);
  if (!golden.ok) return golden;
  return ok({
    model: download,
    golden: { url: golden.value.url, digest: set.digest, sizeBytes: start.goldenSizeBytes },
  });
}
