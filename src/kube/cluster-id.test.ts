import { expect, test } from "vitest";
import { err, ok } from "../base/result.ts";
import { readClusterId } from "./cluster-id.ts";
import type { Transport } from "./transport.ts";

const signal = new AbortController().signal;

test("a cluster is known by the uid of its namespace kube-system", async () => {
  const paths: string[] = [];
  const transport: Pick<Transport, "call"> = {
    call: async ({ path }) => {
      paths.push(path);
      return ok({ metadata: { name: "kube-system", uid: "6c1f" } });
    },
  };
  expect(await readClusterId(transport, signal)).toEqual(ok("6c1f"));
  expect(paths).toEqual(["/api/v1/namespaces/kube-system"]);
});

test("a namespace without a uid, or one that is not there, is no answer to wait for", async () => {
  expect(await readClusterId({ call: async () => ok({}) }, signal)).toMatchObject({
    ok: false,
    error: { kind: "rejected" },
  });
  const missing = err({ kind: "missing", message: "404" } as const);
  expect(await readClusterId({ call: async () => missing }, signal)).toMatchObject({
    ok: false,
    error: { kind: "rejected", message: "404" },
  });
});
