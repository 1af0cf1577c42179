import { createHash } from "node:crypto";
import type { TokenCredential } from "@azure/identity";
import {
  BlobSASPermissions,
  BlobServiceClient,
  generateBlobSASQueryParameters,
  SASProtocol,
  type StoragePipelineOptions,
  StorageSharedKeyCredential,
  type UserDelegationKey,
} from "@azure/storage-blob";
import type { BlobReference } from "../api/model-release.ts";
import { orAborted } from "../base/abort.ts";
import type { Attempt } from "../base/fault.ts";
import { err, ok } from "../base/result.ts";
import {
  type Clock,
  durationText,
  elapsed,
  type Instant,
  instant,
  later,
  type Millis,
  minutes,
  seconds,
} from "../base/time.ts";
import { storeFault } from "./azure-faults.ts";
import type { Document, ModelStore } from "./store.ts";

/** How the operator proves itself to the store: an account key (Azurite, or by explicit choice), or a token. */
export type AzureStoreAccess =
  | { readonly kind: "connectionString"; readonly connectionString: string }
  | { readonly kind: "workloadIdentity"; readonly url: string; readonly credential: TokenCredential };

export type AzureStoreOptions = {
  readonly access: AzureStoreAccess;
  /** Service version of SAS tokens; `null`: the SDK's. Azurite knows older ones only. */
  readonly sasVersion: string | null;
  /** PEM of the CA of the endpoint; `null`: the machine's trust store. */
  readonly ca: string | null;
  readonly clock: Pick<Clock, "now">;
  /** A call that takes longer is `unavailable`. */
  readonly timeout?: Millis;
};

const CALL_TIMEOUT = seconds(10);
/** Machines disagree about the time: a URL that starts now is refused by a server that is a little behind. */
const CLOCK_SKEW = minutes(5);
/** The service signs user-delegation keys, and so the URLs made with them, for at most seven days. */
export const LONGEST_DELEGATION = minutes(7 * 24 * 60);
/** Keys can be revoked without notice: no key is used for new URLs longer than this. */
const KEY_MAXIMUM_AGE = minutes(6 * 60);
/** A key this young is as long as the service gives them, give or take: asking again would bring no more. */
const KEY_FRESH = minutes(5);

/**
 * The blob store on @azure/storage-blob. Throws for a connection string that it cannot sign URLs with; everything that
 * goes wrong later is a `Fault`, whose message names a status and a code and never a URL or a key.
 */
export function createAzureStore(options: AzureStoreOptions): ModelStore {
  const { clock, timeout = CALL_TIMEOUT } = options;
  const service = serviceOf(options.access, options.ca);
  const sign =
    options.access.kind === "workloadIdentity" ? delegated(service, options, timeout) : keyed(service);

  return {
    stat: async (blob, signal) => {
      const answer = await call("reading the blob's properties", timeout, signal, (bounded) =>
        clientOf(service, blob).getProperties({ abortSignal: bounded }),
      );
      if (!answer.ok) return answer;
      if (answer.value === null) return ok(null);
      return ok({ sizeBytes: answer.value.contentLength ?? 0, etag: answer.value.etag ?? "" });
    },
    readUrl: async (blob, expiresAt, signal) => {
      const now = clock.now();
      if (expiresAt <= now)
        return err({ kind: "rejected", message: "the read URL would have expired already" });
      const signer = await sign(now, expiresAt, signal);
      if (!signer.ok) return signer;
      // A SAS knows whole seconds only: rounded down, so that the URL is never good for longer than it says.
      const until = instant(Math.floor(signer.value.until / 1000) * 1000);
      const token = signer.value.token({
        containerName: blob.container,
        blobName: blob.path,
        permissions: BlobSASPermissions.parse("r"),
        startsOn: new Date(Math.max(now - CLOCK_SKEW, signer.value.from)),
        expiresOn: new Date(until),
        protocol: service.url.startsWith("http:") ? SASProtocol.HttpsAndHttp : SASProtocol.Https,
        ...(options.sasVersion === null ? {} : { version: options.sasVersion }),
      });
      return ok({ url: `${clientOf(service, blob).url}?${token}`, expiresAt: until });
    },
    put: async (blob, document, signal) => {
      const md5 = createHash("md5").update(document.bytes).digest();
      const found = await call("reading the blob's properties", timeout, signal, (bounded) =>
        clientOf(service, blob).getProperties({ abortSignal: bounded }),
      );
      if (!found.ok) return found;
      const had = found.value?.contentMD5;
      if (had !== undefined && md5.equals(had)) return ok("same");
      // A write of another client in between is a conflict, and is retried.
      const etag = found.value?.etag;
      const conditions = etag === undefined ? { ifNoneMatch: "*" } : { ifMatch: etag };
      const written = await call("writing a blob", timeout, signal, (bounded) =>
        upload(service, blob, document, { md5, conditions, signal: bounded }),
      );
      if (!written.ok) return written;
      return written.value === null
        ? err({ kind: "rejected", message: "writing a blob: there is no such container" })
        : ok("written");
    },
  };
}

