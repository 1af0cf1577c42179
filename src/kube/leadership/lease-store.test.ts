import { describe, expect, test } from "vitest";
import { lease } from "../../../test/builders/lease.ts";
import { createFakeRuntime } from "../../../test/fakes/fake-runtime.ts";
import { createFakeTransport } from "../../../test/fakes/fake-transport.ts";
import { err, ok } from "../../base/result.ts";
import { instant, seconds } from "../../base/time.ts";
import type { Lease } from "./lease.ts";
import { createLeaseStore, monitorLeaseStore } from "./lease-store.ts";

const never = new AbortController().signal;

describe("the Lease on the API server", () => {
  test("is written as coordination.k8s.io/v1 has it, under the version that was read", async () => {
    const stored = {
      metadata: { resourceVersion: "7" },
      spec: {
        holderIdentity: "a",
        leaseDurationSeconds: 15,
        acquireTime: "2026-01-01T00:00:00.000000Z",
        renewTime: "2026-01-01T00:00:02.000000Z",
        leaseTransitions: 3,
      },
    };
    const transport = createFakeTransport(async () => ok(stored));
    const store = createLeaseStore(transport, { namespace: "ef", name: "operator" });
    const read = await store.read(never);
    const expected: Lease = {
      holder: "a",
      duration: seconds(15),
      acquiredAt: instant(Date.UTC(2026, 0, 1)),
      renewedAt: instant(Date.UTC(2026, 0, 1, 0, 0, 2)),
      transitions: 3,
      version: "7",
    };
    expect(read).toEqual(ok(expected));
    await store.write(expected, "7", never);
    expect(transport.calls[1]).toMatchObject({
      method: "PATCH",
      body: [
        { op: "test", path: "/metadata/resourceVersion", value: "7" },
        { op: "add", path: "/spec", value: stored.spec },
      ],
    });
    await store.write({ ...expected, holder: null }, null, never);
    expect(transport.calls[2]).toMatchObject({ method: "POST", body: { spec: { holderIdentity: "" } } });
  });

  test("that does not exist is null; that was deleted before a write is a conflict", async () => {
    const store = createLeaseStore(
      createFakeTransport(async () => err({ kind: "missing", message: "not found" })),
      { namespace: "ef", name: "operator" },
    );
    expect(await store.read(never)).toEqual(ok(null));
    expect(await store.write(lease(), "7", never)).toMatchObject({ ok: false, error: { kind: "conflict" } });
  });
});

test("a store remembers when it was last answered, also with a conflict, but not by a failure", async () => {
  const { clock } = createFakeRuntime();
  let healthy = false;
  const fault = { kind: "unavailable", message: "" } as const;
  const conflict = { kind: "conflict", message: "" } as const;
  const store = monitorLeaseStore(
    {
      read: async () => (healthy ? ok(null) : err(fault)),
      write: async () => err(healthy ? conflict : fault),
    },
    clock,
  );
  await store.read(never);
  expect(store.answeredAt()).toBeNull();
  healthy = true;
  await store.read(never);
  expect(store.answeredAt()).toBe(clock.now());
  await clock.advance(seconds(2));
  await store.write(lease(), "1", never);
  const last = clock.now();
  expect(store.answeredAt()).toBe(last);
  healthy = false;
  await clock.advance(seconds(2));
  await store.write(lease(), "1", never);
  expect(store.answeredAt()).toBe(last);
});
