import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Meter } from "./telemetry.ts";

type Metric = {
  readonly type: "counter" | "gauge" | "histogram";
  readonly help: string;
  readonly labels: readonly string[];
  /** Upper bounds; histograms only. */
  readonly buckets?: readonly number[];
  /**
   * Values of every label; counters and histograms. Each combination is exposed as 0 from the start: `increase()` misses
   * the first event of a series that is born with it. A list where not every value goes with every other.
   */
  readonly values?: LabelValues | readonly LabelValues[];
};
type LabelValues = Readonly<Record<string, readonly string[]>>;

const QUICK = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const SLOW = [0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800];

const CONTROLLERS = ["devices", "releases", "rollouts"];
const OPERATION_CLASSES = ["identity", "twinRead", "twinWrite", "query", "configuration"];
const FAULTS = ["throttled", "unavailable", "conflict", "denied", "rejected"];
const PHASES = [
  "Pending",
  "Progressing",
  "Holding",
  "Frozen",
  "Baking",
  "Completed",
  "RollingBack",
  "RolledBack",
];
const ROLLBACK_REASONS = [
  "ObjectiveBreached",
  "FailureBudgetSpent",
  "DeadlineExceeded",
  "VerificationFailed",
  "Aborted",
  "Withdrawn",
];

/** What is wrong with a model, or with what is asked of it. */
const MODEL_REASONS = [
  "AccuracyTooLow",
  "BoundUnusable",
  "Crashed",
  "DigestMismatch",
  "ExternalData",
  "GoldenMismatch",
  "GoldenUnreadable",
  "LatencyTooHigh",
  "LoadFailed",
  "MemoryTooHigh",
  "NonFinite",
  "NotComparable",
  "NotDeterministic",
  "OperatorUnsupported",
  "OpsetUnsupported",
  "OutOfMemory",
  "OutputAmbiguous",
  "OutputsDiffer",
  "ParityTooLow",
  "RunFailed",
  "SignatureMismatch",
  "ThroughputTooLow",
  "TimedOut",
];
const STORE_REASONS = ["BlobMissing", "StoreDenied", "StoreUnavailable"];
/** Why there is no verdict. */
const ERROR_REASONS = [
  ...STORE_REASONS,
  "InputNeeded",
  "LocaleMissing",
  "ReferenceUnavailable",
  "VerificationError",
];

