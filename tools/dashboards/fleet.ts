import type { Dashboard } from "./panel.ts";
import { counted, increase, ofLeader, quantile, ratePerSecond, series } from "./promql.ts";

const EXPECTED = 'condition="Online",status=~"True|False"';

export const FLEET: Dashboard = {
  name: "fleet",
  title: "Edge fleet / Fleet",
  description: "Are the devices there, do they run what they should, and is the operator itself well?",
  rows: [
    {
      title: "At a glance",
      panels: [
        {
          title: "Devices",
          question: "How many EdgeDevices there are, those with `enabled: false` included.",
          shape: "number",
          unit: "short",
          queries: [
            { expression: counted("", "edgefleet_devices", 'condition="Online"'), legend: "devices" },
          ],
        },
        {
          title: "Share online",
          question:
            "Share of the devices that are expected to report and do. Disabled devices and those that have never reported do not count.",
          shape: "number",
          unit: "percentunit",
          queries: [
            {
              expression: `${counted("", "edgefleet_devices", 'condition="Online",status="True"')} / (${counted("", "edgefleet_devices", EXPECTED)} > 0)`,
              legend: "online",
            },
          ],
        },
        {
          title: "Out of sync",
          question:
            "Devices that run another release than they should, or failed to update. Above 0 for long: look at the rollout.",
          shape: "number",
          unit: "short",
          queries: [
            {
              expression: counted("", "edgefleet_devices", 'condition="ModelInSync",status="False"'),
              legend: "out of sync",
            },
          ],
        },
        {
          title: "Deletions paused",
          question:
            "EdgeDevices whose deletion waits for confirmation, because more are being deleted than `--deletions-per-minute` allows.",
          shape: "number",
          unit: "short",
          queries: [{ expression: counted("", "edgefleet_deletions_paused"), legend: "paused" }],
        },
        {
          title: "Leader",
          question:
            "Replicas that hold the Lease: 1 for each installation. 0 means that nothing is reconciled and no rollback starts.",
          shape: "number",
          unit: "short",
          queries: [{ expression: `sum(${series("edgefleet_leader")})`, legend: "leaders" }],
        },
      ],
    },
    {
      title: "Devices",
      panels: [
        ...(["Online", "ModelInSync", "Registered", "Ready"] as const).map(
          (condition) =>
            ({
              title: condition,
              question: `EdgeDevices by the status of their condition ${condition}; Disabled are those with \`enabled: false\`.`,
              shape: "areas",
              unit: "short",
              queries: [
                {
                  expression: counted("status", "edgefleet_devices", `condition="${condition}"`),
                  legend: "{{status}}",
                },
              ],
            }) as const,
        ),
      ],
    },
    {
      title: "Operator",
      panels: [
        {
          title: "Reconciles",
          question:
            "How much work each controller does, by outcome. `panic` is a bug; a rise of `retry` means that the API server or the hub refuses something.",
          shape: "areas",
          unit: "reqps",
          queries: [
            {
              expression: ratePerSecond("controller, outcome", "edgefleet_reconcile_total"),
              legend: "{{controller}} {{outcome}}",
            },
          ],
        },
        {
          title: "Duration of a reconcile (p95)",
          question: "How long one reconcile takes. Calls to the hub are the usual reason for a long one.",
          shape: "lines",
          unit: "s",
          queries: [
            {
              expression: quantile(0.95, "controller", "edgefleet_reconcile_duration_seconds"),
              legend: "{{controller}}",
            },
          ],
        },
        {
          title: "Objects waiting for a worker",
          question: "Whether work piles up: above 100 for ten minutes is an alert.",
          shape: "lines",
          unit: "short",
          queries: [
            {
              expression: `max by (controller) (${series("edgefleet_queue_depth")})`,
              legend: "{{controller}}",
            },
          ],
        },
        {
          title: "Requests to the API server",
          question:
            "What the operator asks of Kubernetes. 409 is a conflict that is retried; 403 is a missing right; 0 means that nothing was answered.",
          shape: "areas",
          unit: "reqps",
          queries: [
            {
              expression: ratePerSecond("method, code", "edgefleet_kube_requests_total"),
              legend: "{{method}} {{code}}",
            },
          ],
        },
        {
          title: "Latency of the API server (p99)",
          question: "How long Kubernetes takes to start answering. Above 1 s is an alert.",
          shape: "lines",
          unit: "s",
          queries: [
            {
              expression: quantile(0.99, "method", "edgefleet_kube_request_duration_seconds"),
              legend: "{{method}}",
            },
          ],
        },
        {
          title: "Events and watches",
          question: "Kubernetes events that could not be written, and watches that had to be started again.",
          shape: "lines",
          unit: "short",
          queries: [
            {
              expression: increase(
                "result",
                "edgefleet_events_total",
                "$__rate_interval",
                'result=~"failed|dropped"',
              ),
              legend: "events {{result}}",
            },
            {
              expression: increase("kind", "edgefleet_watch_faults_total", "$__rate_interval"),
              legend: "watches {{kind}}",
            },
          ],
        },
        {
          title: "Memory of the leader",
          question:
            "Whether `fleet.expectedDevices` of the chart fits the fleet: the heap is limited to 160 MiB and 6 KiB for each device.",
          shape: "lines",
          unit: "bytes",
          queries: [
            {
              expression: ofLeader(series("process_resident_memory_bytes")),
              legend: "resident {{instance}}",
            },
            { expression: ofLeader(series("nodejs_heap_size_used_bytes")), legend: "heap {{instance}}" },
          ],
        },
        {
          title: "Objects in the caches",
          question: "How many objects of each kind the operator keeps in memory.",
          shape: "lines",
          unit: "short",
          queries: [
            {
              expression: `max by (resource) (${series("edgefleet_cached_objects")})`,
              legend: "{{resource}}",
            },
          ],
        },
      ],
    },
  ],
};
