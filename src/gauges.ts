import { findCondition } from "./api/condition.ts";
import type { EdgeDevice } from "./api/edge-device.ts";
import { type InferenceDeployment, PHASES, VERDICT_KINDS } from "./api/inference-deployment.ts";
import { type ModelRelease, VERDICTS } from "./api/model-release.ts";
import { isPaused } from "./devices/departures.ts";
import type { Meter } from "./telemetry/telemetry.ts";

const CONDITIONS = ["Registered", "Online", "ModelInSync", "Ready"] as const;
/** `Disabled`: the spec says that the device is off, so its conditions are no reason to alert. */
const STATUSES = ["True", "False", "Unknown", "Disabled"] as const;
const DEVICE_COUNTS = ["matched", "exposed", "updated", "failed", "offline", "onStable"] as const;
/** The worst verdict of its variants is that of a release. */
const WORST_FIRST = [
  "Failed",
  "Error",
  "Running",
  "Pending",
  "Passed",
] as const satisfies readonly (typeof VERDICTS)[number][];

/**
 * Counts what is in the caches; done when metrics are scraped, so a fleet at rest costs nothing in between. Before they are
 * listed there are no counts: 0 devices, and soon after all of them, would look like an event.
 */
export function gaugeCaches(
  caches: {
    /** Whether all of them have been listed whole. */
    readonly listed: boolean;
    readonly devices: readonly EdgeDevice[];
    readonly releases: readonly ModelRelease[];
    readonly deployments: readonly InferenceDeployment[];
  },
  meter: Pick<Meter, "gauge">,
): void {
  if (!caches.listed) return;
  for (const condition of CONDITIONS) {
    const counts = { True: 0, False: 0, Unknown: 0, Disabled: 0 };
    for (const { spec, status } of caches.devices)
      counts[
        spec.enabled ? (findCondition(status?.conditions, condition)?.status ?? "Unknown") : "Disabled"
      ] += 1;
    for (const status of STATUSES) meter.gauge("edgefleet_devices", counts[status], { condition, status });
  }
  meter.gauge("edgefleet_deletions_paused", caches.devices.filter(isPaused).length);
  const verdicts = caches.releases.map(verdictOf);
  for (const verdict of VERDICTS)
    meter.gauge("edgefleet_releases", verdicts.filter((one) => one === verdict).length, { verdict });
  gaugeRollouts(
    caches.deployments.map(({ status }) => status),
    meter,
  );
}

/** The phases with a candidate that is judged: the verdicts of a rollout that has ended only explain its end. */
const UNDER_WAY: readonly (string | undefined)[] = ["Progressing", "Holding", "Frozen", "Baking"];

/** Sums over all deployments: labels stay few however many there are. */
function gaugeRollouts(
  statuses: readonly InferenceDeployment["status"][],
  meter: Pick<Meter, "gauge">,
): void {
  for (const phase of PHASES) {
    const count = statuses.filter((status) => status?.phase === phase).length;
    meter.gauge("edgefleet_rollouts", count, { phase });
  }
  for (const state of DEVICE_COUNTS) {
    const sum = statuses.reduce((total, status) => total + (status?.devices?.[state] ?? 0), 0);
    meter.gauge("edgefleet_rollout_devices", sum, { state });
  }
  const results = statuses.flatMap((status) =>
    UNDER_WAY.includes(status?.phase) ? (status?.analysis ?? []) : [],
  );
  for (const verdict of VERDICT_KINDS) {
    const count = results.filter((result) => result.verdict === verdict).length;
    meter.gauge("edgefleet_analysis_verdicts", count, { verdict });
  }
}

/** Counts the configurations that still apply to devices although their deployment does not exist. */
export function gaugeOwnerless(
  ownerless: ReadonlyMap<unknown, readonly unknown[]>,
  meter: Pick<Meter, "gauge">,
): void {
  const count = [...ownerless.values()].reduce((sum, { length }) => sum + length, 0);
  meter.gauge("edgefleet_hub_ownerless_configurations", count);
}

function verdictOf({ spec, status }: ModelRelease): (typeof VERDICTS)[number] {
  const known = status?.variants ?? [];
  if (known.length < spec.variants.length) return "Pending";
  return WORST_FIRST.find((verdict) => known.some((variant) => variant.verdict === verdict)) ?? "Pending";
}
