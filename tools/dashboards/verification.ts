import type { Dashboard } from "./panel.ts";
import { counted, inADay, increase, quantile, ratePerSecond, series } from "./promql.ts";

export const VERIFICATION: Dashboard = {
  name: "verification",
  title: "Edge fleet / Verification",
  description:
    "Do releases get their verdict, how long does it take, and is the verifier attacked or broken?",
  rows: [
    {
      title: "At a glance",
      panels: [
        {
          title: "Verifiers ready",
          question: "Verifiers that accept requests. 0: new releases get no verdict.",
          shape: "number",
          unit: "short",
          queries: [{ expression: `sum(${series("edgefleet_verifier_ready")})`, legend: "ready" }],
        },
        {
          title: "Waiting",
          question: "Verifications in the queue.",
          shape: "number",
          unit: "short",
          queries: [{ expression: `sum(${series("edgefleet_verifier_queue_depth")})`, legend: "waiting" }],
        },
        {
          title: "Tenants waiting",
          question:
            "Tenants that have verifications in the queue: one of many cannot keep the others from their turn.",
          shape: "number",
          unit: "short",
          queries: [{ expression: `sum(${series("edgefleet_verifier_queue_tenants")})`, legend: "tenants" }],
        },
        {
          title: "Failed releases",
          question:
            "ModelReleases that will not be rolled out. `kubectl describe mrel` says which check failed.",
          shape: "number",
          unit: "short",
          queries: [{ expression: counted("", "edgefleet_releases", 'verdict="Failed"'), legend: "failed" }],
        },
        {
          title: "Reports lost in 24 hours",
          question: "Full reports that could not be written to the store. The verdict stands without them.",
          shape: "number",
          unit: "short",
          queries: [
            {
              expression: inADay("edgefleet_verification_reports_total", 'result="failed"'),
              legend: "reports",
            },
          ],
        },
      ],
    },
    {
      title: "Verdicts",
      panels: [
        {
          title: "Releases by verdict",
          question: "ModelReleases by the worst verdict of their variants.",
          shape: "areas",
          unit: "short",
          queries: [{ expression: counted("verdict", "edgefleet_releases"), legend: "{{verdict}}" }],
        },
        {
          title: "Verifications since the start",
          question:
            "How verifications ended since the verifier was started, with the reason. `error` is never the fault of the model.",
          shape: "lines",
          unit: "short",
          queries: [
            {
              expression: `sum by (outcome, reason) (${series("edgefleet_verifier_verifications_total")})`,
              legend: "{{outcome}} {{reason}}",
            },
          ],
        },
      ],
    },
    {
      title: "Time",
      panels: [
        {
          title: "Wait for the start (p95)",
          question: "How long a model waits for its turn. Above ten minutes is an alert.",
          shape: "lines",
          unit: "s",
          queries: [{ expression: quantile(0.95, "", "edgefleet_verifier_wait_seconds"), legend: "wait" }],
        },
        {
          title: "Duration of a verification (p95)",
          question: "How long a verification takes once it has started, by outcome.",
          shape: "lines",
          unit: "s",
          queries: [
            {
              expression: quantile(0.95, "outcome", "edgefleet_verifier_verification_duration_seconds"),
              legend: "{{outcome}}",
            },
          ],
        },
        {
          title: "Duration of a check (p95)",
          question: "Which check takes the time.",
          shape: "lines",
          unit: "s",
          queries: [
            {
              expression: quantile(0.95, "check", "edgefleet_verifier_check_duration_seconds"),
              legend: "{{check}}",
            },
          ],
        },
        {
          title: "Queue",
          question: "What waits: new releases go before re-verifications.",
          shape: "areas",
          unit: "short",
          queries: [
            {
              expression: `sum by (urgency) (${series("edgefleet_verifier_queue_depth")})`,
              legend: "{{urgency}}",
            },
            { expression: `sum(${series("edgefleet_verifier_running")})`, legend: "running" },
          ],
        },
      ],
    },
    {
      title: "Verifier",
      panels: [
        {
          title: "Model processes that ended early",
          question:
            "`crashed`, `outOfMemory` and `timedOut` are what hostile or broken models cause; `lost` was killed from outside.",
          shape: "lines",
          unit: "short",
          queries: [
            {
              expression: increase("how", "edgefleet_verifier_children_ended_total", "$__rate_interval"),
              legend: "{{how}}",
            },
          ],
        },
        {
          title: "Requests refused",
          question: "Requests that found a full queue, of their tenant or of all. They are made again later.",
          shape: "lines",
          unit: "short",
          queries: [
            {
              expression: increase("why", "edgefleet_verifier_refused_total", "$__rate_interval"),
              legend: "{{why}}",
            },
          ],
        },
        {
          title: "Downloads",
          question: "Bytes received from the store, those of lost connections included.",
          shape: "lines",
          unit: "binBps",
          queries: [
            {
              expression: ratePerSecond("namespace", "edgefleet_verifier_download_bytes_total"),
              legend: "{{namespace}}",
            },
          ],
        },
        {
          title: "Downloads by result",
          question: "Whether files can be read: everything but `ok` names what is wrong.",
          shape: "lines",
          unit: "reqps",
          queries: [
            {
              expression: ratePerSecond("result", "edgefleet_verifier_downloads_total"),
              legend: "{{result}}",
            },
          ],
        },
        {
          title: "Cache lookups",
          question:
            "Whether `verifier.cacheSize` is enough: many `noRoom`, or misses with evictions, mean that it is not.",
          shape: "lines",
          unit: "reqps",
          queries: [
            {
              expression: ratePerSecond("result", "edgefleet_verifier_cache_requests_total"),
              legend: "{{result}}",
            },
            {
              expression: ratePerSecond("namespace", "edgefleet_verifier_cache_evictions_total"),
              legend: "evictions {{namespace}}",
            },
          ],
        },
        {
          title: "Cache size",
          question: "Disk space that the cache of each verifier uses.",
          shape: "lines",
          unit: "bytes",
          queries: [{ expression: series("edgefleet_verifier_cache_bytes"), legend: "{{instance}}" }],
        },
      ],
    },
  ],
};
