import type { Json } from "../hub/hub.ts";

/** Whether a twin's desired properties hold a model pointer that a deployment of this namespace wrote. */
export function holdsPointerOf(namespace: string, desired: Json): boolean {
  const pointer = desired["model"];
  if (typeof pointer !== "object" || pointer === null) return false;
  const deployment = "deployment" in pointer ? pointer.deployment : undefined;
  return typeof deployment === "string" && deployment.startsWith(`${namespace}.`);
}
