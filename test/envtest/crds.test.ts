import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, inject, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { DECIMAL_FORM } from "../../src/base/decimal.ts";
import { type ApiClient, createApiClient } from "./api-client.ts";

// The CRDs in the hands of a real API server: what it lets in, what it refuses and with which words.

const DIGEST = `sha256:${"0123456789abcdef".repeat(4)}`;
const PLURALS = {
  EdgeDevice: "edgedevices",
  ModelRelease: "modelreleases",
  InferenceDeployment: "inferencedeployments",
} as const;
type Kind = keyof typeof PLURALS;
type Json = Readonly<Record<string, unknown>>;

const blob = { container: "models", path: "resnet50/2.1.0/model.onnx" };
const variant = (name: string, more: Json = {}) => ({ name, blob, digest: DIGEST, ...more });
const device = (spec: Json = {}) => ({ deviceClass: "jetson-orin-nano", ...spec });
const release = (spec: Json = {}) => ({
  model: "resnet50",
  version: "2.1.0",
  variants: [variant("fp32")],
  ...spec,
});
const deployment = (spec: Json = {}) => ({
  release: { name: "resnet50-2.1.0" },
  selector: { matchLabels: { line: "7" } },
  module: { name: "inference" },
  ...spec,
});
const steps = (...percents: readonly number[]) => ({
  strategy: { steps: percents.map((percent) => ({ percent })) },
});
const range = (count: number) => Array.from({ length: count }, (_, index) => index);

let api: ApiClient;
let namespace: string;

beforeAll(async () => {
  api = await createApiClient(inject("kubeconfig"));
  const made = await api.post("/api/v1/namespaces", { metadata: { generateName: "crds-" } });
  namespace = made.body.metadata.name;
  return async () => {
    await api.delete(`/api/v1/namespaces/${namespace}`);
  };
});

const path = (kind: Kind, rest = "") =>
  `/apis/edgefleet.dev/v1alpha1/namespaces/${namespace}/${PLURALS[kind]}${rest}`;
const object = (kind: Kind, spec: Json, metadata: Json = { generateName: "some-" }) => ({
  apiVersion: "edgefleet.dev/v1alpha1",
  kind,
  metadata,
  spec,
});
const create = (kind: Kind, spec: Json, metadata?: Json) =>
  api.post(path(kind, "?fieldValidation=Strict"), object(kind, spec, metadata));
const tryCreate = (kind: Kind, spec: Json, metadata?: Json) =>
  api.post(path(kind, "?fieldValidation=Strict&dryRun=All"), object(kind, spec, metadata));

describe("the definitions", () => {
  test.each(Object.values(PLURALS))(
    "%s is established, structural, and every field is documented",
    async (plural) => {
      const { body } = await api.get(
        `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${plural}.edgefleet.dev`,
      );
      const conditions = Object.fromEntries(
        body.status.conditions.map(({ type, status }: { type: string; status: string }) => [type, status]),
      );
      expect(conditions).toMatchObject({ NamesAccepted: "True", Established: "True" });
      expect(conditions).not.toHaveProperty("NonStructuralSchema");
      expect(body.spec.names.categories).toEqual(["edgefleet"]);
      const [version] = body.spec.versions;
      expect(version.subresources).toEqual({ status: {} });
      expect(undocumented(version.schema.openAPIV3Schema)).toEqual(["metadata"]);
    },
  );

  test.each<[Kind, readonly string[], readonly string[]]>([
    [
      "EdgeDevice",
      ["Class", "Site", "Online", "InSync", "Release", "State", "Track", "Ready", "Age"],
      ["Digest", "Bucket", "Presence", "Sync", "Reason"],
    ],
    ["ModelRelease", ["Model", "Version", "Verified", "Reason", "Age"], ["Checked", "Verifier", "Message"]],
    [
      "InferenceDeployment",
      ["Release", "Phase", "Step", "Exposed", "Updated", "Failed", "Ready", "Age"],
      ["Stable", "Reason"],
    ],
  ])("kubectl get shows %s by these columns", async (kind, narrow, wide) => {
    const { body } = await api.get(path(kind), "application/json;as=Table;v=v1;g=meta.k8s.io");
    const columns: readonly { readonly name: string; readonly priority: number }[] =
      body.columnDefinitions.slice(1);
    const named = (priority: number) =>
      columns.filter((one) => one.priority === priority).map(({ name }) => name);
    expect(named(0)).toEqual(narrow);
    expect(named(1)).toEqual(wide);
  });

  test("the columns of a release show the verdict and its reason", async () => {
    const { body: made } = await create("ModelRelease", release());
    const status = {
      conditions: [condition("Ready", "False", "Other"), condition("Verified", "False", "AccuracyTooLow")],
    };
    await api.mergePatch(path("ModelRelease", `/${made.metadata.name}/status`), { status });
    const { body } = await api.get(
      path("ModelRelease", `/${made.metadata.name}`),
      "application/json;as=Table;v=v1;g=meta.k8s.io",
    );
    expect(body.rows[0].cells.slice(1, 5)).toEqual(["resnet50", "2.1.0", "False", "AccuracyTooLow"]);
  });
});

