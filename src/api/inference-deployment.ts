import type { Duration } from "../base/time.ts";
import type { Resource } from "./resource.ts";
import {
  cel,
  conditionsSchema,
  decimal,
  duration,
  type Of,
  oneOf,
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
        description: "Labels that a device must have.",
        maxProperties: 32,
      }),
    ),
    matchExpressions: Type.Optional(
      Type.Array(
        Type.Object(
          {
            key: Type.String({ description: "Label key.", pattern: LABEL_KEY_PATTERN, maxLength: 317 }),
            operator: oneOf(["In", "NotIn", "Exists", "DoesNotExist"], {
              description: "How it is compared.",
            }),
            values: Type.Optional(
              Type.Array(Type.String({ description: "A value.", maxLength: 63 }), {
                description: "For In and NotIn.",
                maxItems: 64,
              }),
            ),
          },
          {
            description: "One requirement.",
            "x-kubernetes-validations": [
              cel(
                "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values) || self.values.size() == 0",
                "In and NotIn need values; Exists and DoesNotExist take none",
              ),
            ],
          },
        ),
        { description: "Requirements, all of which must hold.", maxItems: 16 },
      ),
    ),
  },
  { description: "Label selector over EdgeDevices of this namespace. An empty one selects nothing." },
);

export const stepSchema = Type.Object(
  {
    percent: Type.Integer({
      description: "Share of the matched and enabled devices that may be exposed.",
      minimum: 1,
      maximum: 100,
    }),
    minimumDevices: Type.Optional(
      Type.Integer({
        description: "Expose at least this many, even where the percentage says fewer.",
        minimum: 1,
        maximum: 100_000,
      }),
    ),
    hold: Type.Optional(
      duration({
        description: "Time at this width, converged and with passing analysis, before the next step.",
      }),
    ),
  },
  { description: "One width of the canary." },
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
    metric: oneOf(METRICS, { description: "What devices report in their window." }),
    direction: Type.Optional(
      oneOf(["AtMost", "AtLeast"], {
        description:
          "Whether large values (AtMost) or small values (AtLeast) are bad. It follows from the metric: framesPerSecond is AtLeast, all others are AtMost. Default: what the metric says.",
      }),
    ),
    warning: Type.Optional(
      decimal({ description: "Past this bound the rollout holds. It comes before critical." }),
    ),
    critical: Type.Optional(decimal({ description: "Past this bound the rollout is rolled back at once." })),
    maximumRatioToStable: Type.Optional(
      decimal({
        description:
          "How many times worse than the devices of the same strata that run stable at the same time. Skipped where there are none.",
      }),
    ),
    minimumInferences: Type.Optional(
      Type.Integer({
        description: `A verdict needs this many inferences in the windows of the cohort; with fewer it is Inconclusive. A device counts with at most three times the median of the cohort. Too few inferences do not excuse framesPerSecond below a bound. Default: ${OBJECTIVE_DEFAULTS.minimumInferences}.`,
        minimum: 1,
      }),
    ),
    minimumDevices: Type.Optional(
      Type.Integer({
        description: `A verdict needs this many reporting devices (or all exposed ones, where fewer are exposed). Default: ${OBJECTIVE_DEFAULTS.minimumDevices}.`,
        minimum: 1,
      }),
    ),
    consecutive: Type.Optional(
      Type.Integer({
        description: `Windows in a row that must be past a warning or a ratio before it counts. An absolute critical bound acts at once. Default: ${OBJECTIVE_DEFAULTS.consecutive}.`,
        minimum: 1,
        maximum: 10,
      }),
    ),
  },
  {
    description: "One thing that must stay good.",
    "x-kubernetes-validations": [
      cel(
        "has(self.warning) || has(self.critical) || has(self.maximumRatioToStable)",
        "an objective needs a bound: warning, critical or maximumRatioToStable",
      ),
      cel(
        `!has(self.direction) || self.direction == (${IS_AT_LEAST} ? 'AtLeast' : 'AtMost')`,
        `the direction follows from the metric: ${AT_LEAST.join(", ")} is AtLeast (small values are bad), all others are AtMost (large values are bad); leave direction out`,
      ),
      cel(
        whereDecimal(
          ["warning", "critical"],
          `${IS_AT_LEAST} ? double(self.warning) >= double(self.critical) : double(self.warning) <= double(self.critical)`,
        ),
        `warning must come before critical: ${AT_LEAST.join(", ")} needs warning at or above critical, all others need it at or below`,
      ),
      ...["warning", "critical"].map((bound) =>
        cel(whereDecimal([bound], `double(self.${bound}) >= 0.0`), `${bound} must not be negative`),
      ),
      ...["warning", "critical"].map((bound) =>
        cel(
          whereDecimal([bound], `self.metric != 'errorRate' || double(self.${bound}) <= 1.0`),
          `${bound} of errorRate is a share from 0 to 1: write "0.05" for 5 %`,
        ),
      ),
      cel(
        whereDecimal(["maximumRatioToStable"], "double(self.maximumRatioToStable) > 0.0"),
        "maximumRatioToStable must be above 0: write 2 for at most twice as bad as stable",
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
            "Name of a ModelRelease in this namespace. Change it and a rollout starts; change it back and it is withdrawn.",
          pattern: "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$",
          maxLength: 253,
        }),
      },
      { description: "What the devices shall run." },
    ),
    selector: selectorSchema,
    module: Type.Object(
      {
        name: Type.String({
          description: "Module whose twin holds the model pointer. It becomes a twin key. Immutable.",
          pattern: "^[A-Za-z0-9_-]{1,64}$",
          maxLength: 64,
          "x-kubernetes-validations": [
            cel("self == oldSelf", "module.name is immutable; create another InferenceDeployment"),
          ],
        }),
        image: Type.Optional(
          Type.String({
            description:
              "Container image of the module, pinned by digest and without a tag, as registry/repository@sha256:… Left out: another deployment brings the module, and only its model pointer is managed here.",
            pattern: "^[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._-]+)+(:[A-Za-z0-9._-]+)?@sha256:[0-9a-f]{64}$",
            maxLength: 512,
            "x-kubernetes-validations": [
              cel(
                "self.matches('@sha256:[0-9a-f]{64}$')",
                "pin the image by digest, so that all devices run the same: registry/repository@sha256:<64 lower-case hexadecimal digits>",
              ),
              cel(
                "!self.matches(':[A-Za-z0-9._-]+@')",
                "write the image without its tag, registry/repository@sha256:<64 lower-case hexadecimal digits>: IoT Edge refuses a whole deployment in which an image has a tag and a digest",
              ),
            ],
          }),
        ),
      },
      { description: "The IoT Edge module that runs the model." },
    ),
    strategy: Type.Optional(
      Type.Object(
        {
          steps: Type.Array(stepSchema, {
            description: "Widths of the canary, in order. Default: 5 %, 25 %, 100 %.",
            minItems: 1,
            maxItems: 20,
            default: STRATEGY_DEFAULTS.steps,
            "x-kubernetes-validations": [
              cel(
                "self.map(s, s.percent).isSorted()",
                "steps must not go down: each percent is at least the one before",
              ),
              cel(
                "self[self.size() - 1].percent == 100",
                "the last step must be percent: 100, or the rollout could never complete",
              ),
            ],
          }),
          stratifyBy: Type.Array(oneOf(["Site", "DeviceClass"], { description: "A property of devices." }), {
            description: "Each combination of these gets its fair share of a canary.",
            maxItems: 2,
            "x-kubernetes-list-type": "set",
            default: STRATEGY_DEFAULTS.stratifyBy,
          }),
          progressDeadline: duration({
            description:
              "A step must converge within this time. Devices that are still missing then count against the failure budget.",
            default: STRATEGY_DEFAULTS.progressDeadline,
          }),
          onDeadline: oneOf(["Rollback", "Hold"], {
            description: "What to do when it does not.",
            default: STRATEGY_DEFAULTS.onDeadline,
          }),
          bake: Type.Optional(
            duration({
              description: "After 100 %, time for which it is still watched and still rolled back by itself.",
            }),
          ),
        },
        { description: "How a release goes out.", default: {} },
      ),
    ),
    objectives: Type.Optional(
      Type.Array(objectiveSchema, {
        description: "What is watched while devices are exposed.",
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
              "A step passes only while at least this share, in percent, of the exposed devices that were online before has been heard recently with the candidate, and at least one of each stratum.",
            minimum: 1,
            maximum: 100,
            default: ANALYSIS_DEFAULTS.minimumCoverage,
          }),
        },
        { description: "How much evidence a step needs.", default: {} },
      ),
    ),
    failureBudget: Type.Optional(
      Type.Object(
        {
          percent: decimal({
            description: "More failed devices than this share of those that tried, and it is rolled back.",
            default: BUDGET_DEFAULTS.percent,
          }),
          minimumReported: Type.Integer({
            description: "Judged only after this many devices have tried.",
            minimum: 1,
            default: BUDGET_DEFAULTS.minimumReported,
          }),
        },
        {
          description: `Devices that report Failed: download, digest, load or probe. Without it: ${BUDGET_DEFAULTS.percent} % of at least ${BUDGET_DEFAULTS.minimumReported}, or of all exposed where fewer are.`,
          default: {},
          "x-kubernetes-validations": [
            cel(
              whereDecimal(["percent"], "double(self.percent) >= 0.0 && double(self.percent) <= 100.0"),
              "failureBudget.percent is a percentage from 0 to 100: write 2 for 2 %",
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
              "Exposed devices that were offline before they were exposed: excused, waited for, or counted as failed. A device that ran the candidate and fell silent counts as failed under every policy.",
            default: OFFLINE_DEFAULTS.policy,
          }),
          after: duration({
            description: "Silence for this long is offline.",
            default: OFFLINE_DEFAULTS.after,
          }),
        },
        { description: "What to think of devices that are not there.", default: {} },
      ),
    ),
    rollback: Type.Optional(
      Type.Object(
        {
          mode: oneOf(["Automatic", "Hold"], {
            description: "Roll back by itself, or stop and wait for a person.",
            default: ROLLBACK_DEFAULTS.mode,
          }),
        },
        { description: "What to do on a breach.", default: {} },
      ),
    ),
    deletionPolicy: Type.Optional(
      oneOf(["Retain", "Remove"], {
        description:
          "What becomes of the model on devices that no other deployment selects when this one is deleted. Retain: they keep what is stable here, and nothing steers them any more. Remove: it is taken away. Default: Retain.",
      }),
    ),
    paused: Type.Optional(
      Type.Boolean({
        description: "Stops progress, not protection: a sick canary is still rolled back.",
        default: false,
      }),
    ),
  },
  { description: "What a person wants." },
);

