import { isRecord } from "../base/guards.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { Transport } from "./transport/transport.ts";

/**
 * The id of the cluster: the uid of its namespace kube-system, which lives as long as the cluster does. Without it the
 * operator would not know its own devices from another cluster's. The error says what is missing and what to do.
 */
export async function readClusterId(
  transport: Pick<Transport, "call">,
  signal: AbortSignal,
): Promise<Result<string, string>> {
  const answer = await transport.call({ method: "GET", path: "/api/v1/namespaces/kube-system" }, signal);
  if (answer.ok) {
    const uid = uidIn(answer.value);
    return uid === null ? err("the namespace kube-system has no uid; give --cluster-id") : ok(uid);
  }
  const { kind, message } = answer.error;
  const remedy = kind === "denied" ? '; allow "get" on the namespace kube-system, or give --cluster-id' : "";
  return err(`the id of the cluster cannot be read (${message})${remedy}`);
}

function uidIn(body: unknown): string | null {
  const metadata = isRecord(body) ? body["metadata"] : null;
  const uid = isRecord(metadata) ? metadata["uid"] : null;
  return typeof uid === "string" && uid !== "" ? uid : null;
}
