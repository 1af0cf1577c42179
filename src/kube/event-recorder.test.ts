import { describe, expect, test } from "vitest";
import { createFakeRuntime } from "../../test/fakes/fake-runtime.ts";
import { createFakeTransport } from "../../test/fakes/fake-transport.ts";
import type { EventDraft } from "../api/resource.ts";
import { err, ok } from "../base/result.ts";
import { millis, minutes, seconds } from "../base/time.ts";
import { createEventRecorder } from "./event-recorder.ts";
import type { Call } from "./transport/call.ts";

const device = { kind: "EdgeDevice", namespace: "plant-a", name: "cam-1", uid: "u-1" };
const draft = (message: string): EventDraft => ({ type: "Normal", reason: "Registered", message });

function start(answer?: Parameters<typeof createFakeTransport>[0]) {
  const runtime = createFakeRuntime();
  const transport = createFakeTransport(answer);
  const recorder = createEventRecorder(transport, { instance: "operator-0" }, runtime);
  const stop = new AbortController();
  const ended = recorder.run(stop.signal);
  const messages = () => transport.calls.map(({ body }) => (body as { readonly note: string }).note);
  return { ...runtime, recorder, transport, stop, ended, messages, result: resultOf };
  function resultOf(result: string): number {
    return runtime.meter.value("edgefleet_events_total", { result });
  }
}

const unavailable = err({ kind: "unavailable" as const, message: "down" });

describe("an event recorder", () => {
  test("publishes in the background", async () => {
    const { recorder, transport, clock, stop, ended } = start();
    recorder.record(device, draft("the identity exists"));
    expect(transport.calls).toEqual([]);
    await clock.settle();
    const [call] = transport.calls as [Call];
    expect(call).toMatchObject({ method: "POST", path: "/apis/events.k8s.io/v1/namespaces/plant-a/events" });
    expect(call.body).toMatchObject({
      metadata: { namespace: "plant-a", name: expect.stringMatching(/^cam-1\.[0-9a-f]+$/) },
      eventTime: "2026-01-01T00:00:00.000000Z",
      reportingController: "edgefleet.dev/operator",
      reportingInstance: "operator-0",
      type: "Normal",
      reason: "Registered",
      note: "the identity exists",
      regarding: { apiVersion: "edgefleet.dev/v1alpha1", ...device },
    });
    stop.abort();
    await ended;
  });

  test("publishes the same event of an object once in ten minutes", async () => {
    const { recorder, clock, messages, stop, ended, result } = start();
    recorder.record(device, draft("a"));
    recorder.record(device, draft("a"));
    recorder.record(device, draft("b"));
    recorder.record({ ...device, uid: "u-2", name: "cam-2" }, draft("a"));
    await clock.advance(millis(599_999));
    recorder.record(device, draft("a"));
    await clock.settle();
    expect(messages()).toEqual(["a", "b", "a"]);
    expect(result("repeated")).toBe(2);
    await clock.advance(millis(1));
    recorder.record(device, draft("a"));
    await clock.settle();
    expect(messages().length).toBe(4);
    stop.abort();
    await ended;
  });

  test("retries under the same name while the API server is unavailable, and takes a conflict for success", async () => {
    const answers = [unavailable, err({ kind: "conflict" as const, message: "AlreadyExists" })];
    const { recorder, transport, clock, stop, ended, result } = start(
      async (_call, count) => answers[count - 1] ?? ok({}),
    );
    recorder.record(device, draft("a"));
    await clock.advance(minutes(1));
    const names = transport.calls.map(
      ({ body }) => (body as { readonly metadata: { readonly name: string } }).metadata.name,
    );
    expect(names.length).toBe(2);
    expect(new Set(names).size).toBe(1);
    expect(result("sent")).toBe(1);
    stop.abort();
    await ended;
  });

  test.each([
    ["is refused", err({ kind: "denied" as const, message: "Forbidden" }), 1],
    ["cannot be delivered for long", unavailable, 4],
  ])("drops what %s, logs it, and continues with the next", async (_what, fault, attempts) => {
    const { recorder, transport, clock, log, stop, ended, result } = start(async (_call, count) =>
      count <= attempts ? fault : ok({}),
    );
    recorder.record(device, draft("a"));
    recorder.record(device, draft("b"));
    await clock.advance(minutes(5));
    expect(transport.calls.length).toBe(attempts + 1);
    expect([result("failed"), result("sent")]).toEqual([1, 1]);
    expect(log.lines().filter(({ level }) => level === "warn").length).toBe(1);
    stop.abort();
    await ended;
  });

  test("does not grow without bound, and never fails its caller", async () => {
    const { recorder, transport, clock, stop, ended, result } = start(async (_call, _count, signal) => {
      await clock.sleep(minutes(60), signal);
      return unavailable;
    });
    for (let i = 0; i < 1500; i += 1) recorder.record(device, draft(`note ${i}`));
    expect(result("dropped")).toBe(500);
    stop.abort();
    await clock.advance(seconds(6));
    await ended;
    expect(transport.calls.length).toBeLessThan(10);
  });

  test("flushes its queue when it is stopped", async () => {
    const { recorder, clock, messages, stop, ended } = start(async () => {
      await clock.sleep(seconds(1), new AbortController().signal);
      return ok({});
    });
    for (const message of ["a", "b", "c"]) recorder.record(device, draft(message));
    stop.abort();
    await clock.advance(seconds(4));
    await ended;
    expect(messages()).toEqual(["a", "b", "c"]);
    expect(clock.next()).toBeNull();
  });

  test("stops in time although the API server is unavailable", async () => {
    const { recorder, clock, stop, ended, result } = start(async (_call, _count, signal) => {
      await clock.sleep(minutes(60), signal);
      return unavailable;
    });
    for (const message of ["a", "b", "c"]) recorder.record(device, draft(message));
    await clock.settle();
    stop.abort();
    await clock.advance(seconds(5));
    await ended;
    expect(result("failed") + result("dropped")).toBe(3);
  });

  test("cuts texts to the limits of the API, in bytes", async () => {
    const { recorder, transport, clock, stop, ended } = start();
    recorder.record({ ...device, name: "x".repeat(253) }, draft(`${"é☃".repeat(400)}`));
    await clock.settle();
    const body = transport.calls[0]?.body as {
      readonly note: string;
      readonly metadata: { readonly name: string };
    };
    expect(Buffer.byteLength(body.note)).toBeLessThanOrEqual(1024);
    expect(body.note).toMatch(/^(é☃)+é?…$/);
    expect(body.metadata.name.length).toBeLessThanOrEqual(253);
    stop.abort();
    await ended;
  });
});

test("an event whose namespace is gone is not worth a warning", async () => {
  const { recorder, clock, log, stop, ended, result } = start(async () =>
    err({ kind: "missing", message: "namespaces plant-a not found" }),
  );
  recorder.record(device, draft("the identity is removed"));
  await clock.settle();
  expect(result("failed")).toBe(1);
  expect(log.lines().filter(({ level }) => level === "warn")).toEqual([]);
  stop.abort();
  await ended;
});
