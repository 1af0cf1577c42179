import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { loopbackCertificate } from "../../test/builders/certificate.ts";
import { type Instant, instant, later, type Millis, millis, minutes, seconds } from "../base/time.ts";
import { type AzureStoreOptions, createAzureStore, LONGEST_DELEGATION } from "./azure-store.ts";

const KEY = Buffer.from("not a real account key").toString("base64");
const BLOB = { container: "models", path: "resnet50/2.1.0/model.onnx" };
const START = instant(Date.parse("2026-03-01T12:00:00Z"));
const ignored = new AbortController().signal;

type Handler = (request: IncomingMessage, response: ServerResponse) => void;
const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

async function listen(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

async function keyedStore(handler: Handler, more: Partial<AzureStoreOptions> = {}) {
  const port = await listen(createServer(handler));
  const connectionString = `DefaultEndpointsProtocol=http;AccountName=account;AccountKey=${KEY};BlobEndpoint=http://127.0.0.1:${port}/account;`;
  const access = { kind: "connectionString", connectionString } as const;
  return createAzureStore({ access, sasVersion: null, ca: null, clock: { now: () => START }, ...more });
}

/** A service that gives delegation keys as the real one does, and counts them. */
async function delegatedStore(more: { readonly clock: { now: () => Instant }; readonly answer?: Handler }) {
  const { cert, key } = await loopbackCertificate();
  const asked: string[] = [];
  const giveKey: Handler = (request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks).toString();
      const field = (name: string) => new RegExp(`<${name}>([^<]*)</${name}>`).exec(body)?.[1] ?? "";
      asked.push(field("Expiry"));
      response
        .writeHead(200, { "content-type": "application/xml" })
        .end(
          `<?xml version="1.0" encoding="utf-8"?><UserDelegationKey><SignedOid>oid</SignedOid><SignedTid>tid</SignedTid>` +
            `<SignedStart>${field("Start")}</SignedStart><SignedExpiry>${field("Expiry")}</SignedExpiry>` +
            `<SignedService>b</SignedService><SignedVersion>2025-11-05</SignedVersion><Value>${KEY}</Value></UserDelegationKey>`,
        );
    });
  };
  const port = await listen(createTlsServer({ cert, key }, more.answer ?? giveKey));
  const credential = {
    getToken: async () => ({ token: "token", expiresOnTimestamp: Date.now() + 3_600_000 }),
  };
  const store = createAzureStore({
    access: { kind: "workloadIdentity", url: `https://127.0.0.1:${port}/account`, credential },
    sasVersion: "2025-11-05",
    ca: cert,
    clock: more.clock,
  });
  return { store, asked };
}

function movingClock(): { readonly now: () => Instant; readonly move: (by: Millis) => void } {
  let now = START;
  return {
    now: () => now,
    move: (by) => {
      now = later(now, by);
    },
  };
}

async function queryOf(
  store: ReturnType<typeof createAzureStore>,
  expiresAt: Instant,
): Promise<URLSearchParams> {
  const made = await store.readUrl(BLOB, expiresAt, ignored);
  if (!made.ok) throw new Error(made.error.message);
  expect(made.value.expiresAt).toBe(Date.parse(new URL(made.value.url).searchParams.get("se")!));
  return new URL(made.value.url).searchParams;
}

test("a read URL may read one blob, from a little in the past", async () => {
  const store = await keyedStore(() => undefined, { sasVersion: "2021-12-02" });
  const query = await queryOf(store, later(START, minutes(60)));
  expect(query.get("sr")).toBe("b");
  expect(query.get("sp")).toBe("r");
  expect(query.get("st")).toBe("2026-03-01T11:55:00Z");
  expect(query.get("se")).toBe("2026-03-01T13:00:00Z");
  expect(query.get("sv")).toBe("2021-12-02");
});

test("a read URL is for https alone, unless the endpoint itself is http", async () => {
  const plain = await keyedStore(() => undefined);
  const { store: secure } = await delegatedStore({ clock: movingClock() });
  expect((await queryOf(plain, later(START, minutes(60)))).get("spr")).toBe("https,http");
  expect((await queryOf(secure, later(START, minutes(60)))).get("spr")).toBe("https");
});

test("a URL made by delegation is never good for longer than seven days", async () => {
  const { store, asked } = await delegatedStore({ clock: movingClock() });
  for (let round = 0; round < 2; round += 1) {
    const made = await store.readUrl(BLOB, later(START, minutes(30 * 24 * 60)), ignored);
    expect(made.ok && made.value.expiresAt).toBe(START + LONGEST_DELEGATION - 1000);
  }
  expect(asked).toHaveLength(1);
});

test("one delegation key signs many URLs, requested once even by concurrent callers", async () => {
  const { store, asked } = await delegatedStore({ clock: movingClock() });
  const urls = await Promise.all(
    [1, 2, 3].map((hours) => store.readUrl(BLOB, later(START, minutes(60 * hours)), ignored)),
  );
  expect(urls.every((url) => url.ok)).toBe(true);
  expect(asked).toEqual(["2026-03-08T11:59:59Z"]);
});

test("a new delegation key is requested when the old one would end before the URL", async () => {
  const clock = movingClock();
  const { store, asked } = await delegatedStore({ clock });
  const sixDaysAndMore = minutes(6 * 24 * 60 + 22 * 60);
  await queryOf(store, later(clock.now(), sixDaysAndMore));
  clock.move(minutes(60));
  await queryOf(store, later(clock.now(), sixDaysAndMore));
  expect(asked).toHaveLength(1);
  clock.move(minutes(120));
  const query = await queryOf(store, later(clock.now(), sixDaysAndMore));
  expect(asked).toEqual(["2026-03-08T11:59:59Z", "2026-03-08T14:59:59Z"]);
  expect(query.get("se")).toBe("2026-03-08T13:00:00Z");
});

