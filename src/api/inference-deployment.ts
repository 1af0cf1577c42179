import type { Duration } from "../base/time.ts";
import type { Resource } from "./resource.ts";
import {
  cel,
  decimal,
  decimalRule,
  duration,
  handledRequestsField,
  type Of,
  oneOf,
  statusSchema,
  timestamp,
  whereDecimal,
} from "./schema.ts";
import { Type } from "./type.ts";

/** Requests that are not desired state: annotations whose value is a token, served once for every new token. */
export const REQUESTS = ["abort", "promote", "retry"] as const;
export type Request = (typeof REQUESTS)[number];

export function requestAnnotation<R extends Request>(request: R): `edgefleet.dev/${R}` {
  return `edgefleet.dev/${request}`;
}

export const METRICS = [
  "latencyP50Milliseconds",
  "latencyP95Milliseconds",
  "latencyP99Milliseconds",
  "errorRate",
  "framesPerSecond",
] as const;
export type Metric = (typeof METRICS)[number];

/** Which values of a metric are bad: large ones (AtMost) or small ones (AtLeast). */
export const DIRECTIONS = {
  latencyP50Milliseconds: "AtMost",
  latencyP95Milliseconds: "AtMost",
  latencyP99Milliseconds: "AtMost",
  errorRate: "AtMost",
  framesPerSecond: "AtLeast",
} as const satisfies Readonly<Record<Metric, "AtMost" | "AtLeast">>;
export type Direction = (typeof DIRECTIONS)[Metric];

const AT_LEAST = METRICS.filter((metric) => DIRECTIONS[metric] === "AtLeast");
/** As CEL: whether small values of the objective's metric are bad. */
const IS_AT_LEAST = `self.metric in [${AT_LEAST.map((metric) => `'${metric}'`).join(", ")}]`;

export const PHASES = [
  "Pending",
  "Progressing",
  "Holding",
  "Frozen",
  "Baking",
  "Completed",
  "RollingBack",
  "RolledBack",
] as const;
export type Phase = (typeof PHASES)[number];

const LABEL_KEY_PATTERN =
  "^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$";

export const selectorSchema = Type.Object(
  {
    matchLabels: Type.Optional(
      Type.Unsafe<Readonly<Record<string, string>>>({
        type: "object",
        additionalProperties: { type: "string", maxLength: 63 },
        description: "Labels that a device must have to be selected.",
        maxProperties: 32,
      }),
    ),
    matchExpressions: Type.Optional(
      Type.Array(
        Type.Object(
          {
            key: Type.String({ description: "Label key.", pattern: LABEL_KEY_PATTERN, maxLength: 317 }),
            operator: oneOf(["In", "NotIn", "Exists", "DoesNotExist"], {
              description: "Relationship between the key and the values.",
            }),
            values: Type.Optional(
              Type.Array(Type.String({ description: "Label value.", maxLength: 63 }), {
                description: "Values for the operators In and NotIn.",
                maxItems: 64,
              }),
            ),
          },
          {
            description: "Requirement on one label.",
            "x-kubernetes-validations": [
              cel(
                "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values) || self.values.size() == 0",
                "the operators In and NotIn require values; Exists and DoesNotExist must have none",
              ),
            ],
          },
        ),
        { description: "Requirements that a device must all meet to be selected.", maxItems: 16 },
      ),
    ),
  },
  {
    description:
      "Label selector for EdgeDevices in the same namespace. An empty selector selects no devices.",
  },
);

export const stepSchema = Type.Object(
  {
    percent: Type.Integer({
      description: "Percentage of the matched and enabled devices to expose to the candidate.",
      minimum: 1,
      maximum: 100,
    }),
    minimumDevices: Type.Optional(
      Type.Integer({
        description: "Minimum number of devices to expose, if percent yields fewer.",
        minimum: 1,
        maximum: 100_000,
      }),
    ),
    hold: Type.Optional(
      duration({
        description:
          "Duration for which the step must be converged, with passing analysis, before the next step starts.",
      }),
    ),
  },
  { description: "One step of the canary." },
);

