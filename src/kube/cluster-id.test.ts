import { expect, test } from "vitest";
import { createFakeTransport } from "../../test/fakes/fake-transport.ts";
import { err, ok } from "../base/result.ts";
import { readClusterId } from "./cluster-id.ts";

const never = new AbortController().signal;

test("the id of a cluster is the uid of kube-system", async () => {
  const transport = createFakeTransport(async () => ok({ metadata: { uid: "u-1" } }));
  expect(await readClusterId(transport, never)).toEqual(ok("u-1"));
  expect(transport.calls.map(({ path }) => path)).toEqual(["/api/v1/namespaces/kube-system"]);
});

test.each([
  ["denied", /forbidden.*allow "get" on the namespace kube-system, or give --cluster-id/],
  ["unavailable", /^the id of the cluster cannot be read \(forbidden\)$/],
] as const)(
  "an answer that is %s says what is missing, and what helps where something does",
  async (kind, expected) => {
    const transport = createFakeTransport(async () => err({ kind, message: "forbidden" }));
    expect(await readClusterId(transport, never)).toEqual(err(expect.stringMatching(expected)));
  },
);

test("a namespace without a uid is no id", async () => {
  const transport = createFakeTransport(async () => ok({ metadata: {} }));
  expect(await readClusterId(transport, never)).toEqual(err(expect.stringContaining("--cluster-id")));
});