test("a delegation key is not used for new URLs for more than six hours: it may have been revoked", async () => {
  const clock = movingClock();
  const { store, asked } = await delegatedStore({ clock });
  await queryOf(store, later(clock.now(), minutes(60)));
  clock.move(minutes(6 * 60));
  await queryOf(store, later(clock.now(), minutes(60)));
  expect(asked).toHaveLength(2);
});

test("a refused delegation key is denied, and requested again the next time", async () => {
  let requests = 0;
  const { store } = await delegatedStore({
    clock: movingClock(),
    answer: (_request, response) => {
      requests += 1;
      response.writeHead(403, { "x-ms-error-code": "AuthorizationPermissionMismatch" }).end();
    },
  });
  for (const round of [1, 2]) {
    expect(await store.readUrl(BLOB, later(START, minutes(60)), ignored)).toEqual({
      ok: false,
      error: {
        kind: "denied",
        message: "asking for a user delegation key: 403 AuthorizationPermissionMismatch",
      },
    });
    expect(requests).toBe(round);
  }
});

test("a caller that is cancelled does not cancel the key for the others", async () => {
  const { store, asked } = await delegatedStore({ clock: movingClock() });
  const hasty = new AbortController();
  const cancelled = store.readUrl(BLOB, later(START, minutes(60)), hasty.signal);
  const patient = store.readUrl(BLOB, later(START, minutes(60)), ignored);
  hasty.abort();
  expect(await cancelled).toMatchObject({ ok: false, error: { kind: "unavailable" } });
  expect(await patient).toMatchObject({ ok: true });
  expect(asked).toHaveLength(1);
});

test("a store that fails is called once: the caller's queue retries", async () => {
  let requests = 0;
  const store = await keyedStore((_request, response) => {
    requests += 1;
    response.writeHead(500, { "x-ms-error-code": "InternalError" }).end();
  });
  expect(await store.stat(BLOB, ignored)).toEqual({
    ok: false,
    error: { kind: "unavailable", message: "reading the blob's properties: 500 InternalError" },
  });
  expect(requests).toBe(1);
});

test("a store that throttles is not called again", async () => {
  let requests = 0;
  const store = await keyedStore((_request, response) => {
    requests += 1;
    response.writeHead(429, { "retry-after": "7" }).end();
  });
  expect(await store.stat(BLOB, ignored)).toMatchObject({
    ok: false,
    error: { kind: "throttled", retryAfter: seconds(7) },
  });
  expect(requests).toBe(1);
});

test("a store that never answers is unavailable after the timeout", async () => {
  const store = await keyedStore(() => undefined, { timeout: millis(50) });
  expect(await store.stat(BLOB, ignored)).toEqual({
    ok: false,
    error: { kind: "unavailable", message: "reading the blob's properties: no answer within 50ms" },
  });
});

test("a call that is cancelled while it waits ends at once", async () => {
  const asked = Promise.withResolvers<void>();
  const store = await keyedStore(() => asked.resolve());
  const controller = new AbortController();
  const pending = store.stat(BLOB, controller.signal);
  await asked.promise;
  controller.abort();
  expect(await pending).toMatchObject({ ok: false, error: { kind: "unavailable" } });
});

test("a store that does not listen is unavailable", async () => {
  const access = {
    kind: "connectionString",
    connectionString: `DefaultEndpointsProtocol=http;AccountName=account;AccountKey=${KEY};BlobEndpoint=http://127.0.0.1:1/account;`,
  } as const;
  const store = createAzureStore({ access, sasVersion: null, ca: null, clock: { now: () => START } });
  expect(await store.stat(BLOB, ignored)).toEqual({
    ok: false,
    error: { kind: "unavailable", message: "reading the blob's properties: ECONNREFUSED" },
  });
});

test("a connection string that cannot sign is refused at the start, without being quoted", () => {
  const access = {
    kind: "connectionString",
    connectionString:
      "BlobEndpoint=https://account.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=s3cret",
  } as const;
  const create = () => createAzureStore({ access, sasVersion: null, ca: null, clock: { now: () => START } });
  expect(create).toThrow("the storage connection string has no AccountKey: it cannot sign URLs for devices");
});

const REPORT = { contentType: "application/json", bytes: Buffer.from("{}") };

test.each([
  ["a credential that may only read", 403, "AuthorizationPermissionMismatch", "denied"],
  ["a writer who was quicker", 412, "ConditionNotMet", "conflict"],
  ["a policy that lets nothing be written twice", 409, "BlobImmutableDueToPolicy", "conflict"],
  ["a service that is away", 500, "InternalError", "unavailable"],
])("%s: a refused write is a fault that quotes none of the bytes", async (_, status, code, kind) => {
  const written: (string | undefined)[] = [];
  const store = await keyedStore((request, response) => {
    request.resume();
    if (request.method === "HEAD")
      return void response.writeHead(200, { etag: '"1"', "content-md5": "AAAA" }).end();
    written.push(request.headers["if-match"], String(request.headers["x-ms-blob-content-type"]));
    response.writeHead(status, { "x-ms-error-code": code }).end();
  });
  expect(await store.put(BLOB, REPORT, ignored)).toEqual({
    ok: false,
    error: { kind, message: `writing a blob: ${status} ${code}` },
  });
  expect(written).toEqual(['"1"', "application/json"]);
});
