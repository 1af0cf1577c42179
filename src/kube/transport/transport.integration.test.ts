import { afterEach, describe, expect, test } from "vitest";
import { createFakeRuntime } from "../../../test/fakes/fake-runtime.ts";
import {
  type Answer,
  json,
  pieces,
  refusal,
  startScriptedServer,
} from "../../../test/fakes/scripted-server.ts";
import { millis, minutes, seconds } from "../../base/time.ts";
import { JSON_PATCH } from "./call.ts";
import { createTransport, type TransportOptions } from "./transport.ts";

const never = new AbortController().signal;
const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function start(script: readonly Answer[], options: TransportOptions = {}) {
  const runtime = createFakeRuntime();
  const server = await startScriptedServer(...script);
  const transport = createTransport(server.config, options, runtime);
  open.push(() => server.close().then(transport.close));
  return { server, transport, clock: runtime.clock, meter: runtime.meter };
}

const get = { method: "GET", path: "/api/v1/x?limit=1" } as const;

describe("a call", () => {
  test("sends JSON with the credentials of the kubeconfig, and returns the answer", async () => {
    const { server, transport, meter } = await start([json(201, { made: true })]);
    const body = { kind: "X", spec: { ü: 1 } };
    const answer = await transport.call({ method: "POST", path: "/api/v1/x", body }, never);
    expect(answer).toEqual({ ok: true, value: { made: true } });
    const [request] = server.received;
    expect(request).toMatchObject({ method: "POST", path: "/api/v1/x", body });
    expect(request?.headers).toMatchObject({
      authorization: "Bearer token-of-the-tester",
      "content-type": "application/json",
      accept: "application/json",
    });
    expect(meter.value("edgefleet_kube_requests_total", { method: "POST", code: "201" })).toBe(1);
  });

  test("keeps the path of a server behind a proxy", async () => {
    const server = await startScriptedServer(json(200, {}));
    server.config.clusters = server.config.clusters.map((cluster) => ({
      ...cluster,
      server: `${server.url}/k8s/c-1/`,
    }));
    const transport = createTransport(server.config, {}, createFakeRuntime());
    open.push(() => server.close().then(transport.close));
    await transport.call(get, never);
    expect(server.received[0]?.path).toBe("/k8s/c-1/api/v1/x");
  });

  test("uses the same connections again", async () => {
    const { server, transport } = await start([json(200, {})]);
    for (let i = 0; i < 20; i += 1) await transport.call(get, never);
    // Not always one: a connection is busy until its answer has been cleared away.
    expect(server.connections()).toBeLessThanOrEqual(2);
  });

  test.each([
    [400, "BadRequest", "rejected"],
    [401, "Unauthorized", "denied"],
    [403, "Forbidden", "denied"],
    [404, "NotFound", "missing"],
    [405, "MethodNotAllowed", "rejected"],
    [409, "Conflict", "conflict"],
    [409, "AlreadyExists", "conflict"],
    [410, "Expired", "expired"],
    [413, "RequestEntityTooLarge", "rejected"],
    [422, "Invalid", "rejected"],
    [429, "TooManyRequests", "throttled"],
    [500, "InternalError", "unavailable"],
    [503, "ServiceUnavailable", "unavailable"],
    [504, "Timeout", "unavailable"],
  ])("that is refused with %i %s is %s, with the API server's message", async (code, reason, kind) => {
    const { transport } = await start([refusal(code, reason)]);
    const answer = await transport.call(get, never);
    expect(answer).toMatchObject({ ok: false, error: { kind } });
    if (!answer.ok) expect(answer.error.message).toBe(`GET /api/v1/x: ${code} because ${reason}`);
  });

  test.each([
    [429, { "retry-after": "7" }, {}, 7000],
    [503, { "retry-after": "2" }, {}, 2000],
    [429, { "retry-after": "Thu, 01 Jan 2026 00:00:30 GMT" }, {}, 30_000],
    [429, { "retry-after": "Wed, 31 Dec 2025 00:00:00 GMT" }, {}, 0],
    [429, {}, { retryAfterSeconds: 4 }, 4000],
    [429, {}, {}, 1000],
    [429, { "retry-after": "86400" }, {}, 300_000],
    [429, { "retry-after": "soon" }, {}, 1000],
  ])("that is answered %i %j is throttled", async (code, headers, details, retryAfter) => {
    const { transport } = await start([json(code, { code, details }, headers)]);
    expect(await transport.call(get, never)).toMatchObject({
      ok: false,
      error: { kind: "throttled", retryAfter },
    });
  });

  test("distinguishes a JSON Patch that no longer applies from one that makes the object invalid", async () => {
    const { transport } = await start([
      refusal(422, "Invalid"),
      refusal(422, "Invalid", { name: "a", causes: [{ field: "status.x" }] }),
    ]);
    const patch = { method: "PATCH", path: "/x", body: [], contentType: JSON_PATCH } as const;
    expect(await transport.call(patch, never)).toMatchObject({ error: { kind: "conflict" } });
    expect(await transport.call(patch, never)).toMatchObject({ error: { kind: "rejected" } });
  });

  test.each<[string, Answer]>([
    ["resets the connection", (response) => void response.destroy()],
    ["cuts the answer short", pieces(['{"items": [{'], "reset")],
    ["ends the answer in the middle", pieces(['{"items": [{'], "close")],
    ["answers something else", pieces(["<html>bad gateway</html>"], "close")],
    ["never answers", () => {}],
    ["stops in the middle of the answer", pieces(['{"items": [{'], "open")],
  ])("to a server that %s is unavailable, and the next one works", async (_what, fault) => {
    const { transport } = await start([fault, json(200, { fine: true })], { timeout: millis(150) });
    const answer = await transport.call(get, never);
    expect(answer).toMatchObject({ ok: false, error: { kind: "unavailable" } });
    expect(await transport.call(get, never)).toEqual({ ok: true, value: { fine: true } });
  });

  test("to a server that does not listen is unavailable, and no secret is in the message", async () => {
    const { server, transport } = await start([json(200, {})]);
    await server.close();
    const answer = await transport.call(get, never);
    expect(answer).toMatchObject({
      ok: false,
      error: { kind: "unavailable", message: expect.stringContaining("ECONNREFUSED") },
    });
    expect(JSON.stringify(answer)).not.toContain("token-of-the-tester");
  });

  test("ends when its signal aborts, before or during", async () => {
    const { transport } = await start([() => {}]);
    const stop = new AbortController();
    const answer = transport.call(get, stop.signal);
    setImmediate(() => stop.abort());
    expect(await answer).toMatchObject({ ok: false, error: { kind: "unavailable" } });
    expect(await transport.call(get, stop.signal)).toMatchObject({
      ok: false,
      error: { kind: "unavailable" },
    });
  });
});