describe("what is let in", () => {
  test.each<[string, Kind, Json]>([
    ["a device with nothing but its class", "EdgeDevice", device()],
    [
      "a device with everything",
      "EdgeDevice",
      device({
        deviceId: "Cam%0042:$'x'",
        site: "plant-a",
        iotEdge: false,
        enabled: false,
        authentication: { type: "SymmetricKey" },
        connectionSecret: { name: "cam-0042-hub" },
        tags: { line: "7" },
        heartbeatTimeout: "1h30m",
        deletionPolicy: "Retain",
      }),
    ],
    ["as many tags as there may be", "EdgeDevice", device({ tags: manyTags(32) })],
    ["a release with one variant for any class", "ModelRelease", release()],
    [
      "a release with a variant for some classes and one for all others",
      "ModelRelease",
      release({ variants: [variant("fp16", { deviceClasses: ["jetson-orin-nano"] }), variant("fp32")] }),
    ],
    [
      "a release with as many variants and classes as there may be",
      "ModelRelease",
      release({ variants: manyVariants() }),
    ],
    [
      "a release with every check",
      "ModelRelease",
      release({
        verification: {
          timeout: "5m",
          signature: {
            inputs: [{ name: "input", type: "float32", shape: ["N", 3, 224, 224] }],
            outputs: [{ name: "output", type: "float32", shape: ["N", 1000] }],
          },
          golden: {
            ...{ blob, digest: DIGEST, minimumAccuracy: "0.95", maximumAbsoluteError: "0.001" },
            ...{
              output: "scores",
              batchSize: 8,
              classes: ["cat", "dog"],
              threshold: "0.4",
              nonFinite: "Never",
            },
            outputs: [
              { name: "boxes", minimumBoxMatch: "0.9", boxFormat: "CenterSize", iouThreshold: "0.5" },
            ],
          },
          latency: { p95: "100ms" },
        },
      }),
    ],
    ["a deployment with nothing but what is needed", "InferenceDeployment", deployment()],
    ["a deployment that selects nothing", "InferenceDeployment", deployment({ selector: {} })],
    ["steps that stay as wide as they were", "InferenceDeployment", deployment(steps(5, 5, 100))],
    [
      "as many steps as there may be",
      "InferenceDeployment",
      deployment(steps(...range(19).map((n) => n + 1), 100)),
    ],
    [
      "an image pinned by digest",
      "InferenceDeployment",
      deployment({
        module: { name: "inference", image: `registry.example:5000/vision/inference@${DIGEST}` },
      }),
    ],
    [
      "bounds as integers and as decimals",
      "InferenceDeployment",
      deployment({
        objectives: [
          { metric: "latencyP95Milliseconds", warning: 100, critical: "200.5", maximumRatioToStable: "2.0" },
          { metric: "framesPerSecond", direction: "AtLeast", warning: 30, critical: "29.5" },
          { metric: "errorRate", direction: "AtMost", warning: 0, critical: 1 },
        ],
      }),
    ],
    [
      "selectors of every kind, as long as they may be",
      "InferenceDeployment",
      deployment({
        selector: {
          matchExpressions: [
            { key: "edgefleet.dev/site", operator: "In", values: range(64).map((n) => `site-${n}`) },
            { key: "line", operator: "NotIn", values: ["7"] },
            { key: "new", operator: "Exists" },
            { key: "old", operator: "DoesNotExist" },
            ...range(12).map((n) => ({ key: `key-${n}`, operator: "Exists" })),
          ],
        },
      }),
    ],
  ])("%s", async (_, kind, spec) => {
    const { status, body } = await tryCreate(kind, spec);
    expect(body.message ?? "").toBe("");
    expect(status).toBe(201);
  });

  const examples = manifestsIn(join(import.meta.dirname, "..", "..", "examples"));
  test.each(examples)("$file: $kind $name", async ({ kind, manifest }) => {
    const { spec, metadata } = manifest;
    const { status, body } = await tryCreate(kind, spec, { ...metadata, namespace });
    expect(body.message ?? "").toBe("");
    expect(status).toBe(201);
  });
});