/** Every metric of ours. Labels are bounded: never the name of an object, a device id or an error's text. */
export const METRICS = {
  // runtime
  edgefleet_reconcile_total: {
    type: "counter",
    help: "Reconciles by how they ended: settled, wakeAfter, retry, stalled or panic.",
    labels: ["controller", "outcome"],
    values: { controller: CONTROLLERS, outcome: ["settled", "wakeAfter", "retry", "stalled", "panic"] },
  },
  edgefleet_reconcile_duration_seconds: {
    type: "histogram",
    help: "Duration of one reconcile.",
    labels: ["controller"],
    buckets: QUICK,
    values: { controller: CONTROLLERS },
  },
  edgefleet_queue_depth: {
    type: "gauge",
    help: "Keys that are ready and wait for a worker.",
    labels: ["controller"],
  },
  edgefleet_leader: {
    type: "gauge",
    help: "1 while this replica holds the Lease or runs without an election, else 0.",
    labels: [],
  },
  // kube
  edgefleet_kube_requests_total: {
    type: "counter",
    help: "Requests to the API server by HTTP method and status code; code 0: no answer.",
    labels: ["method", "code"],
  },
  edgefleet_kube_request_duration_seconds: {
    type: "histogram",
    help: "Time until the API server began to answer.",
    labels: ["method"],
    buckets: QUICK,
    values: { method: ["GET", "POST", "PUT", "PATCH"] },
  },
  edgefleet_cached_objects: {
    type: "gauge",
    help: "Objects in the caches that list and watch the API server.",
    labels: ["resource"],
  },
  edgefleet_watch_faults_total: {
    type: "counter",
    help: "Lists and watches that failed: expired (the API server forgot the version) or broken.",
    labels: ["resource", "kind"],
    values: {
      resource: ["edgedevices", "modelreleases", "inferencedeployments"],
      kind: ["expired", "broken"],
    },
  },
  edgefleet_events_total: {
    type: "counter",
    help: "Kubernetes events by result: sent, repeated (left out), failed or dropped (queue full).",
    labels: ["result"],
    values: { result: ["sent", "repeated", "failed", "dropped"] },
  },
  // hub
  edgefleet_hub_requests_total: {
    type: "counter",
    help: "Calls to the IoT Hub by operation class and result: ok, or the kind of fault.",
    labels: ["class", "result"],
    values: {
      class: OPERATION_CLASSES,
      result: ["ok", ...FAULTS],
    },
  },
  edgefleet_hub_request_duration_seconds: {
    type: "histogram",
    help: "Duration of one call to the IoT Hub, waiting for its budget left out.",
    labels: ["class"],
    buckets: QUICK,
    values: { class: OPERATION_CLASSES },
  },
  edgefleet_hub_throttle_wait_seconds: {
    type: "histogram",
    help: "Time that calls waited for the budget of their operation class.",
    labels: ["class", "lane"],
    buckets: SLOW,
    values: { class: OPERATION_CLASSES, lane: ["normal", "rollback"] },
  },
  edgefleet_hub_reachable: {
    type: "gauge",
    help: "1 while both queries and twins of the IoT Hub can be read, else 0.",
    labels: [],
  },
  edgefleet_hub_readable: {
    type: "gauge",
    help: "1 while this kind of read is answered by the IoT Hub, else 0.",
    labels: ["kind"],
  },
  edgefleet_hub_configurations: {
    type: "gauge",
    help: "Configurations on the IoT Hub, ours and others'; the hub has room for 100.",
    labels: ["owner"],
  },
  edgefleet_hub_ownerless_configurations: {
    type: "gauge",
    help: "Configurations of ours on the IoT Hub whose InferenceDeployment does not exist.",
    labels: [],
  },
  edgefleet_fleet_sweep_duration_seconds: {
    type: "histogram",
    help: "Duration of one whole reading of the fleet.",
    labels: [],
    buckets: SLOW,
  },
  edgefleet_fleet_sweeps_total: {
    type: "counter",
    help: "Readings of the fleet by result: ok, or the kind of fault.",
    labels: ["result"],
    values: { result: ["ok", ...FAULTS] },
  },
  // fleet
  edgefleet_devices: {
    type: "gauge",
    help: "EdgeDevices by what their conditions say.",
    labels: ["condition", "status"],
  },
  edgefleet_deletions_paused: {
    type: "gauge",
    help: "EdgeDevices whose deletion waits for a person, because too many would be removed at once.",
    labels: [],
  },
  // releases
  edgefleet_releases: { type: "gauge", help: "ModelReleases by verdict.", labels: ["verdict"] },
  edgefleet_verifications_total: {
    type: "counter",
    help: "Verifications that ended, by verdict and reason.",
    labels: ["verdict", "reason"],
    values: [
      { verdict: ["Passed"], reason: [""] },
      { verdict: ["Failed"], reason: [...MODEL_REASONS, "VerificationFailed"] },
      { verdict: ["Error"], reason: ERROR_REASONS },
    ],
  },
  edgefleet_verification_reports_total: {
    type: "counter",
    help: "Full reports written to the blob store: stored, or failed (retried where that may help).",
    labels: ["result"],
    values: { result: ["stored", "failed"] },
  },
  edgefleet_verification_duration_seconds: {
    type: "histogram",
    help: "Duration of one verification, from its start to its verdict.",
    labels: ["verdict"],
    buckets: SLOW,
    values: { verdict: ["Passed", "Failed", "Error"] },
  },
  // rollouts
  edgefleet_rollouts: { type: "gauge", help: "InferenceDeployments by phase.", labels: ["phase"] },
  edgefleet_rollout_transitions_total: {
    type: "counter",
    help: "Changes of phase, by the phase that was entered.",
    labels: ["phase"],
    values: { phase: PHASES },
  },
  edgefleet_rollout_devices: {
    type: "gauge",
    help: "Devices of all rollouts: matched, exposed, updated, failed, offline or onStable.",
    labels: ["state"],
  },
  edgefleet_rollbacks_total: {
    type: "counter",
    help: "Rollbacks that began, by reason.",
    labels: ["reason"],
    values: { reason: ROLLBACK_REASONS },
  },
  edgefleet_analysis_verdicts: {
    type: "gauge",
    help: "Objectives of the rollouts in progress by their latest verdict.",
    labels: ["verdict"],
  },
} as const satisfies Readonly<Record<string, Metric>>;

