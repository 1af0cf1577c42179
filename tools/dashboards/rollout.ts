import type { Dashboard } from "./panel.ts";
import { counted, inADay, increase } from "./promql.ts";

const EXPOSED = counted("", "edgefleet_rollout_devices", 'state="exposed"');

export const ROLLOUT: Dashboard = {
  name: "rollout",
  title: "Edge fleet / Rollout",
  description:
    "How far are the rollouts, what do devices report about the releases, and was anything rolled back?",
  rows: [
    {
      title: "At a glance",
      panels: [
        {
          title: "In progress",
          question: "InferenceDeployments that are widening, baking or rolling back now.",
          shape: "number",
          unit: "short",
          queries: [
            {
              expression: counted(
                "",
                "edgefleet_rollouts",
                'phase=~"Pending|Progressing|Baking|RollingBack"',
              ),
              legend: "in progress",
            },
          ],
        },
        {
          title: "Held or frozen",
          question:
            "InferenceDeployments that do not continue until something changes. `kubectl describe idep` says what; half an hour of it is an alert.",
          shape: "number",
          unit: "short",
          queries: [
            {
              expression: counted("", "edgefleet_rollouts", 'phase=~"Holding|Frozen"'),
              legend: "held or frozen",
            },
          ],
        },
        {
          title: "Rolled back",
          question:
            "InferenceDeployments whose release was rolled back and has not been replaced in git yet.",
          shape: "number",
          unit: "short",
          queries: [
            { expression: counted("", "edgefleet_rollouts", 'phase="RolledBack"'), legend: "rolled back" },
          ],
        },
        {
          title: "Rollbacks in 24 hours",
          question: "Rollbacks that started within a day, whatever the reason.",
          shape: "number",
          unit: "short",
          queries: [
            {
              expression: inADay("edgefleet_rollbacks_total"),
              legend: "rollbacks",
            },
          ],
        },
        {
          title: "Failed updates",
          question:
            "Share of the exposed devices that failed to update. Above 2 % is an alert; `failureBudget` decides about the rollback.",
          shape: "number",
          unit: "percentunit",
          queries: [
            {
              expression: `${counted("", "edgefleet_rollout_devices", 'state="failed"')} / (${EXPOSED} > 0)`,
              legend: "failed",
            },
          ],
        },
      ],
    },
    {
      title: "Progress",
      panels: [
        {
          title: "Devices of the rollouts",
          question:
            "How wide the candidates are: `exposed` may take the release, `updated` run it, `onStable` run the release before. During a canary `exposed` stays at the width of the step.",
          shape: "lines",
          unit: "short",
          queries: [{ expression: counted("state", "edgefleet_rollout_devices"), legend: "{{state}}" }],
        },
        {
          title: "Deployments by phase",
          question: "Which phase each InferenceDeployment is in.",
          shape: "areas",
          unit: "short",
          queries: [{ expression: counted("phase", "edgefleet_rollouts"), legend: "{{phase}}" }],
        },
        {
          title: "Phases entered",
          question:
            "What has happened, also between two scrapes: each change of phase, by the phase that was entered.",
          shape: "lines",
          unit: "short",
          queries: [
            {
              expression: increase("phase", "edgefleet_rollout_transitions_total", "$__rate_interval"),
              legend: "{{phase}}",
            },
          ],
        },
      ],
    },
    {
      title: "Evidence",
      panels: [
        {
          title: "Objectives by verdict",
          question:
            "What the reports of the exposed devices say. `Warn` holds a rollout, `Fail` rolls it back, `Inconclusive` and `Error` mean that there is no usable evidence.",
          shape: "areas",
          unit: "short",
          queries: [{ expression: counted("verdict", "edgefleet_analysis_verdicts"), legend: "{{verdict}}" }],
        },
        {
          title: "Devices failed or offline",
          question: "Exposed devices that count against `failureBudget` or are not heard.",
          shape: "lines",
          unit: "short",
          queries: [
            {
              expression: counted("state", "edgefleet_rollout_devices", 'state=~"failed|offline"'),
              legend: "{{state}}",
            },
          ],
        },
        {
          title: "Rollbacks by reason",
          question: "Why releases were rolled back. `Aborted` and `Withdrawn` are people's decisions.",
          shape: "lines",
          unit: "short",
          queries: [
            {
              expression: increase("reason", "edgefleet_rollbacks_total", "$__rate_interval"),
              legend: "{{reason}}",
            },
          ],
        },
      ],
    },
  ],
};