describe("what is refused, and why", () => {
  test.each<[string, Kind, Json, string]>([
    ["a device without a class", "EdgeDevice", {}, "spec.deviceClass: Required value"],
    [
      "a class with a quote in it",
      "EdgeDevice",
      device({ deviceClass: "x' OR 1=1" }),
      "spec.deviceClass: Invalid value",
    ],
    [
      "a device id with a space",
      "EdgeDevice",
      device({ deviceId: "cam 42" }),
      "spec.deviceId: Invalid value",
    ],
    ["a device id that is a path", "EdgeDevice", device({ deviceId: ".." }), "deviceId must not be . or .."],
    ["another device id that is a path", "EdgeDevice", device({ deviceId: "." }), "choose another ID"],
    [
      "a bad duration",
      "EdgeDevice",
      device({ heartbeatTimeout: "5 minutes" }),
      "must be a duration such as 90s, 10m or 1h30m",
    ],
    [
      "the reserved tag",
      "EdgeDevice",
      device({ tags: { edgefleet: "mine" } }),
      "the tag edgefleet is reserved for the operator",
    ],
    [
      "a tag that is no twin key",
      "EdgeDevice",
      device({ tags: { "a.b": "c" } }),
      "tag names may contain only letters, digits, - and _",
    ],
    ["a field that does not exist", "EdgeDevice", device({ colour: "red" }), 'unknown field "spec.colour"'],
    [
      "a digest that is none",
      "ModelRelease",
      release({ variants: [variant("fp32", { digest: "sha256:abc" })] }),
      "must be sha256: followed by 64 lower-case hexadecimal digits",
    ],
    [
      "no variant",
      "ModelRelease",
      release({ variants: [] }),
      "spec.variants in body should have at least 1 items",
    ],
    [
      "two variants for any class",
      "ModelRelease",
      release({ variants: [variant("fp32"), variant("fp16", { deviceClasses: [] })] }),
      "at most one variant may omit deviceClasses",
    ],
    [
      "a class that two variants name",
      "ModelRelease",
      release({
        variants: [variant("a", { deviceClasses: ["x", "y"] }), variant("b", { deviceClasses: ["y"] })],
      }),
      "a device class must not be listed by more than one variant",
    ],
    [
      "two variants of one name",
      "ModelRelease",
      release({ variants: [variant("a"), variant("a")] }),
      "Duplicate value",
    ],
    [
      "a blob outside its container",
      "ModelRelease",
      release({ variants: [variant("a", { blob: { container: "models", path: "../keys" } })] }),
      "the path must be relative to the container, without ..",
    ],
    [
      "a golden set that nothing uses",
      "ModelRelease",
      release({ verification: { golden: { blob, digest: DIGEST } } }),
      "the golden set is not used; add a bound",
    ],
    [
      "an output of a golden set without a bound",
      "ModelRelease",
      release({ verification: { golden: { blob, digest: DIGEST, outputs: [{ name: "y" }] } } }),
      "an output requires at least one bound",
    ],
    [
      "bounds of one output in two places",
      "ModelRelease",
      release({
        verification: {
          golden: {
            ...{ blob, digest: DIGEST, output: "y", minimumAccuracy: 1 },
            outputs: [{ name: "y", minimumRocAuc: 1 }],
          },
        },
      }),
      "output must not be listed in outputs as well; specify its bounds in one place",
    ],
    [
      "an output of parity without a bound",
      "ModelRelease",
      release({
        verification: { parity: { with: "previous", outputs: [{ name: "y", threshold: "0.5" }] } },
      }),
      "at least one bound is required",
    ],
    [
      "a threshold of an overlap for which there is no bound",
      "ModelRelease",
      release({
        verification: { golden: { blob, digest: DIGEST, maximumAbsoluteError: 1, iouThreshold: "0.5" } },
      }),
      "iouThreshold and boxFormat require minimumBoxMatch",
    ],
    [
      "a bound that is no decimal",
      "ModelRelease",
      release({ verification: { golden: { blob, digest: DIGEST, minimumAccuracy: "95%" } } }),
      `spec.verification.golden.minimumAccuracy: Invalid value: "95%": ${DECIMAL_FORM}`,
    ],
    [
      "a share of samples above all of them",
      "ModelRelease",
      release({ verification: { golden: { blob, digest: DIGEST, minimumAccuracy: 95 } } }),
      "minimumAccuracy must be between 0 and 1",
    ],
    [
      "a cosine that is none",
      "ModelRelease",
      release({ verification: { golden: { blob, digest: DIGEST, minimumCosineSimilarity: "1.5" } } }),
      "minimumCosineSimilarity must be between -1 and 1",
    ],
    [
      "an error below nothing",
      "ModelRelease",
      release({ verification: { golden: { blob, digest: DIGEST, maximumRelativeError: "-0.1" } } }),
      "maximumRelativeError must not be negative",
    ],
    [
      "top k without a bound",
      "ModelRelease",
      release({ verification: { golden: { blob, digest: DIGEST, minimumAccuracy: 1, topK: 3 } } }),
      "topK requires minimumTopKAccuracy",
    ],
    [
      "a latency without a bound",
      "ModelRelease",
      release({ verification: { latency: { samples: 100 } } }),
      "latency requires at least one bound: p50, p95 or p99",
    ],
    [
      "a throughput of nothing",
      "ModelRelease",
      release({ verification: { throughput: { minimumPerSecond: 0 } } }),
      "minimumPerSecond must be greater than 0",
    ],
    [
      "a memory bound that is none",
      "ModelRelease",
      release({ verification: { memory: { maximum: "lots" } } }),
      "spec.verification.memory.maximum: Invalid value",
    ],
    [
      "a parity without a bound",
      "ModelRelease",
      release({ verification: { parity: { with: "previous" } } }),
      "at least one bound is required",
    ],
    [
      "a parity of more than all samples",
      "ModelRelease",
      release({ verification: { parity: { with: "previous", minimumAgreement: 98 } } }),
      "minimumAgreement must be between 0 and 1",
    ],
    [
      "a parity with a variant that is not there",
      "ModelRelease",
      release({ verification: { variantParity: { reference: "fp8", minimumAgreement: 1 } } }),
      "variantParity.reference must be the name of one of the variants",
    ],
    [
      "a reverification at two times",
      "ModelRelease",
      release({ verification: { reverify: { every: "24h", schedule: "0 2 * * 0" } } }),
      "exactly one of every and schedule is required",
    ],
    [
      "a time zone without a schedule",
      "ModelRelease",
      release({ verification: { reverify: { every: "24h", timeZone: "Europe/Berlin" } } }),
      "timeZone requires schedule",
    ],
    [
      "a schedule that is no cron line",
      "ModelRelease",
      release({ verification: { reverify: { schedule: "each friday" } } }),
      "spec.verification.reverify.schedule: Invalid value",
    ],
    [
      "a reverification more often than each hour",
      "ModelRelease",
      release({ verification: { reverify: { every: "59m" } } }),
      "every must be at least 1h",
    ],
    [
      "outputs of which one run is compared with nothing",
      "ModelRelease",
      release({ verification: { determinism: { runs: 1 } } }),
      "spec.verification.determinism.runs: Invalid value",
    ],
    [
      "steps that go down",
      "InferenceDeployment",
      deployment(steps(25, 5, 100)),
      "the percent of each step must be at least that of the previous step",
    ],
    [
      "a last step below 100",
      "InferenceDeployment",
      deployment(steps(5, 25)),
      "the last step must have percent: 100",
    ],
    [
      "a failure budget above all devices",
      "InferenceDeployment",
      deployment({ failureBudget: { percent: "100.5" } }),
      "failureBudget.percent must be between 0 and 100",
    ],
    [
      "no steps",
      "InferenceDeployment",
      deployment(steps()),
      "spec.strategy.steps in body should have at least 1 items",
    ],
    [
      "an unknown metric",
      "InferenceDeployment",
      deployment({ objectives: [{ metric: "latencyP75Milliseconds", warning: 1 }] }),
      'spec.objectives[0].metric: Unsupported value: "latencyP75Milliseconds"',
    ],
    [
      "a deletion policy of an EdgeDevice",
      "InferenceDeployment",
      deployment({ deletionPolicy: "Delete" }),
      'spec.deletionPolicy: Unsupported value: "Delete": supported values: "Retain", "Remove"',
    ],
    [
      "an objective without a bound",
      "InferenceDeployment",
      deployment({ objectives: [{ metric: "errorRate" }] }),
      "an objective requires at least one bound: warning, critical or maximumRatioToStable",
    ],
    [
      "a share written as a percentage",
      "InferenceDeployment",
      deployment({ objectives: [{ metric: "errorRate", critical: "5%" }] }),
      `spec.objectives[0].critical: Invalid value: "5%": ${DECIMAL_FORM}`,
    ],
    [
      "a percentage with its sign",
      "InferenceDeployment",
      deployment({ failureBudget: { percent: "5%" } }),
      `spec.failureBudget.percent: Invalid value: "5%": ${DECIMAL_FORM}`,
    ],
    [
      "a decimal without quotes, in the words of the API server",
      "InferenceDeployment",
      deployment({ objectives: [{ metric: "errorRate", critical: 0.05 }] }),
      'spec.objectives[0].critical in body must be of type integer,string: "number"',
    ],
    [
      "a percentage as a rate of errors",
      "InferenceDeployment",
      deployment({ objectives: [{ metric: "errorRate", critical: 5 }] }),
      'critical of errorRate must be between 0 and 1: write "0.05" for 5 %',
    ],
    [
      "a bound below nothing",
      "InferenceDeployment",
      deployment({ objectives: [{ metric: "framesPerSecond", warning: "-0.5" }] }),
      "warning must not be negative",
    ],
    [
      "a ratio of nothing",
      "InferenceDeployment",
      deployment({ objectives: [{ metric: "errorRate", maximumRatioToStable: 0 }] }),
      "maximumRatioToStable must be greater than 0",
    ],
    [
      "a warning past its critical bound",
      "InferenceDeployment",
      deployment({ objectives: [{ metric: "latencyP95Milliseconds", warning: 300, critical: "200" }] }),
      "warning must be reached before critical",
    ],
    [
      "a warning past its critical bound from below",
      "InferenceDeployment",
      deployment({ objectives: [{ metric: "framesPerSecond", warning: "9.9", critical: 10 }] }),
      "warning must be reached before critical",
    ],
    [
      "frames per second that must not be many",
      "InferenceDeployment",
      deployment({ objectives: [{ metric: "framesPerSecond", direction: "AtMost", critical: 5 }] }),
      "the metric determines the direction: AtLeast for framesPerSecond",
    ],
    [
      "a latency that must be long",
      "InferenceDeployment",
      deployment({ objectives: [{ metric: "latencyP50Milliseconds", direction: "AtLeast", critical: 5 }] }),
      "omit direction",
    ],
    [
      "two objectives for one metric",
      "InferenceDeployment",
      deployment({ objectives: range(2).map(() => ({ metric: "errorRate", critical: 1 })) }),
      "Duplicate value",
    ],
    [
      "a module name that is no twin key",
      "InferenceDeployment",
      deployment({ module: { name: "my.module" } }),
      "spec.module.name: Invalid value",
    ],
    [
      "an image without a digest",
      "InferenceDeployment",
      deployment({ module: { name: "inference", image: "registry.example/inference:1.2" } }),
      "the image must be pinned by digest",
    ],
    [
      "an image with a tag and a digest",
      "InferenceDeployment",
      deployment({
        module: { name: "inference", image: `registry.example:5000/vision/inference:1.2@${DIGEST}` },
      }),
      "the image must not have a tag in addition to its digest",
    ],
    [
      "an expression In without values",
      "InferenceDeployment",
      deployment({ selector: { matchExpressions: [{ key: "line", operator: "In" }] } }),
      "the operators In and NotIn require values; Exists and DoesNotExist must have none",
    ],
    [
      "an expression Exists with values",
      "InferenceDeployment",
      deployment({ selector: { matchExpressions: [{ key: "line", operator: "Exists", values: ["7"] }] } }),
      "the operators In and NotIn require values; Exists and DoesNotExist must have none",
    ],
    [
      "an expression with an operator of its own",
      "InferenceDeployment",
      deployment({ selector: { matchExpressions: [{ key: "line", operator: "Gt", values: ["7"] }] } }),
      'Unsupported value: "Gt"',
    ],
    [
      "a deployment without a selector",
      "InferenceDeployment",
      without(deployment(), "selector"),
      "spec.selector: Required value",
    ],
  ])("%s", async (_, kind, spec, message) => {
    const { status, body } = await tryCreate(kind, spec);
    expect(body.message).toContain(message);
    expect([400, 422]).toContain(status);
  });

  test("a decimal that is none, in one sentence of ours and nothing else", async () => {
    for (const [kind, spec] of [
      [
        "InferenceDeployment",
        deployment({ objectives: [{ metric: "errorRate", warning: "5%", critical: "x" }] }),
      ],
      ["InferenceDeployment", deployment({ failureBudget: { percent: "1e3" } })],
      ["ModelRelease", release({ verification: { throughput: { minimumPerSecond: "many" } } })],
      ["ModelRelease", release({ verification: { determinism: { maximumAbsoluteError: "0,1" } } })],
      ["ModelRelease", release({ verification: { parity: { with: "previous", minimumAgreement: "98%" } } })],
    ] as const) {
      const { body } = await tryCreate(kind, spec);
      const causes: readonly { readonly message: string }[] = body.details.causes;
      for (const { message } of causes) expect(message).toContain(DECIMAL_FORM);
    }
  });

  test("a release that would be compared with itself", async () => {
    const verification = { parity: { with: "digits-2", minimumAgreement: 1 } };
    const { status, body } = await tryCreate("ModelRelease", release({ verification }), { name: "digits-2" });
    expect(status).toBe(422);
    expect(body.message).toContain("a release cannot be compared with itself");
    expect((await tryCreate("ModelRelease", release({ verification }), { name: "digits-3" })).status).toBe(
      201,
    );
  });

  test("an object without a spec", async () => {
    const { status, body } = await api.post(path("EdgeDevice"), {
      ...object("EdgeDevice", {}),
      spec: undefined,
    });
    expect(status).toBe(422);
    expect(body.message).toContain("spec: Required value");
  });

  test("a name that is too long for the hub, unless the id is written out", async () => {
    const name = "c".repeat(129);
    const refused = await tryCreate("EdgeDevice", device(), { name });
    expect(refused.body.message).toContain(
      "IoT Hub allows at most 128 characters in a device ID; set spec.deviceId",
    );
    expect((await tryCreate("EdgeDevice", device({ deviceId: "cam" }), { name })).status).toBe(201);
  });
});

