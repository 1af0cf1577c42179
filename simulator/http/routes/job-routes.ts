import { type Answer, ok, refuse } from "../../hub/errors.ts";
import { type RegistryJob, registryJobDocument } from "../../hub/jobs/registry-jobs.ts";
import type { HttpReply } from "../transport/http-message.ts";
import { type Asked, empty, type Operation, reply, withObject } from "./operation.ts";
import { routeScheduledJobs } from "./scheduled-job-routes.ts";

const BASE = { operation: "job", device: null, cost: 1, writes: null } as const;

/** `/jobs`: imports and exports of identities, and below `v2` what is scheduled. */
export function routeJobs(asked: Asked, segments: readonly string[]): Operation | null {
  const { hub, method } = asked;
  const [jobId, ...rest] = segments;
  if (jobId === "v2") return routeScheduledJobs(asked, rest);
  if (rest.length > 0) return null;
  if (jobId === undefined) {
    if (method !== "GET") return null;
    const list = () => reply(hub.registryJobs.list().map(registryJobDocument));
    return { ...BASE, name: "registryJob.list", right: "RegistryRead", run: list };
  }
  if (method === "POST" && jobId === "create") {
    const run = withObject(asked, async (body) => replyJob(await hub.registryJobs.create(body)));
    return { ...BASE, name: "registryJob.create", right: "RegistryWrite", run };
  }
  if (method === "GET")
    return { ...BASE, name: "registryJob.get", right: "RegistryRead", run: () => replyKnown(asked, jobId) };
  if (method !== "DELETE") return null;
  const cancel = () => empty(hub.registryJobs.cancel(jobId));
  return { ...BASE, name: "registryJob.cancel", right: "RegistryWrite", run: cancel };
}

function replyKnown({ hub }: Asked, jobId: string): Answer<HttpReply> {
  const job = hub.registryJobs.get(jobId);
  return job === undefined ? refuse("JobNotFound", `Job ${jobId} does not exist`) : replyJob(ok(job));
}

function replyJob(job: Answer<RegistryJob>): Answer<HttpReply> {
  return job.ok ? reply(registryJobDocument(job.value)) : job;
}