/** Every metric of the verifier sidecar: no label says whose model it was. */
export const VERIFIER_METRICS = {
  edgefleet_verifier_queue_depth: {
    type: "gauge",
    help: "Verifications that wait, by urgency: new, or again.",
    labels: ["urgency"],
  },
  edgefleet_verifier_queue_tenants: {
    type: "gauge",
    help: "Tenants of which verifications wait.",
    labels: [],
  },
  edgefleet_verifier_running: { type: "gauge", help: "1 while a verification runs, else 0.", labels: [] },
  edgefleet_verifier_ready: {
    type: "gauge",
    help: "1 while verifications can be asked for, else 0.",
    labels: [],
  },
  edgefleet_verifier_refused_total: {
    type: "counter",
    help: "Verifications that were refused because of those that wait: tenantFull (of that tenant) or full (of all).",
    labels: ["why"],
    values: { why: ["tenantFull", "full"] },
  },
  edgefleet_verifier_wait_seconds: {
    type: "histogram",
    help: "Time from asking for a verification to its start.",
    labels: [],
    buckets: SLOW,
  },
  edgefleet_verifier_verifications_total: {
    type: "counter",
    help: "Verifications that ended, by outcome (passed, failed or error) and reason.",
    labels: ["outcome", "reason"],
    values: [
      { outcome: ["passed"], reason: [""] },
      { outcome: ["failed"], reason: MODEL_REASONS },
      { outcome: ["error"], reason: ERROR_REASONS },
    ],
  },
  edgefleet_verifier_verification_duration_seconds: {
    type: "histogram",
    help: "Duration of one verification, waiting left out.",
    labels: ["outcome"],
    buckets: SLOW,
    values: { outcome: ["passed", "failed", "error"] },
  },
  edgefleet_verifier_check_duration_seconds: {
    type: "histogram",
    help: "Duration of one check of a verification that came to a verdict.",
    labels: ["check"],
    buckets: SLOW,
  },
  edgefleet_verifier_children_ended_total: {
    type: "counter",
    help: "Processes of models that ended before they had answered: timedOut, outOfMemory, crashed, lost or cancelled.",
    labels: ["how"],
    values: { how: ["timedOut", "outOfMemory", "crashed", "lost", "cancelled"] },
  },
  edgefleet_verifier_downloads_total: {
    type: "counter",
    help: "Downloads by result: ok, or the reason.",
    labels: ["result"],
    values: { result: ["ok", ...STORE_REASONS, "VerificationError"] },
  },
  edgefleet_verifier_download_bytes_total: {
    type: "counter",
    help: "Bytes that were received from stores.",
    labels: [],
  },
  edgefleet_verifier_download_retries_total: {
    type: "counter",
    help: "Connections to stores after the first one of a download.",
    labels: [],
  },
  edgefleet_verifier_cache_requests_total: {
    type: "counter",
    help: "Files asked of the cache: hit, miss (downloaded into it), noRoom (downloaded beside it), unconfirmed (the same bytes, from another blob: read again) or damaged.",
    labels: ["result"],
    values: { result: ["hit", "miss", "noRoom", "unconfirmed", "damaged"] },
  },
  edgefleet_verifier_cache_evictions_total: {
    type: "counter",
    help: "Files that made room for others.",
    labels: [],
  },
  edgefleet_verifier_cache_bytes: { type: "gauge", help: "What the cache takes on disk.", labels: [] },
  edgefleet_verifier_cache_files: { type: "gauge", help: "Files in the cache.", labels: [] },
  edgefleet_verifier_results: { type: "gauge", help: "Verdicts and errors that are remembered.", labels: [] },
} as const satisfies Readonly<Record<string, Metric>>;

export type MetricName = keyof typeof METRICS;

export type Metrics = {
  readonly meter: Meter;
  /** The Prometheus text format. */
  readonly expose: () => Promise<string>;
  readonly contentType: string;
};

/**
 * A registry of the metrics of a table and of the process's own. A name, label or use that the table does not know is a bug; it
 * throws where `onMistake` is "throw" (development and tests) and is left out where it is "ignore".
 */
export function createMetrics(
  onMistake: "throw" | "ignore",
  table: Readonly<Record<string, Metric>> = METRICS,
): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const counters = new Map<string, Counter>();
  const gauges = new Map<string, Gauge>();
  const histograms = new Map<string, Histogram>();
  for (const [name, metric] of Object.entries(table)) {
    const options = { name, help: metric.help, labelNames: [...metric.labels], registers: [registry] };
    if (metric.type === "gauge") {
      gauges.set(name, new Gauge(options));
    } else if (metric.type === "counter") {
      const counter = new Counter(options);
      for (const labels of combinationsOf(metric)) counter.inc(labels, 0);
      counters.set(name, counter);
    } else {
      const histogram = new Histogram({ ...options, buckets: [...(metric.buckets ?? QUICK)] });
      for (const labels of combinationsOf(metric)) histogram.zero(labels);
      histograms.set(name, histogram);
    }
  }

  function using<T>(kind: Map<string, T>, name: string, use: (metric: T) => void): void {
    try {
      const metric = kind.get(name);
      if (metric === undefined) throw new Error(`no such metric: ${name}`);
      use(metric);
    } catch (mistake) {
      if (onMistake === "throw") throw mistake;
    }
  }

  return {
    meter: {
      count: (name, labels = {}, by = 1) => using(counters, name, (metric) => metric.inc(labels, by)),
      gauge: (name, value, labels = {}) => using(gauges, name, (metric) => metric.set(labels, value)),
      observe: (name, value, labels = {}) =>
        using(histograms, name, (metric) => metric.observe(labels, value)),
    },
    expose: () => registry.metrics(),
    contentType: registry.contentType,
  };
}

/** Every combination of the label values that are known; none where they are not. */
function combinationsOf({ values = [] }: Metric): readonly Record<string, string>[] {
  return [values]
    .flat()
    .flatMap((together) =>
      Object.entries(together).reduce<readonly Record<string, string>[]>(
        (found, [label, known]) =>
          found.flatMap((labels) => known.map((value) => ({ ...labels, [label]: value }))),
        [{}],
      ),
    );
}