describe("what cannot be changed", () => {
  test.each<[string, Kind, Json, Json, string]>([
    [
      "deviceId",
      "EdgeDevice",
      device({ deviceId: "a" }),
      { deviceId: "b" },
      "deviceId is immutable; delete this EdgeDevice",
    ],
    ["a deviceId that was left out", "EdgeDevice", device(), { deviceId: "b" }, "deviceId is immutable"],
    [
      "a deviceId that was written out",
      "EdgeDevice",
      device({ deviceId: "a" }),
      { deviceId: null },
      "deviceId is immutable",
    ],
    [
      "iotEdge",
      "EdgeDevice",
      device(),
      { iotEdge: false },
      "iotEdge is immutable, because the hub cannot change it",
    ],
    [
      "a release",
      "ModelRelease",
      release(),
      { version: "2.1.1" },
      "a ModelRelease is immutable; create a new one",
    ],
    [
      "a bound of a release",
      "ModelRelease",
      release(),
      { verification: { timeout: "1m" } },
      "a ModelRelease is immutable; create a new one for a new version",
    ],
    [
      "the module's name",
      "InferenceDeployment",
      deployment(),
      { module: { name: "other" } },
      "module.name is immutable; create a new InferenceDeployment",
    ],
  ])("%s", async (_, kind, before, change, message) => {
    const { body: made } = await create(kind, before);
    const { status, body } = await api.mergePatch(path(kind, `/${made.metadata.name}`), { spec: change });
    expect(body.message).toContain(message);
    expect(status).toBe(422);
  });

  test("everything else of a device and a deployment can", async () => {
    const { body: cam } = await create("EdgeDevice", device());
    const moved = await api.mergePatch(path("EdgeDevice", `/${cam.metadata.name}`), {
      spec: { site: "plant-b", deviceClass: "jetson-nano", enabled: false, tags: { line: "8" } },
    });
    expect(moved.status).toBe(200);
    const { body: rollout } = await create("InferenceDeployment", deployment());
    const changed = await api.mergePatch(path("InferenceDeployment", `/${rollout.metadata.name}`), {
      spec: { release: { name: "resnet50-2.2.0" }, selector: { matchLabels: { line: "8" } }, paused: true },
    });
    expect(changed.status).toBe(200);
  });

  test("labels of a release can, however large it is, because they are no part of what it is", async () => {
    const { body: made } = await create("ModelRelease", release({ variants: manyVariants() }));
    const change = { metadata: { labels: { team: "vision" } } };
    expect((await api.mergePatch(path("ModelRelease", `/${made.metadata.name}`), change)).status).toBe(200);
  });
});