/** What an objective means where it does not say. Not in the schema: a default inside a list is drift to kubectl and Argo CD. */
export const OBJECTIVE_DEFAULTS = { minimumInferences: 1, minimumDevices: 1, consecutive: 2 } as const;

/** Releases that a deployment remembers to have failed; the oldest is forgotten first. */
export const QUARANTINE_LIMIT = 100;

// What spec means where it does not say: for the schema, and for objects from before a field had its default.

export const STRATEGY_DEFAULTS = {
  steps: [
    { percent: 5, minimumDevices: 1, hold: "10m" as Duration },
    { percent: 25, hold: "30m" as Duration },
    { percent: 100 },
  ],
  stratifyBy: ["Site", "DeviceClass"],
  progressDeadline: "2h" as Duration,
  onDeadline: "Rollback",
} as const;

export const ANALYSIS_DEFAULTS = { minimumCoverage: 90 } as const;

export const BUDGET_DEFAULTS = { percent: 2, minimumReported: 20 } as const;

export const OFFLINE_DEFAULTS = { policy: "Skip", after: "30m" as Duration } as const;

export const ROLLBACK_DEFAULTS = { mode: "Automatic" } as const;

export const DELETION_POLICY_DEFAULT = "Retain";

export const objectiveSchema = Type.Object(
  {
    metric: oneOf(METRICS, { description: "Metric that devices report." }),
    direction: Type.Optional(
      oneOf(["AtMost", "AtLeast"], {
        description:
          "Whether the bounds are upper bounds (AtMost) or lower bounds (AtLeast). The metric determines the only valid value: AtLeast for framesPerSecond, AtMost for all others. Defaults to that value.",
      }),
    ),
    warning: Type.Optional(
      decimal({ description: "Bound beyond which the rollout holds. It must be reached before critical." }),
    ),
    critical: Type.Optional(
      decimal({ description: "Bound beyond which the candidate is rolled back immediately." }),
    ),
    maximumRatioToStable: Type.Optional(
      decimal({
        description:
          "Maximum ratio to the value of the devices in the same strata that run the stable release at the same time; for framesPerSecond, the ratio is inverted. Not evaluated if there are no such devices.",
      }),
    ),
    minimumInferences: Type.Optional(
      Type.Integer({
        description: `Minimum number of inferences in the windows of the cohort; with fewer, the verdict is Inconclusive. Each device contributes at most three times the median of the cohort. framesPerSecond below a bound is a breach even with fewer inferences. Defaults to ${OBJECTIVE_DEFAULTS.minimumInferences}.`,
        minimum: 1,
      }),
    ),
    minimumDevices: Type.Optional(
      Type.Integer({
        description: `Minimum number of reporting devices, or all exposed devices if fewer are exposed; with fewer, the verdict is Inconclusive. Defaults to ${OBJECTIVE_DEFAULTS.minimumDevices}.`,
        minimum: 1,
      }),
    ),
    consecutive: Type.Optional(
      Type.Integer({
        description: `Number of consecutive windows that must be beyond warning or maximumRatioToStable before it counts as a breach. A breach of critical takes effect immediately. Defaults to ${OBJECTIVE_DEFAULTS.consecutive}.`,
        minimum: 1,
        maximum: 10,
      }),
    ),
  },
  {
    description: "Bounds on one metric.",
    "x-kubernetes-validations": [
      cel(
        "has(self.warning) || has(self.critical) || has(self.maximumRatioToStable)",
        "an objective requires at least one bound: warning, critical or maximumRatioToStable",
      ),
      cel(
        `!has(self.direction) || self.direction == (${IS_AT_LEAST} ? 'AtLeast' : 'AtMost')`,
        `the metric determines the direction: AtLeast for ${AT_LEAST.join(", ")}, AtMost for all others; omit direction`,
      ),
      cel(
        whereDecimal(
          ["warning", "critical"],
          `${IS_AT_LEAST} ? double(self.warning) >= double(self.critical) : double(self.warning) <= double(self.critical)`,
        ),
        `warning must be reached before critical: at or above it for ${AT_LEAST.join(", ")}, at or below it for all others`,
      ),
      ...["warning", "critical"].map((bound) => decimalRule(bound, "not negative")),
      ...["warning", "critical"].map((bound) =>
        cel(
          whereDecimal([bound], `self.metric != 'errorRate' || double(self.${bound}) <= 1.0`),
          `${bound} of errorRate must be between 0 and 1: write "0.05" for 5 %`,
        ),
      ),
      cel(
        whereDecimal(["maximumRatioToStable"], "double(self.maximumRatioToStable) > 0.0"),
        "maximumRatioToStable must be greater than 0: write 2 for at most twice as bad as the stable release",
      ),
    ],
  },
);

