import type { Asked, Operation } from "./room.ts";
import { routeScheduledJobs } from "./scheduled-job-routes.ts";

/** `/jobs` */
export function routeJobs(asked: Asked, segments: readonly string[]): Operation | null {
  const [version, ...rest] = segments;
  return version === "v2" ? routeScheduledJobs(asked, rest) : null;
}