describe("what the API server adds", () => {
  test("defaults of a device", async () => {
    const { body } = await tryCreate("EdgeDevice", device());
    expect(body.spec).toEqual({
      deviceClass: "jetson-orin-nano",
      iotEdge: true,
      enabled: true,
      heartbeatTimeout: "5m",
    });
  });

  test("defaults of a release", async () => {
    const { body } = await tryCreate(
      "ModelRelease",
      release({ verification: { latency: { p95: "100ms" } } }),
    );
    expect(body.spec.variants).toEqual(release()["variants"]); // nothing inside a list: that would be drift
    expect(body.spec.verification).toEqual({
      timeout: "5m",
      latency: { p95: "100ms", warmup: 10, samples: 200, batchSize: 1, threads: 1 },
    });
  });

  test("defaults of a deployment", async () => {
    const { body } = await tryCreate(
      "InferenceDeployment",
      deployment({ objectives: [{ metric: "errorRate", critical: "0.01" }] }),
    );
    expect(body.spec).toEqual({
      ...deployment(),
      strategy: {
        steps: [
          { percent: 5, minimumDevices: 1, hold: "10m" },
          { percent: 25, hold: "30m" },
          { percent: 100 },
        ],
        stratifyBy: ["Site", "DeviceClass"],
        progressDeadline: "2h",
        onDeadline: "Rollback",
      },
      objectives: [{ metric: "errorRate", critical: "0.01" }],
      analysis: { minimumCoverage: 90 },
      failureBudget: { percent: 2, minimumReported: 20 },
      offline: { policy: "Skip", after: "30m" },
      rollback: { mode: "Automatic" },
      paused: false,
    });
  });

  test("no new generation for a status, and one for a spec", async () => {
    const { body: made } = await create("EdgeDevice", device());
    const at = path("EdgeDevice", `/${made.metadata.name}`);
    const { body: reported } = await api.mergePatch(`${at}/status`, {
      status: { observedGeneration: 1, bucket: 318_204 },
      spec: { site: "not-by-this-door" },
    });
    expect(reported.metadata.generation).toBe(1);
    expect(reported.status.bucket).toBe(318_204);
    expect(reported.spec).not.toHaveProperty("site");
    const { body: changed } = await api.mergePatch(at, { spec: { site: "plant-a" }, status: { bucket: 1 } });
    expect(changed.metadata.generation).toBe(2);
    expect(changed.status.bucket).toBe(318_204);
  });
});