export const inferenceDeploymentSpecSchema = Type.Object(
  {
    release: Type.Object(
      {
        name: Type.String({
          description:
            "Name of a ModelRelease in the same namespace. Changing it starts a rollout; changing it back withdraws the rollout.",
          pattern: "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$",
          maxLength: 253,
        }),
      },
      { description: "ModelRelease that the devices should run." },
    ),
    selector: selectorSchema,
    module: Type.Object(
      {
        name: Type.String({
          description:
            "Name of the module whose twin contains the model pointer. It is used as a key in the twin. Immutable.",
          pattern: "^[A-Za-z0-9_-]{1,64}$",
          maxLength: 64,
          "x-kubernetes-validations": [
            cel("self == oldSelf", "module.name is immutable; create a new InferenceDeployment"),
          ],
        }),
        image: Type.Optional(
          Type.String({
            description:
              "Container image of the module, pinned by digest and without a tag: registry/repository@sha256:… If omitted, only the model pointer is managed, and the module must be deployed by other means.",
            pattern: "^[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._-]+)+(:[A-Za-z0-9._-]+)?@sha256:[0-9a-f]{64}$",
            maxLength: 512,
            "x-kubernetes-validations": [
              cel(
                "self.matches('@sha256:[0-9a-f]{64}$')",
                "the image must be pinned by digest, so that all devices run the same image: registry/repository@sha256:<64 lower-case hexadecimal digits>",
              ),
              cel(
                "!self.matches(':[A-Za-z0-9._-]+@')",
                "the image must not have a tag in addition to its digest, because IoT Edge rejects the whole deployment; write registry/repository@sha256:<64 lower-case hexadecimal digits>",
              ),
            ],
          }),
        ),
      },
      { description: "IoT Edge module that runs the model." },
    ),
    strategy: Type.Optional(
      Type.Object(
        {
          steps: Type.Array(stepSchema, {
            description: "Steps of the canary, in order. Defaults to 5 %, 25 % and 100 %.",
            minItems: 1,
            maxItems: 20,
            default: STRATEGY_DEFAULTS.steps,
            "x-kubernetes-validations": [
              cel(
                "self.map(s, s.percent).isSorted()",
                "the percent of each step must be at least that of the previous step",
              ),
              cel(
                "self[self.size() - 1].percent == 100",
                "the last step must have percent: 100, otherwise the rollout cannot complete",
              ),
            ],
          }),
          stratifyBy: Type.Array(oneOf(["Site", "DeviceClass"], { description: "Property of devices." }), {
            description:
              "Properties by which devices are stratified. Each step exposes its percentage of every stratum.",
            maxItems: 2,
            "x-kubernetes-list-type": "set",
            default: STRATEGY_DEFAULTS.stratifyBy,
          }),
          progressDeadline: duration({
            description:
              "Duration within which a step must converge. Devices still missing afterwards count against the failure budget.",
            default: STRATEGY_DEFAULTS.progressDeadline,
          }),
          onDeadline: oneOf(["Rollback", "Hold"], {
            description: "What to do when a step exceeds progressDeadline.",
            default: STRATEGY_DEFAULTS.onDeadline,
          }),
          bake: Type.Optional(
            duration({
              description:
                "Duration after the last step for which the candidate is still analyzed and automatically rolled back, for example 24h. If omitted, the rollout completes after the last step.",
            }),
          ),
        },
        { description: "How a release is rolled out.", default: {} },
      ),
    ),
    objectives: Type.Optional(
      Type.Array(objectiveSchema, {
        description: "Objectives that are analyzed while devices are exposed to the candidate.",
        maxItems: 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["metric"],
      }),
    ),
    analysis: Type.Optional(
      Type.Object(
        {
          minimumCoverage: Type.Integer({
            description:
              "Minimum percentage of the exposed devices that were online before their exposure that must have reported recently with the candidate for a step to pass. At least one device of each stratum is required as well.",
            minimum: 1,
            maximum: 100,
            default: ANALYSIS_DEFAULTS.minimumCoverage,
          }),
        },
        { description: "How much evidence a step requires.", default: {} },
      ),
    ),
    failureBudget: Type.Optional(
      Type.Object(
        {
          percent: decimal({
            description:
              "Maximum percentage of failed devices among those that have tried the candidate. If it is exceeded, the candidate is rolled back.",
            default: BUDGET_DEFAULTS.percent,
          }),
          minimumReported: Type.Integer({
            description:
              "Number of devices that must have tried the candidate before the budget is evaluated, or all exposed devices if fewer are exposed.",
            minimum: 1,
            default: BUDGET_DEFAULTS.minimumReported,
          }),
        },
        {
          description: `How many devices may fail to download, check, load or probe the candidate. Defaults to ${BUDGET_DEFAULTS.percent} % of at least ${BUDGET_DEFAULTS.minimumReported} devices, or of all exposed devices if fewer are exposed.`,
          default: {},
          "x-kubernetes-validations": [
            cel(
              whereDecimal(["percent"], "double(self.percent) >= 0.0 && double(self.percent) <= 100.0"),
              "failureBudget.percent must be between 0 and 100: write 2 for 2 %",
            ),
          ],
        },
      ),
    ),
    offline: Type.Optional(
      Type.Object(
        {
          policy: oneOf(["Skip", "Wait", "CountAsFailed"], {
            description:
              "How to treat devices that were offline before they were exposed: Skip excludes them, Wait waits for them, and CountAsFailed counts them as failed. A device that ran the candidate and stopped reporting counts as failed under every policy.",
            default: OFFLINE_DEFAULTS.policy,
          }),
          after: duration({
            description: "Duration without a report after which a device is considered offline.",
            default: OFFLINE_DEFAULTS.after,
          }),
        },
        { description: "How to treat devices that are offline.", default: {} },
      ),
    ),
    rollback: Type.Optional(
      Type.Object(
        {
          mode: oneOf(["Automatic", "Hold"], {
            description: "Whether to roll back automatically, or to hold until a user decides.",
            default: ROLLBACK_DEFAULTS.mode,
          }),
        },
        { description: "What to do when an objective or the failure budget is breached.", default: {} },
      ),
    ),
    deletionPolicy: Type.Optional(
      oneOf(["Retain", "Remove"], {
        description:
          "What happens to the model on the devices when this object is deleted. Retain: devices keep the stable release, which is no longer managed. Remove: the model is removed. Devices that another InferenceDeployment selects are not affected. Defaults to Retain.",
      }),
    ),
    paused: Type.Optional(
      Type.Boolean({
        description:
          "Whether the rollout is paused. A paused rollout does not progress, but is still rolled back on a breach.",
        default: false,
      }),
    ),
  },
  { description: "Desired state of the deployment." },
);

