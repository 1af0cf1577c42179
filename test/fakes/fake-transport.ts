import { err, ok, type Result } from "../../src/base/result.ts";
import type { Call, KubeFault } from "../../src/kube/transport/call.ts";
import type { Transport } from "../../src/kube/transport/transport.ts";

export type FakeTransport = Transport & { readonly calls: readonly Call[] };

/** An API server that answers each call as `answer` says; it has no watches. */
export function createFakeTransport(
  answer: (
    call: Call,
    count: number,
    signal: AbortSignal,
  ) => Promise<Result<unknown, KubeFault>> = async () => ok({}),
): FakeTransport {
  const calls: Call[] = [];
  return {
    calls,
    call: async (call, signal) => {
      calls.push(call);
      return answer(call, calls.length, signal);
    },
    lines: async () => err({ kind: "unavailable", message: "no watches here" }),
    close: async () => {},
  };
}