function condition(type: string, status: string, reason: string) {
  return {
    type,
    status,
    reason,
    message: "",
    observedGeneration: 1,
    lastTransitionTime: "2026-01-01T00:00:00Z",
  };
}

function manyTags(count: number): Json {
  return Object.fromEntries(range(count).map((n) => [`tag-${n}`.padEnd(64, "x"), "v".repeat(512)]));
}

function manyVariants(): readonly Json[] {
  return range(16).map((v) =>
    variant(`variant-${v}`, { deviceClasses: range(64).map((c) => `class-${v}-${c}-`.padEnd(63, "x")) }),
  );
}

function without(spec: Json, field: string): Json {
  return Object.fromEntries(Object.entries(spec).filter(([key]) => key !== field));
}

/** Paths of properties that have no description. */
function undocumented(schema: Json, at: readonly string[] = []): readonly string[] {
  const properties = Object.entries((schema["properties"] ?? {}) as Readonly<Record<string, Json>>);
  const items = schema["items"] === undefined ? [] : [["[]", schema["items"] as Json] as const];
  return [...properties, ...items].flatMap(([name, inner]) => [
    ...(inner["description"] === undefined ? [[...at, name].join(".")] : []),
    ...undocumented(inner, [...at, name]),
  ]);
}

function manifestsIn(directory: string) {
  return globSync("**/*.yaml", { cwd: directory }).flatMap((file) =>
    parseAllDocuments(readFileSync(join(directory, file), "utf8"))
      .map((document) => document.toJS() as { readonly [field: string]: unknown; readonly kind: Kind } | null)
      .filter((manifest) => manifest?.["apiVersion"] === "edgefleet.dev/v1alpha1")
      .map((manifest) => ({
        file,
        kind: manifest!.kind,
        name: (manifest!["metadata"] as { readonly name: string }).name,
        manifest: manifest as unknown as { readonly spec: Json; readonly metadata: Json },
      })),
  );
}
