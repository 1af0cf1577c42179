import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TokenCredential } from "@azure/identity";
import {
  BlobServiceClient,
  type StoragePipelineOptions,
  StorageSharedKeyCredential,
} from "@azure/storage-blob";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BlobReference } from "../../src/api/model-release.ts";
import { type Clock, instant, later, minutes } from "../../src/base/time.ts";
import { createAzureStore } from "../../src/store/azure-store.ts";
import type { ModelStore } from "../../src/store/store.ts";
import { startAzurite } from "../../tools/stack/azurite.ts";
import { loopbackCertificate } from "../builders/certificate.ts";
import { createFakeStore } from "../fakes/fake-store.ts";

/** A store under test, and what the world outside it can do. */
type Subject = {
  readonly at: (clock: Pick<Clock, "now">) => ModelStore;
  readonly put: (blob: BlobReference, bytes: Uint8Array) => Promise<void>;
  /** What a bearer of the URL gets; `null`: refused. */
  readonly open: (url: string) => Promise<Uint8Array | null>;
  readonly stop: () => Promise<void>;
};

// Azurite 3.36.0 understands no newer one where user-delegation keys are concerned.
const SAS_VERSION = "2025-11-05";
const realTime: Pick<Clock, "now"> = { now: () => instant(Date.now()) };
const ignored = new AbortController().signal;

async function fake(): Promise<Subject> {
  const store = createFakeStore(realTime);
  return {
    // Time in the fake is one: a URL made in the past has expired when it is opened now.
    at: (clock) => ({ ...store, readUrl: createFakeStore(clock).readUrl }),
    put: async (blob, bytes) => store.upload(blob, bytes),
    open: async (url) => store.open(url),
    stop: async () => undefined,
  };
}

async function accountKey(): Promise<Subject> {
  const azurite = await startAzurite();
  const service = BlobServiceClient.fromConnectionString(azurite.connectionString);
  return {
    at: (clock) =>
      createAzureStore({
        access: { kind: "connectionString", connectionString: azurite.connectionString },
        sasVersion: null,
        ca: null,
        clock,
      }),
    put: (blob, bytes) => put(service, blob, bytes),
    open: async (url) => {
      const answer = await fetch(url);
      const bytes = await answer.bytes();
      return answer.ok ? bytes : null;
    },
    stop: azurite.stop,
  };
}

async function userDelegation(): Promise<Subject> {
  const directory = await mkdtemp(join(tmpdir(), "store-contract-"));
  const { cert, key } = await loopbackCertificate();
  const tls = { cert: join(directory, "cert.pem"), key: join(directory, "key.pem") };
  await writeFile(tls.cert, cert);
  await writeFile(tls.key, key);
  const azurite = await startAzurite({ tls });
  const trusting: StoragePipelineOptions & { readonly tlsOptions: { readonly ca: string } } = {
    tlsOptions: { ca: cert },
  };
  const owner = new StorageSharedKeyCredential(azurite.accountName, azurite.accountKey);
  const service = new BlobServiceClient(azurite.url, owner, trusting);
  return {
    at: (clock) =>
      createAzureStore({
        access: { kind: "workloadIdentity", url: azurite.url, credential: unsignedToken() },
        sasVersion: SAS_VERSION,
        ca: cert,
        clock,
      }),
    put: (blob, bytes) => put(service, blob, bytes),
    open: (url) => getOverTls(url, cert),
    stop: async () => {
      await azurite.stop();
      await rm(directory, { recursive: true });
    },
  };
}

