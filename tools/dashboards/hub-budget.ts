import type { Dashboard } from "./panel.ts";
import { inADay, increase, ofLeader, quantile, ratePerSecond, series } from "./promql.ts";

export const HUB_BUDGET: Dashboard = {
  name: "hub-budget",
  title: "Edge fleet / Hub budget",
  description: "Can the IoT Hub be read, how much of it does the operator use, and are more units needed?",
  rows: [
    {
      title: "At a glance",
      panels: [
        {
          title: "Reachable",
          question:
            "1 while the leader can read queries and twins. 0 freezes rollouts, which continue automatically.",
          shape: "number",
          unit: "short",
          queries: [
            { expression: `max(${ofLeader(series("edgefleet_hub_reachable"))})`, legend: "reachable" },
          ],
        },
        {
          title: "Configurations",
          question: "Configurations on the hub, those of others included; a paid hub has room for 100.",
          shape: "number",
          unit: "short",
          queries: [
            {
              expression: `sum(${ofLeader(series("edgefleet_hub_configurations"))})`,
              legend: "configurations",
            },
          ],
        },
        {
          title: "Ownerless",
          question:
            "Configurations of ours that still apply to devices although their InferenceDeployment does not exist.",
          shape: "number",
          unit: "short",
          queries: [
            {
              expression: `sum(${ofLeader(series("edgefleet_hub_ownerless_configurations"))})`,
              legend: "ownerless",
            },
          ],
        },
        {
          title: "Calls in 24 hours",
          question:
            "Calls to the hub within a day. The hub's daily quota counts them in units of 4 KB, so a call that reads many twins counts more than once.",
          shape: "number",
          unit: "short",
          queries: [
            {
              expression: inADay("edgefleet_hub_requests_total"),
              legend: "calls",
            },
          ],
        },
        {
          title: "Not ok in 24 hours",
          question: "Share of the calls of a day that the hub did not carry out.",
          shape: "number",
          unit: "percentunit",
          queries: [
            {
              expression: `${inADay("edgefleet_hub_requests_total", 'result!="ok"')} / (${inADay("edgefleet_hub_requests_total")} > 0)`,
              legend: "not ok",
            },
          ],
        },
      ],
    },
    {
      title: "Budget",
      panels: [
        {
          title: "Calls by class",
          question:
            "What uses the budget. Each class has a limit of its own, set by `hub.tier` and `hub.units`.",
          shape: "areas",
          unit: "reqps",
          queries: [
            { expression: ratePerSecond("class", "edgefleet_hub_requests_total"), legend: "{{class}}" },
          ],
        },
        {
          title: "Wait for the budget (p95)",
          question:
            "How long calls wait before they are made. Above 5 s for ten minutes: the hub needs more units. Anything below 0.1 s is shown as 0.095 s.",
          shape: "lines",
          unit: "s",
          queries: [
            {
              expression: quantile(0.95, "class, lane", "edgefleet_hub_throttle_wait_seconds"),
              legend: "{{class}} {{lane}}",
            },
          ],
        },
        {
          title: "Rollbacks waiting (p95)",
          question:
            "How long the calls of rollbacks wait: they have a reserve, so this stays at 0.095 s, which stands for anything below 0.1 s.",
          shape: "lines",
          unit: "s",
          queries: [
            {
              expression: quantile(0.95, "lane", "edgefleet_hub_throttle_wait_seconds", 'lane="rollback"'),
              legend: "{{lane}}",
            },
          ],
        },
        {
          title: "Calls that were not ok",
          question:
            "`throttled` while we keep to the budget: another client uses it. `denied`: the credential lacks a right. `conflict` is retried.",
          shape: "lines",
          unit: "reqps",
          queries: [
            {
              expression: ratePerSecond("result", "edgefleet_hub_requests_total", 'result!="ok"'),
              legend: "{{result}}",
            },
          ],
        },
      ],
    },
    {
      title: "Hub",
      panels: [
        {
          title: "Latency (p95)",
          question: "How long the hub takes for one call, without the wait for the budget.",
          shape: "lines",
          unit: "s",
          queries: [
            {
              expression: quantile(0.95, "class", "edgefleet_hub_request_duration_seconds"),
              legend: "{{class}}",
            },
          ],
        },
        {
          title: "Readable",
          question:
            "1 while this kind of read succeeds. While twins can be read, rollouts are still watched and rolled back.",
          shape: "lines",
          unit: "short",
          queries: [
            {
              expression: `max by (kind) (${ofLeader(series("edgefleet_hub_readable"))})`,
              legend: "{{kind}}",
            },
          ],
        },
        {
          title: "Configurations by owner",
          question: "Who uses the room for configurations. An alert fires above 90.",
          shape: "areas",
          unit: "short",
          queries: [
            {
              expression: `sum by (owner) (${ofLeader(series("edgefleet_hub_configurations"))})`,
              legend: "{{owner}}",
            },
          ],
        },
        {
          title: "Sweeps of the fleet",
          question:
            "How often the whole fleet has been read, and what interrupted it. Without `ok` for long, what is known of devices is old.",
          shape: "lines",
          unit: "short",
          queries: [
            {
              expression: increase("result", "edgefleet_fleet_sweeps_total", "$__rate_interval"),
              legend: "{{result}}",
            },
          ],
        },
        {
          title: "Duration of a sweep (p95)",
          question:
            "How long one complete sweep takes: with many devices it is the budget for queries that limits it. Anything below 0.1 s is shown as 0.095 s.",
          shape: "lines",
          unit: "s",
          queries: [
            { expression: quantile(0.95, "", "edgefleet_fleet_sweep_duration_seconds"), legend: "sweep" },
          ],
        },
      ],
    },
  ],
};
