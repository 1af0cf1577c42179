import { isRecord } from "../base/guards.ts";
import type { Json } from "../hub/hub.ts";

/** Whether a twin's desired properties hold a model pointer that a deployment of this namespace wrote. */
export function holdsPointerOf(namespace: string, desired: Json): boolean {
  const pointer = desired["model"];
  const deployment = isRecord(pointer) ? pointer["deployment"] : undefined;
  return typeof deployment === "string" && deployment.startsWith(`${namespace}.`);
}