describe.each([
  { name: "in-memory fake", start: fake },
  { name: "Azure store with an account key, on Azurite", start: accountKey },
  { name: "Azure store with a token, on Azurite over HTTPS", start: userDelegation },
])("$name", ({ start }) => {
  let subject: Subject;
  let store: ModelStore;
  beforeAll(async () => {
    subject = await start();
    store = subject.at(realTime);
  }, 60_000);
  afterAll(() => subject.stop());

  let counter = 0;
  function fresh(): BlobReference {
    counter += 1;
    return { container: `models-${counter}`, path: "resnet50/2.1.0+gpu/model_a=1@b.onnx" };
  }

  test("a blob's facts are its size and an etag that changes with its bytes", async () => {
    const blob = fresh();
    await subject.put(blob, Buffer.from("first"));
    const first = await store.stat(blob, ignored);
    await subject.put(blob, Buffer.from("second"));
    const second = await store.stat(blob, ignored);
    expect(first).toMatchObject({ ok: true, value: { sizeBytes: 5 } });
    expect(second).toMatchObject({ ok: true, value: { sizeBytes: 6 } });
    expect(second.ok && second.value?.etag).not.toBe(first.ok && first.value?.etag);
  });

  test("a blob that is not there has no facts", async () => {
    const blob = fresh();
    await subject.put(blob, Buffer.from("bytes"));
    expect(await store.stat({ ...blob, path: "other.onnx" }, ignored)).toEqual({ ok: true, value: null });
  });

  test("a container that is not there reads like a blob that is not there", async () => {
    expect(await store.stat(fresh(), ignored)).toEqual({ ok: true, value: null });
  });

  test("the bearer of a read URL gets the bytes, until the second it was asked for", async () => {
    const blob = fresh();
    await subject.put(blob, Buffer.from("the model"));
    const until = later(realTime.now(), minutes(10));
    const made = await store.readUrl(blob, until, ignored);
    expect(made).toMatchObject({ ok: true, value: { expiresAt: Math.floor(until / 1000) * 1000 } });
    expect(made.ok && Buffer.from((await subject.open(made.value.url))!).toString()).toBe("the model");
  });

  test("a read URL opens no other blob", async () => {
    const [blob, other] = [fresh(), fresh()];
    await subject.put(blob, Buffer.from("mine"));
    await subject.put(other, Buffer.from("theirs"));
    const made = await store.readUrl(blob, later(realTime.now(), minutes(10)), ignored);
    const bent = made.ok ? made.value.url.replace(`/${blob.container}/`, `/${other.container}/`) : "";
    expect(bent).toContain(other.container);
    expect(await subject.open(bent)).toBeNull();
  });

  test("a read URL opens nothing once its time has passed", async () => {
    const blob = fresh();
    await subject.put(blob, Buffer.from("bytes"));
    const before = instant(realTime.now() - minutes(60));
    const made = await subject.at({ now: () => before }).readUrl(blob, later(before, minutes(30)), ignored);
    expect(made.ok).toBe(true);
    expect(await subject.open(made.ok ? made.value.url : "")).toBeNull();
  });

  test("a read URL that would have expired already is refused", async () => {
    const past = instant(realTime.now() - 1);
    expect(await store.readUrl(fresh(), past, ignored)).toMatchObject({
      ok: false,
      error: { kind: "rejected" },
    });
  });

  const page = (text: string) => ({ contentType: "text/html; charset=utf-8", bytes: Buffer.from(text) });
  async function read(blob: BlobReference): Promise<string | null> {
    const made = await store.readUrl(blob, later(realTime.now(), minutes(10)), ignored);
    const bytes = made.ok ? await subject.open(made.value.url) : null;
    return bytes === null ? null : Buffer.from(bytes).toString();
  }

  test("what is put can be read, is left alone where it is the same, and replaced where it is not", async () => {
    const model = fresh();
    await subject.put(model, Buffer.from("the model"));
    const blob = { ...model, path: `${model.path}.verification/0123456789ab.html` };
    expect(await store.put(blob, page("<p>first"), ignored)).toEqual({ ok: true, value: "written" });
    const first = await store.stat(blob, ignored);
    expect(await store.put(blob, page("<p>first"), ignored)).toEqual({ ok: true, value: "same" });
    expect(await store.stat(blob, ignored)).toEqual(first);
    expect(await read(blob)).toBe("<p>first");
    expect(await store.put(blob, page("<p>second"), ignored)).toEqual({ ok: true, value: "written" });
    expect(await read(blob)).toBe("<p>second");
    expect(await read(model)).toBe("the model");
  });

  test("nothing is put into a container that is not there", async () => {
    expect(await store.put(fresh(), page("<p>"), ignored)).toMatchObject({
      ok: false,
      error: { kind: "rejected" },
    });
  });

  test("a call that is cancelled says unavailable", async () => {
    const cancelled = AbortSignal.abort();
    expect(await store.put(fresh(), page("<p>"), cancelled)).toMatchObject({
      ok: false,
      error: { kind: "unavailable" },
    });
    expect(await store.stat(fresh(), cancelled)).toMatchObject({ ok: false, error: { kind: "unavailable" } });
  });
});

async function put(service: BlobServiceClient, blob: BlobReference, bytes: Uint8Array): Promise<void> {
  const container = service.getContainerClient(blob.container);
  await container.createIfNotExists();
  await container.getBlockBlobClient(blob.path).upload(bytes, bytes.length);
}

/** Azurite looks at a token's audience, issuer and times, and not at its signature. */
function unsignedToken(): TokenCredential {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const seconds = Math.floor(Date.now() / 1000);
  const tenant = "2f6b3a2e-6a0e-4b11-9a53-3f7f6f1f5a10";
  const claims = {
    aud: "https://storage.azure.com",
    iss: `https://sts.windows.net/${tenant}/`,
    oid: "9c5d8f4e-0c7b-4f64-8d5e-1a2b3c4d5e6f",
    tid: tenant,
    iat: seconds - 60,
    nbf: seconds - 60,
    exp: seconds + 3600,
  };
  const token = `${part({ alg: "none", typ: "JWT" })}.${part(claims)}.${part("unsigned")}`;
  return { getToken: async () => ({ token, expiresOnTimestamp: Date.now() + 3_600_000 }) };
}

async function getOverTls(url: string, ca: string): Promise<Uint8Array | null> {
  const answered = Promise.withResolvers<Uint8Array | null>();
  request(url, { ca }, (response) => {
    const chunks: Buffer[] = [];
    response.on("data", (chunk: Buffer) => chunks.push(chunk));
    response.on("end", () => answered.resolve(response.statusCode === 200 ? Buffer.concat(chunks) : null));
  })
    .on("error", answered.reject)
    .end();
  return answered.promise;
}