describe("credentials", () => {
  test("are read again after a second, and at once when they were refused", async () => {
    const ok = json(200, {});
    const { server, transport, clock } = await start([ok, ok, ok, refusal(401, "Unauthorized"), ok]);
    const rotate = (token: string) => {
      server.config.users = [{ name: "tester", token }];
    };
    const sent = () => server.received.map(({ headers }) => headers.authorization);
    await transport.call(get, never);
    rotate("second");
    await clock.advance(millis(999));
    await transport.call(get, never);
    await clock.advance(millis(1));
    await transport.call(get, never);
    expect(sent()).toEqual(["Bearer token-of-the-tester", "Bearer token-of-the-tester", "Bearer second"]);
    await transport.call(get, never);
    rotate("third");
    await transport.call(get, never);
    expect(sent().at(-1)).toBe("Bearer third");
  });

  test("that cannot be read are a fault, and are read again", async () => {
    const { server, transport, clock } = await start([json(200, {})]);
    const given = server.config.users;
    server.config.users = [
      { name: "tester", certFile: "/nonexistent/client.crt", keyFile: "/nonexistent/client.key" },
    ];
    expect(await transport.call(get, never)).toMatchObject({ ok: false, error: { kind: "unavailable" } });
    server.config.users = given;
    await clock.advance(seconds(1));
    expect((await transport.call(get, never)).ok).toBe(true);
  });

  test("of another TLS identity get another pool, while requests on the old one continue", async () => {
    const { server, transport, clock } = await start([pieces(["one\n", "two\n"], "open"), json(200, {})]);
    const lines = await transport.lines("/watch", minutes(1), never);
    if (!lines.ok) throw new Error("no lines");
    const iterator = lines.value[Symbol.asyncIterator]();
    expect((await iterator.next()).value).toBe("one");
    const idle = () => new Promise((resolve) => setTimeout(resolve, 20)); // until the connection is free again
    await transport.call(get, never);
    await idle();
    await transport.call(get, never);
    await idle();
    expect(server.connections()).toBe(2); // one watches, one is used again
    const caData = Buffer.from("another authority").toString("base64");
    server.config.clusters = server.config.clusters.map((cluster) => ({ ...cluster, caData }));
    await clock.advance(seconds(1));
    expect((await transport.call(get, never)).ok).toBe(true);
    expect(server.connections()).toBe(3);
    expect((await iterator.next()).value).toBe("two");
    await iterator.return?.();
  });
});