const releaseReferenceSchema = (description: string) =>
  Type.Object(
    {
      release: Type.String({ description: "Name of the ModelRelease." }),
      digests: Type.Array(Type.String({ description: "Digest of a variant." }), {
        description: "Digests of the variants of the release, sorted.",
        maxItems: 16,
      }),
    },
    { description },
  );

export const VERDICT_KINDS = ["Pass", "Warn", "Fail", "Inconclusive", "Error", "Skipped"] as const;

export const analysisResultSchema = Type.Object(
  {
    metric: Type.String({ description: "Metric of the objective." }),
    verdict: oneOf(VERDICT_KINDS, { description: "Result of the analysis." }),
    value: Type.Optional(
      Type.String({ description: "Value for the exposed devices that run the candidate." }),
    ),
    control: Type.Optional(
      Type.String({ description: "Value for the devices that run the stable release, over the same time." }),
    ),
    bound: Type.Optional(Type.String({ description: "Bound that the value was compared with." })),
    devices: Type.Integer({ description: "Number of devices that report the metric." }),
    samples: Type.Integer({
      description:
        "Number of inferences in their windows. Each device contributes at most three times the median.",
    }),
    message: Type.Optional(Type.String({ description: "Human-readable explanation.", maxLength: 1024 })),
    breachedSince: Type.Optional(
      timestamp({
        description: "Time since which the value has continuously been beyond a bound.",
      }),
    ),
  },
  { description: "Result of the analysis of one objective." },
);