const releaseReferenceSchema = (description: string) =>
  Type.Object(
    {
      release: Type.String({ description: "Name of the ModelRelease." }),
      digests: Type.Array(Type.String({ description: "A digest." }), {
        description: "Digests of its variants, sorted.",
        maxItems: 16,
      }),
    },
    { description },
  );

export const VERDICT_KINDS = ["Pass", "Warn", "Fail", "Inconclusive", "Error", "Skipped"] as const;

export const analysisResultSchema = Type.Object(
  {
    metric: Type.String({ description: "The objective." }),
    verdict: oneOf(VERDICT_KINDS, { description: "What it came to." }),
    value: Type.Optional(
      Type.String({ description: "Value of the exposed devices that run the candidate." }),
    ),
    control: Type.Optional(
      Type.String({ description: "Value of the devices that run stable, over the same time." }),
    ),
    bound: Type.Optional(Type.String({ description: "The bound it was held against." })),
    devices: Type.Integer({ description: "Devices whose windows have a value for it." }),
    samples: Type.Integer({
      description: "Inferences in their windows; no device counts with more than three times the median.",
    }),
    message: Type.Optional(Type.String({ description: "For people.", maxLength: 1024 })),
    breachedSince: Type.Optional(
      timestamp({
        description: "Since when it has been past a bound without a break: a confirmation needs time.",
      }),
    ),
  },
  { description: "Verdict on one objective." },
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
    site: Type.Optional(Type.String({ description: "Site of the stratum; left out: any." })),
    deviceClass: Type.Optional(Type.String({ description: "Class of the stratum; left out: any." })),
    threshold: Type.Integer({
      description: "Devices whose bucket is below it are exposed.",
      minimum: 0,
      maximum: 1_000_000,
    }),
    devices: Type.Integer({ description: "How many that were when it was set.", minimum: 0 }),
  },
  { description: "Exposure of one stratum." },
);

