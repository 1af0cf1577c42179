import { expect, test } from "vitest";
import { createFakeTransport } from "../../test/fakes/fake-transport.ts";
import { err, ok } from "../base/result.ts";
import { millis } from "../base/time.ts";
import { createSecrets } from "./secrets.ts";
import type { KubeFault } from "./transport/call.ts";

const never = new AbortController().signal;
const owner = { kind: "EdgeDevice", name: "cam-1", uid: "u-1" } as const;
const secret = { namespace: "plant-a", name: "cam-1-hub", data: { key: "value" } };
const QUOTED = 'data[key]: Invalid value: "value"';

test.each<[KubeFault["kind"], KubeFault["kind"]]>([
  ["rejected", "rejected"],
  ["denied", "denied"],
  ["conflict", "conflict"], // another client created one of that name meanwhile
  ["missing", "conflict"], // the namespace, or the Secret, vanished meanwhile
  ["unavailable", "unavailable"],
  ["expired", "unavailable"],
])("a write that is %s is %s, and does not repeat what the API server quotes", async (given, kind) => {
  const fault = { kind: given, message: QUOTED } as KubeFault;
  const missing = err({ kind: "missing" as const, message: "not found" });
  const transport = createFakeTransport(async ({ method }) => (method === "GET" ? missing : err(fault)));
  const answer = await createSecrets(transport).apply(owner, secret, never);
  expect(answer).toMatchObject({
    ok: false,
    error: { kind, message: expect.stringContaining("plant-a/cam-1-hub") },
  });
  expect(JSON.stringify(answer)).not.toContain("Invalid value");
});

test("a server that asks for a pause gets it", async () => {
  const fault: KubeFault = { kind: "throttled", retryAfter: millis(7000), message: QUOTED };
  const secrets = createSecrets(createFakeTransport(async () => err(fault)));
  for (const answer of [await secrets.get("a", "b", never), await secrets.apply(owner, secret, never)])
    expect(answer).toMatchObject({ ok: false, error: { kind: "throttled", retryAfter: 7000 } });
});

test("a name cannot leave its path", async () => {
  const transport = createFakeTransport(async () => ok({ metadata: { resourceVersion: "1" } }));
  await createSecrets(transport).get("a/../b", "c?d", never);
  expect(transport.calls[0]?.path).toBe("/api/v1/namespaces/a%2F..%2Fb/secrets/c%3Fd");
});