export const ROLLBACK_REASONS = [
  "ObjectiveBreached",
  "FailureBudgetSpent",
  "DeadlineExceeded",
  "VerificationFailed",
  "Aborted",
  "Withdrawn",
] as const;
export type RollbackReason = (typeof ROLLBACK_REASONS)[number];

const exposedStratumSchema = Type.Object(
  {
    site: Type.Optional(Type.String({ description: "Site of the stratum. If omitted, any site." })),
    deviceClass: Type.Optional(
      Type.String({ description: "Device class of the stratum. If omitted, any class." }),
    ),
    threshold: Type.Integer({
      description: "Devices whose bucket is below this value are exposed.",
      minimum: 0,
      maximum: 1_000_000,
    }),
    devices: Type.Integer({
      description: "Number of exposed devices when the threshold was set.",
      minimum: 0,
    }),
  },
  { description: "Exposure of one stratum." },
);

export const inferenceDeploymentStatusSchema = statusSchema(
  {
    phase: Type.Optional(oneOf(PHASES, { description: "Phase of the rollout." })),
    stable: Type.Optional(
      releaseReferenceSchema(
        "Release that was most recently rolled out completely, which a rollback returns to.",
      ),
    ),
    candidate: Type.Optional(releaseReferenceSchema("Release that is being rolled out.")),
    step: Type.Optional(
      Type.Object(
        {
          index: Type.Integer({ description: "Index of the step, starting from 0.", minimum: 0 }),
          percent: Type.Integer({ description: "Percentage of the matched devices that the step exposes." }),
          startedAt: timestamp({
            description:
              "Time at which the step started, moved forward by the time for which the rollout was not observed.",
          }),
          waitingSince: Type.Optional(
            timestamp({
              description:
                "Time from which progressDeadline is measured, if that is not startedAt. Time for which the step was converged is excluded.",
            }),
          ),
          convergedAt: Type.Optional(
            timestamp({
              description: "Time since which all exposed devices have run the candidate or been excluded.",
            }),
          ),
          passingSince: Type.Optional(
            timestamp({
              description:
                "Time from which hold is measured: converged, with passing analysis. Moved forward by the time without evidence.",
            }),
          ),
          pausedAt: Type.Optional(
            timestamp({
              description: "Time since which hold has been suspended, because evidence is missing.",
            }),
          ),
          lastUnplacedAt: Type.Optional(
            timestamp({
              description:
                "Time, to the minute, at which devices were last missing because the hub had not assigned the candidate to them. A rollback at the deadline is measured from there.",
            }),
          ),
          lastObservedAt: Type.Optional(
            timestamp({
              description:
                "Time, to the minute, at which the operator last observed the rollout. Time for which it was not observed does not count.",
            }),
          ),
          acceptedMissing: Type.Optional(
            Type.Integer({
              description: "Number of missing devices that a promote request accepted.",
              minimum: 0,
            }),
          ),
        },
        { description: "Current step of the rollout." },
      ),
    ),
    frozenSince: Type.Optional(
      timestamp({ description: "Time since which the hub or the metrics could not be read." }),
    ),
    holdReason: Type.Optional(Type.String({ description: "Why the rollout is on hold.", maxLength: 1024 })),
    bakingSince: Type.Optional(
      timestamp({ description: "Time since which the candidate has been baking at 100 %." }),
    ),
    exposure: Type.Optional(
      Type.Array(exposedStratumSchema, {
        description: "Devices exposed to the candidate, by stratum.",
        maxItems: 512,
        "x-kubernetes-list-type": "atomic",
      }),
    ),
    previousExposure: Type.Optional(
      Type.Array(exposedStratumSchema, {
        description: "Devices exposed before the current step, by stratum.",
        maxItems: 512,
        "x-kubernetes-list-type": "atomic",
      }),
    ),
    startedAt: Type.Optional(
      timestamp({ description: "Time at which the first step of the rollout started." }),
    ),
    configuredAt: Type.Optional(
      timestamp({
        description: "Time at which the operator first observed a configuration of the candidate on the hub.",
      }),
    ),
    rollback: Type.Optional(
      Type.Object(
        {
          reason: oneOf(ROLLBACK_REASONS, { description: "Machine-readable reason, in CamelCase." }),
          message: Type.String({ description: "Human-readable explanation.", maxLength: 1024 }),
          release: Type.String({ description: "Release that was rolled back." }),
          at: timestamp({ description: "Time at which the rollback was decided." }),
        },
        { description: "Most recent rollback." },
      ),
    ),
    devices: Type.Optional(
      Type.Object(
        {
          matched: Type.Integer({ description: "Number of devices that the selector matches." }),
          exposed: Type.Integer({ description: "Number of devices that should run the candidate." }),
          updated: Type.Integer({ description: "Number of devices that run the release they should run." }),
          failed: Type.Integer({ description: "Number of devices on which the candidate failed." }),
          offline: Type.Integer({
            description: "Number of exposed devices that have not reported for offline.after.",
          }),
          onStable: Type.Integer({ description: "Number of devices that run the stable release." }),
        },
        { description: "Number of devices, by state." },
      ),
    ),
    failedDevices: Type.Optional(
      Type.Array(Type.String({ description: "Name of the device, and what it reported.", maxLength: 512 }), {
        description: "Examples of devices that failed, at most ten, and what they reported.",
        maxItems: 10,
      }),
    ),
    analysis: Type.Optional(
      Type.Array(analysisResultSchema, {
        description: "Result of the analysis of each objective.",
        maxItems: 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["metric"],
      }),
    ),
    quarantinedReleases: Type.Optional(
      Type.Array(
        Type.Object(
          {
            release: Type.String({ description: "Name of the ModelRelease." }),
            reason: Type.String({ description: "Machine-readable reason, in CamelCase.", maxLength: 64 }),
            at: timestamp({ description: "Time at which it happened." }),
          },
          { description: "Release that failed in this deployment." },
        ),
        {
          description:
            "Releases that failed in this deployment. They are not rolled out again until a retry is requested.",
          maxItems: QUARANTINE_LIMIT,
          "x-kubernetes-list-type": "map",
          "x-kubernetes-list-map-keys": ["release"],
        },
      ),
    ),
    history: Type.Optional(
      Type.Array(
        Type.Object(
          {
            at: timestamp({ description: "Time at which it happened." }),
            phase: oneOf(PHASES, { description: "Phase that started." }),
            release: Type.Optional(Type.String({ description: "Candidate at the time." })),
            step: Type.Optional(Type.Integer({ description: "Index of the step at the time." })),
            message: Type.String({ description: "Human-readable description.", maxLength: 1024 }),
          },
          { description: "Transition of the rollout." },
        ),
        {
          description: "Most recent transitions, at most ten, oldest first.",
          maxItems: 10,
          "x-kubernetes-list-type": "atomic",
        },
      ),
    ),
    handledRequests: handledRequestsField(["abort", "promote", "retry"]),
  },
  "Observed state of the deployment.",
);

export type InferenceDeploymentSpec = Of<typeof inferenceDeploymentSpecSchema>;
export type InferenceDeploymentStatus = Of<typeof inferenceDeploymentStatusSchema>;
export type InferenceDeployment = Resource<InferenceDeploymentSpec, InferenceDeploymentStatus>;
export type Step = Of<typeof stepSchema>;
export type Objective = Of<typeof objectiveSchema>;
export type AnalysisResult = Of<typeof analysisResultSchema>;
export type StratumExposure = NonNullable<InferenceDeploymentStatus["exposure"]>[number];
export type HistoryEntry = NonNullable<InferenceDeploymentStatus["history"]>[number];
export type Selector = Of<typeof selectorSchema>;