export const inferenceDeploymentStatusSchema = Type.Object(
  {
    observedGeneration: Type.Optional(
      Type.Integer({ description: "The generation this status was made for." }),
    ),
    phase: Type.Optional(oneOf(PHASES, { description: "Where the rollout is." })),
    stable: Type.Optional(
      releaseReferenceSchema("The last release that completed here: the target of a rollback."),
    ),
    candidate: Type.Optional(releaseReferenceSchema("The release that is going out.")),
    step: Type.Optional(
      Type.Object(
        {
          index: Type.Integer({ description: "Index of the step, from 0.", minimum: 0 }),
          percent: Type.Integer({ description: "Its width." }),
          startedAt: timestamp({
            description: "When it began; moved on by the time that nothing was watched.",
          }),
          waitingFrom: Type.Optional(
            timestamp({
              description:
                "From when the deadline counts, where that is not startedAt: time for which the step was converged does not count.",
            }),
          ),
          convergedAt: Type.Optional(
            timestamp({
              description: "Since when all exposed devices have run the candidate, or been excused.",
            }),
          ),
          passingSince: Type.Optional(
            timestamp({
              description:
                "From when the hold counts: converged with passing analysis. Moved on by the time without evidence.",
            }),
          ),
          pausedAt: Type.Optional(
            timestamp({ description: "Since when the hold has not counted, because evidence is missing." }),
          ),
          unplacedAt: Type.Optional(
            timestamp({
              description:
                "When devices were last missing, to the minute, because the hub had not pointed them at the candidate: a rollback at the deadline counts from there.",
            }),
          ),
          watchedAt: Type.Optional(
            timestamp({
              description:
                "When the operator last looked, to the minute. Time for which it did not look counts for nothing.",
            }),
          ),
          accepted: Type.Optional(
            Type.Integer({
              description: "Missing devices that a promote request went on without.",
              minimum: 0,
            }),
          ),
        },
        { description: "The current step." },
      ),
    ),
    frozenSince: Type.Optional(
      timestamp({ description: "Since when the hub or the metrics could not be read." }),
    ),
    holdReason: Type.Optional(Type.String({ description: "Why the rollout stands still.", maxLength: 1024 })),
    bakingSince: Type.Optional(
      timestamp({ description: "Since when the release has been watched at 100 %." }),
    ),
    exposure: Type.Optional(
      Type.Array(exposedStratumSchema, {
        description: "Who is exposed to the candidate.",
        maxItems: 512,
        "x-kubernetes-list-type": "atomic",
      }),
    ),
    previousExposure: Type.Optional(
      Type.Array(exposedStratumSchema, {
        description: "Who was exposed before the current step.",
        maxItems: 512,
        "x-kubernetes-list-type": "atomic",
      }),
    ),
    begunAt: Type.Optional(timestamp({ description: "When the first step of the rollout began." })),
    givenAt: Type.Optional(
      timestamp({ description: "When the hub was first seen to have a configuration of the candidate." }),
    ),
    rollback: Type.Optional(
      Type.Object(
        {
          reason: oneOf(ROLLBACK_REASONS, { description: "Why, as one word." }),
          message: Type.String({ description: "Why, for people.", maxLength: 1024 }),
          release: Type.String({ description: "The release that was taken back." }),
          at: timestamp({ description: "When the rollback was decided." }),
        },
        { description: "The last rollback." },
      ),
    ),
    devices: Type.Optional(
      Type.Object(
        {
          matched: Type.Integer({ description: "Selected by the selector." }),
          exposed: Type.Integer({ description: "Meant to run the candidate." }),
          updated: Type.Integer({ description: "Reporting that they run what they are meant to run." }),
          failed: Type.Integer({ description: "Reporting that the candidate failed." }),
          offline: Type.Integer({ description: "Exposed and silent for longer than offline.after." }),
          onStable: Type.Integer({ description: "Reporting that they run stable." }),
        },
        { description: "Counts." },
      ),
    ),
    failedDevices: Type.Optional(
      Type.Array(Type.String({ description: "device: what it reported", maxLength: 512 }), {
        description: "At most ten examples of devices that failed, and what they said.",
        maxItems: 10,
      }),
    ),
    analysis: Type.Optional(
      Type.Array(analysisResultSchema, {
        description: "Verdict on each objective.",
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
            reason: Type.String({ description: "Why, as one word.", maxLength: 64 }),
            at: timestamp({ description: "When." }),
          },
          { description: "A release that failed here." },
        ),
        {
          description: "Releases that failed here: not tried again until a person retries them.",
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
            at: timestamp({ description: "When." }),
            phase: oneOf(PHASES, { description: "The phase that began." }),
            release: Type.Optional(Type.String({ description: "The candidate." })),
            step: Type.Optional(Type.Integer({ description: "Index of the step." })),
            message: Type.String({ description: "What happened.", maxLength: 1024 }),
          },
          { description: "One transition." },
        ),
        {
          description: "The last ten transitions, oldest first.",
          maxItems: 10,
          "x-kubernetes-list-type": "atomic",
        },
      ),
    ),
    handledRequests: Type.Optional(
      Type.Object(
        {
          abort: Type.Optional(Type.String({ description: "Token.", maxLength: 256 })),
          promote: Type.Optional(Type.String({ description: "Token.", maxLength: 256 })),
          retry: Type.Optional(Type.String({ description: "Token.", maxLength: 256 })),
        },
        { description: "Tokens of the requests already served." },
      ),
    ),
    conditions: Type.Optional(conditionsSchema),
  },
  { description: "What is effective, and how far it has come." },
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