function upload(
  service: BlobServiceClient,
  { container, path }: BlobReference,
  { bytes, contentType }: Document,
  how: {
    readonly md5: Uint8Array;
    readonly conditions: { readonly ifNoneMatch: string } | { readonly ifMatch: string };
    readonly signal: AbortSignal;
  },
) {
  const client = service.getContainerClient(container).getBlockBlobClient(path);
  return client.upload(bytes, bytes.length, {
    blobHTTPHeaders: { blobContentType: contentType, blobContentMD5: how.md5 },
    conditions: how.conditions,
    abortSignal: how.signal,
  });
}

type SasValues = Parameters<typeof generateBlobSASQueryParameters>[0];
/** Something that signs: with what, from when, and until when at most. */
type Signer = {
  readonly token: (values: SasValues) => string;
  readonly from: Instant;
  readonly until: Instant;
};
type Sign = (now: Instant, expiresAt: Instant, signal: AbortSignal) => Attempt<Signer>;

function keyed(service: BlobServiceClient): Sign {
  const { credential } = service;
  if (!(credential instanceof StorageSharedKeyCredential))
    throw new Error("the storage connection string has no AccountKey: it cannot sign URLs for devices");
  return async (_now, expiresAt) =>
    ok({
      token: (values) => generateBlobSASQueryParameters(values, credential).toString(),
      from: instant(0),
      until: expiresAt,
    });
}

type DelegationKey = {
  readonly key: UserDelegationKey;
  readonly fetchedAt: Instant;
  readonly from: Instant;
  readonly until: Instant;
};

function delegated(service: BlobServiceClient, { clock }: AzureStoreOptions, timeout: Millis): Sign {
  let cached: DelegationKey | null = null;
  let fetching: Attempt<DelegationKey> | null = null;

  async function fetchKey(): Attempt<DelegationKey> {
    const now = clock.now();
    // One second less than seven days: the service's clock may be a little behind ours.
    const until = later(now, (LONGEST_DELEGATION - 1000) as Millis);
    const answer = await call("asking for a user delegation key", timeout, null, (bounded) =>
      service.getUserDelegationKey(new Date(now - CLOCK_SKEW), new Date(until), { abortSignal: bounded }),
    );
    if (!answer.ok) return answer;
    if (answer.value === null)
      return err({ kind: "rejected", message: "the store's endpoint does not support user delegation keys" });
    cached = {
      key: answer.value,
      fetchedAt: now,
      from: instant(answer.value.signedStartsOn.getTime()),
      until: instant(answer.value.signedExpiresOn.getTime()),
    };
    return ok(cached);
  }

  // Callers of the same moment share one request, which no single one of them may cancel.
  function sharedKey(): Attempt<DelegationKey> {
    fetching ??= fetchKey().finally(() => {
      fetching = null;
    });
    return fetching;
  }

  return async (now, expiresAt, signal) => {
    const usable =
      cached !== null && isUsable(cached, now, expiresAt)
        ? ok(cached)
        : ((await orAborted(sharedKey(), signal)) ??
          err({ kind: "unavailable", message: "signing a read URL: cancelled" }));
    if (!usable.ok) return usable;
    const { key, from, until } = usable.value;
    return ok({
      token: (values) => generateBlobSASQueryParameters(values, key, service.accountName).toString(),
      from,
      until: instant(Math.min(expiresAt, until)),
    });
  };
}

function isUsable(cached: DelegationKey, now: Instant, expiresAt: Instant): boolean {
  const age = elapsed(cached.fetchedAt, now);
  if (age >= KEY_MAXIMUM_AGE || now >= cached.until) return false;
  return expiresAt <= cached.until || age < KEY_FRESH;
}

function serviceOf(access: AzureStoreAccess, ca: string | null): BlobServiceClient {
  const pipeline: StoragePipelineOptions & { readonly tlsOptions?: { readonly ca: string } } = {
    // The work queue is the retry policy: it backs off by key, honours the service's retry-after and reports it in
    // conditions. The SDK's own four tries within half a minute would multiply with it.
    retryOptions: { maxTries: 1 },
    // The option types forget tlsOptions; the pipeline passes it on to its TLS policy.
    ...(ca === null ? {} : { tlsOptions: { ca } }),
  };
  return access.kind === "connectionString"
    ? BlobServiceClient.fromConnectionString(access.connectionString, pipeline)
    : new BlobServiceClient(access.url, access.credential, pipeline);
}

function clientOf(service: BlobServiceClient, blob: BlobReference) {
  return service.getContainerClient(blob.container).getBlobClient(blob.path);
}

/** Where the vendor's exceptions become faults. `null`: the service answered that there is no such blob. */
async function call<T>(
  what: string,
  timeout: Millis,
  signal: AbortSignal | null,
  run: (bounded: AbortSignal) => Promise<T>,
): Attempt<T | null> {
  const deadline = AbortSignal.timeout(timeout);
  try {
    return ok(await run(signal === null ? deadline : AbortSignal.any([signal, deadline])));
  } catch (thrown) {
    if (signal?.aborted === true) return err({ kind: "unavailable", message: `${what}: cancelled` });
    if (deadline.aborted)
      return err({ kind: "unavailable", message: `${what}: no answer within ${durationText(timeout)}` });
    const fault = storeFault(what, thrown);
    return fault === null ? ok(null) : err(fault);
  }
}
