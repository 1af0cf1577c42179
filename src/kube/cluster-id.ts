import { type Attempt, err, ok } from "../base/result.ts";
import type { Transport } from "./transport.ts";

/** What a cluster is known by: the uid of its namespace kube-system, which lives as long as the cluster does. */
export async function readClusterId(
  transport: Pick<Transport, "call">,
  signal: AbortSignal,
): Attempt<string> {
  const answer = await transport.call({ method: "GET", path: "/api/v1/namespaces/kube-system" }, signal);
  if (!answer.ok) {
    const { error } = answer;
    return err(
      error.kind === "missing" || error.kind === "expired"
        ? { kind: "rejected", message: error.message }
        : error,
    );
  }
  const uid = (answer.value as { readonly metadata?: { readonly uid?: unknown } }).metadata?.uid;
  return typeof uid === "string" && uid !== ""
    ? ok(uid)
    : err({ kind: "rejected", message: "the namespace kube-system has no uid" });
}
