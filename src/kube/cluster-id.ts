import { isRecord } from "../base/guards.ts";
import { type Millis, seconds } from "../base/time.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import type { Transport } from "./transport/transport.ts";

const PAUSE: Millis = seconds(5);

/**
 * The id of the cluster: the uid of its namespace kube-system, which lives as long as the cluster does. Asks until the API
 * server answers. A refusal throws: without an id the operator would not know its own devices from another cluster's.
 */
export async function clusterIdOf(
  transport: Pick<Transport, "call">,
  { clock, log }: Pick<RuntimeDeps, "clock" | "log">,
  signal: AbortSignal,
): Promise<string | null> {
  while (!signal.aborted) {
    const answer = await transport.call({ method: "GET", path: "/api/v1/namespaces/kube-system" }, signal);
    const uid = answer.ok ? uidIn(answer.value) : null;
    if (uid !== null) return uid;
    if (answer.ok || !["unavailable", "throttled", "expired"].includes(answer.error.kind))
      throw new Error(
        `the uid of the namespace kube-system cannot be read (${answer.ok ? "it has none" : answer.error.message}): allow "get" on it, or give --cluster-id`,
      );
    log.warn("the id of the cluster cannot be read yet", { fault: answer.error.message });
    await clock.sleep(PAUSE, signal);
  }
  return null;
}

function uidIn(body: unknown): string | null {
  const metadata = isRecord(body) ? body["metadata"] : null;
  const uid = isRecord(metadata) ? metadata["uid"] : null;
  return typeof uid === "string" && uid !== "" ? uid : null;
}
