import { type Answer, ok, refuse } from "../../hub/errors.ts";
import type { Hub } from "../../hub/hub.ts";
import { JOB_STATUSES, type Job, jobDocument } from "../../hub/jobs/job.ts";
import { JOB_TYPES } from "../../hub/query/device-job.ts";
import type { HttpReply } from "../transport/http-message.ts";
import { type Asked, type Operation, reply, withObject } from "./operation.ts";
import { pageAskedFor, replyPage } from "./query-routes.ts";

const BASE = { operation: "job", device: null, cost: 1, writes: null } as const;

/** `/jobs/v2` */
export function routeScheduledJobs(asked: Asked, segments: readonly string[]): Operation | null {
  const { hub, method } = asked;
  const [jobId, action, beyond] = segments;
  if (jobId === undefined || beyond !== undefined) return null;
  if (action !== undefined) {
    if (method !== "POST" || action !== "cancel") return null;
    return {
      ...BASE,
      name: "job.cancel",
      right: "RegistryWrite",
      run: () => replyJob(hub, hub.jobs.cancel(jobId)),
    };
  }
  if (method === "GET" && jobId === "query")
    return { ...BASE, name: "job.query", right: "RegistryRead", run: () => listJobs(asked) };
  if (method === "GET")
    return {
      ...BASE,
      name: "job.get",
      right: "RegistryRead",
      run: () => {
        const job = hub.jobs.get(jobId);
        // The hub knows no 404 here: the vendor's command line recognises unknown jobs by this.
        return job === undefined
          ? reply({ jobId, type: "unknown", status: "unknown" })
          : replyJob(hub, ok(job));
      },
    };
  if (method !== "PUT") return null;
  return {
    ...BASE,
    name: "job.create",
    right: "RegistryWrite",
    run: withObject(asked, (body) => replyJob(hub, hub.jobs.create(jobId, body))),
  };
}

function replyJob(hub: Hub, job: Answer<Job>): Answer<HttpReply> {
  return job.ok ? reply(jobDocument(job.value, hub.jobs.statisticsOf(job.value.jobId))) : job;
}

function listJobs({ hub, request, url }: Asked): Answer<HttpReply> {
  const type = filterOf(url, "jobType", JOB_TYPES);
  if (!type.ok) return type;
  const status = filterOf(url, "jobStatus", JOB_STATUSES);
  if (!status.ok) return status;
  const page = pageAskedFor(request, hub.options);
  if (!page.ok) return page;
  const from = Number(page.value.continuation ?? 0);
  if (!Number.isInteger(from) || from < 0)
    return refuse("ArgumentInvalid", "The continuation token is not one of this query");
  const jobs = hub.jobs.list({ type: type.value, status: status.value });
  const next = from + page.value.size;
  return replyPage(
    jobs.slice(from, next).map((job) => jobDocument(job, hub.jobs.statisticsOf(job.jobId))),
    "jobResponse",
    next < jobs.length ? String(next) : null,
  );
}

/** Some clients write names with a capital. */
function filterOf<T extends string>(url: URL, name: string, known: readonly T[]): Answer<T | null> {
  const written = url.searchParams.get(name);
  if (written === null || written === "") return ok(null);
  const found = known.find((one) => one.toLowerCase() === written.toLowerCase());
  return found === undefined
    ? refuse("ArgumentInvalid", `${name} must be one of ${known.join(", ")}`)
    : ok(found);
}
