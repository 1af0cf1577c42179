import { isObject, type JsonValue } from "../../base/json.ts";
import { isBasic, type Tier } from "../../hub/limits/tier.ts";
import type { Operation } from "./operation.ts";

const STANDARD_ONLY = ["query", "twinRead", "twinWrite", "configuration", "method", "job", "cloudMessage"];

/** Whether the tier has what is asked for. `body` is the text of the request: an edge device is one by what is sent. */
export function isInTier(tier: Tier, { operation, name }: Operation, body: string): boolean {
  if (!isBasic(tier)) return true;
  // Import and export of identities are jobs that basic tiers have too.
  if (name.startsWith("registryJob.")) return true;
  if (STANDARD_ONLY.includes(operation) || name.startsWith("module.")) return false;
  return operation !== "identity" || !hasEdgeDevice(body);
}

function hasEdgeDevice(body: string): boolean {
  if (!body.includes("iotEdge")) return false;
  const written = JSON.parse(body) as JsonValue;
  const entries: readonly JsonValue[] = Array.isArray(written) ? written : [written as JsonValue];
  return entries.some(
    (entry) =>
      isObject(entry) && isObject(entry["capabilities"]) && entry["capabilities"]["iotEdge"] === true,
  );
}