describe("lines", () => {
  async function read(script: Answer, idle = millis(300)): Promise<string[]> {
    const { transport } = await start([script]);
    const opened = await transport.lines("/watch", idle, never);
    if (!opened.ok) throw new Error(opened.error.message);
    const seen: string[] = [];
    for await (const line of opened.value) seen.push(line);
    return seen;
  }

  test("come whole, however they were cut on the way", async () => {
    const snow = Buffer.from('{"a":"☃"}\n');
    expect(
      await read(pieces(['{"b"', ":1}\n{", '"c":2}\n\n', snow.subarray(0, 7), snow.subarray(7)], "close")),
    ).toEqual(['{"b":1}', '{"c":2}', '{"a":"☃"}']);
  });

  test("that are cut off at the end are passed on as they are", async () => {
    expect(await read(pieces(['{"a":1}\n{"b":'], "close"))).toEqual(['{"a":1}', '{"b":']);
  });

  test("throw when the connection is reset", async () => {
    await expect(read(pieces(['{"a":1}\n'], "reset"))).rejects.toThrow();
  });

  test("end when nothing has come for a while", { timeout: 10_000 }, async () => {
    expect(await read(pieces(['{"a":1}\n'], "open"))).toEqual(['{"a":1}']);
  });

  test("of a refusal are a fault", async () => {
    const { transport } = await start([refusal(410, "Expired")]);
    expect(await transport.lines("/watch", minutes(1), never)).toMatchObject({
      ok: false,
      error: { kind: "expired" },
    });
  });
});

/** Answers watches with headers and nothing more; calls as `answer` says. */
const watchesHang =
  (answer: Answer): Answer =>
  (response, request) => {
    if (!request.query.has("watch")) return answer(response, request);
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
  };

describe("connections over HTTP/1.1", () => {
  test("of watches take none from the calls, however many watches there are", async () => {
    const { server, transport } = await start([watchesHang(json(200, { fine: true }))], { connections: 2 });
    const stop = new AbortController();
    const watches = await Promise.all(
      Array.from({ length: 33 }, (_, i) => transport.lines(`/w${i}?watch=true`, minutes(5), stop.signal)),
    );
    expect(watches.every(({ ok }) => ok)).toBe(true);
    expect(await transport.call(get, never)).toEqual({ ok: true, value: { fine: true } });
    expect(server.connections()).toBe(34);
    stop.abort();
    for (const watch of watches)
      if (watch.ok) await expect(watch.value[Symbol.asyncIterator]().next()).rejects.toThrow();
  });

  test("that are all taken let a waiting call end at once when its signal aborts", async () => {
    const { server, transport } = await start([() => {}], { connections: 1 });
    const stop = new AbortController();
    const first = transport.call(get, never);
    while (server.received.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const second = transport.call(get, stop.signal);
    setImmediate(() => stop.abort());
    expect(await second).toMatchObject({ ok: false, error: { kind: "unavailable" } });
    expect(server.received.length).toBe(1);
    await server.close();
    expect(await first).toMatchObject({ ok: false });
  });
});

describe("a deadline", () => {
  test("ends a call that waits for a connection, one that is not answered, and one whose answer trickles", async () => {
    const trickle: Answer = (response) => {
      response.writeHead(200);
      response.write("{");
    };
    const { server, transport, clock } = await start([trickle, () => {}], {
      connections: 2,
      deadline: seconds(60),
      timeout: minutes(10),
    });
    const calls = [get, get, get].map((call) => transport.call(call, never));
    while (server.received.length < 2) await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(seconds(60));
    for (const call of calls)
      expect(await call).toMatchObject({
        ok: false,
        error: { kind: "unavailable", message: expect.stringContaining("no answer within 60 s") },
      });
  });

  test("ends the opening of a watch, but not a watch that was opened", async () => {
    const oneLine: Answer = (response) => {
      response.writeHead(200);
      response.write("one\n");
    };
    const { transport, clock } = await start([oneLine, () => {}], { timeout: minutes(10) });
    const opened = await transport.lines("/watch", minutes(10), never);
    const second = transport.lines("/watch", minutes(10), never);
    await clock.advance(seconds(90));
    expect(await second).toMatchObject({ ok: false, error: { kind: "unavailable" } });
    if (!opened.ok) throw new Error(opened.error.message);
    const lines = opened.value[Symbol.asyncIterator]();
    expect(await lines.next()).toEqual({ done: false, value: "one" });
    await lines.return?.();
  });
});

test("closing does not wait for what will not end", async () => {
  const { server, transport, clock } = await start([() => {}]);
  const call = transport.call(get, never);
  while (server.received.length === 0) await new Promise((resolve) => setImmediate(resolve));
  const closed = transport.close();
  await clock.advance(seconds(2));
  await closed;
  expect(clock.next()).toBeNull();
  expect(await call).toMatchObject({ ok: false, error: { kind: "unavailable" } });
});
