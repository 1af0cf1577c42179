import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connectRegistry } from "../../simulator/testing/service-client.ts";
import { eventually, type Operator } from "../../tools/stack/local-stack.ts";
import type { Program } from "../../tools/stack/program.ts";
import { type DeploymentOptions, deploymentObject, type Fleet, releaseObject, startFleet } from "./fleet.ts";

// What an outsider does to it. Each mistake has a message of its own where the mistake is, and nothing else stops.

let fleet: Fleet;
let operator: Operator;

beforeAll(async () => {
  fleet = await startFleet("bad-input", {
    simulatorArgs: ["--no-throttling"], // filling a hub takes five minutes otherwise
    behaviours: [{ match: { release: "*" }, effects: { latency: { p50: 30, p95: 45, p99: 60 } } }],
  });
  operator = await startOperator();
});
afterAll(() => fleet.stop());

const startOperator = () => fleet.startOperator("operator", ["--leader-election", "false"]);

// ── objects

const QUICK = { steps: [{ percent: 25 }, { percent: 100 }], progressDeadline: "2m" };
/** A rollout that a person can watch: it stands at 50 % for as long as anybody looks. */
const SLOW = { steps: [{ percent: 50, hold: "10m" }, { percent: 100 }], progressDeadline: "2m" };

function deviceObject(name: string, line: string, spec: object = {}): object {
  return {
    apiVersion: "edgefleet.dev/v1alpha1",
    kind: "EdgeDevice",
    metadata: { name, labels: { line } },
    spec: { deviceClass: "jetson-nano", site: "plant-a1", ...spec },
  };
}

function rollout(name: string, line: string, release: string, more: DeploymentOptions = {}): object {
  const selector = { matchLabels: { line } };
  return deploymentObject(release, { name, selector, strategy: QUICK, objectives: [], ...more });
}

// ── what the objects say

type Condition = {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
};
type Object = {
  readonly status?: {
    readonly conditions?: readonly Condition[];
    readonly handledRequests?: object;
  };
};

async function get(kind: string, name: string): Promise<Object> {
  return JSON.parse(await fleet.kubectl("get", kind, name, "-o", "json")) as Object;
}

/** `True Completed: 9 of 9 devices report …` */
async function said(kind: string, name: string, type: string): Promise<string> {
  const { status } = await get(kind, name);
  const found = status?.conditions?.find((condition) => condition.type === type);
  return found === undefined ? `no ${type}` : `${found.status} ${found.reason}: ${found.message}`;
}

async function says(
  kind: string,
  name: string,
  type: string,
  expected: RegExp,
  within = 20_000,
): Promise<void> {
  let last = "";
  const look = async () => {
    last = await said(kind, name, type);
    return expected.test(last);
  };
  await eventually(`${kind} ${name}`, look, { within, every: 250 }).catch(() => undefined);
  expect(last, `${type} of ${kind} ${name}`).toMatch(expected);
}

const completed = (name: string, release: string) =>
  says(
    "idep",
    name,
    "Ready",
    new RegExp(`^True Completed: (\\d+) of \\1 devices? report ${release}$`),
    60_000,
  );

const events = (kind: string, name: string) =>
  fleet.kubectl(
    "get",
    "events",
    "--field-selector",
    `involvedObject.kind=${kind},involvedObject.name=${name}`,
  );

type Identity = {
  readonly deviceId: string;
  readonly tags: object;
  readonly pointers: readonly { readonly release: string }[];
};

async function hub(): Promise<{
  readonly configurations: readonly string[];
  readonly identities: readonly Identity[];
}> {
  return (await fleet.stack.control("GET", "/sim/fleet?devices=100000")) as Awaited<ReturnType<typeof hub>>;
}

async function pointersOf(prefix: string): Promise<readonly string[]> {
  const { identities } = await hub();
  return identities
    .filter(({ deviceId }) => deviceId.startsWith(prefix))
    .flatMap(({ pointers }) => pointers.map(({ release }) => release.replace(`${fleet.namespace}.`, "")));
}

const fault = (id: string, more: object) =>
  fleet.stack.control("POST", "/sim/faults", {
    id,
    operations: ["*"],
    percent: 100,
    kind: "status",
    ...more,
  });
const mend = (id: string) => fleet.stack.control("DELETE", `/sim/faults/${id}`);

// ── what the API server refuses

test("the API server refuses what cannot be meant, and says what to write", async () => {
  const refusal = (object: object) => fleet.apply(object).then(() => "accepted", String);
  const idep = (more: DeploymentOptions) => refusal(rollout("refused", "refused", "digits-1.0.0", more));
  expect(await idep({ objectives: [{ metric: "latency", critical: 200 }] })).toMatch(
    /objectives\[0\]\.metric: Unsupported value: "latency": supported values: .*"latencyP95Milliseconds"/,
  );
  expect(await idep({ strategy: { steps: [{ percent: 50 }, { percent: 10 }, { percent: 100 }] } })).toContain(
    "the percent of each step must be at least that of the previous step",
  );
  expect(await idep({ strategy: { steps: [{ percent: 50 }] } })).toContain(
    "the last step must have percent: 100",
  );
  expect(await idep({ strategy: { ...QUICK, progressDeadline: "2 hours" } })).toContain(
    "must be a duration such as 90s, 10m or 1h30m",
  );
  expect(await refusal(await releaseObject("refused", { digest: "f50ae2e7" }))).toMatch(
    /variants\[0\]\.digest.*must be sha256: followed by 64 lower-case hexadecimal digits; sha256sum FILE prints the digits/s,
  );
  expect(await refusal(deviceObject("refused", "refused", { deviceId: ".." }))).toContain(
    "choose another ID",
  );
});

// ── what only the operator can find out

test("every mistake is reported where it is, and the deployment beside it completes meanwhile", async () => {
  const { kubectl } = fleet;
  await kubectl("create", "secret", "generic", "another-team", "--from-literal=a=b");
  await fault("refused", { status: 400, devices: "refused-*" });
  const variants = [
    {
      name: "nano",
      deviceClasses: ["jetson-xavier"],
      blob: { container: "models", path: "digits/1.0.0/model.onnx" },
      digest: `sha256:f50ae2e71a7a183fec8c7f567eea6f775ba54b7a52a9cf58038941d74f63cd97`,
    },
  ];
  const golden = {
    blob: { container: "models", path: "digits/nowhere.npz" },
    digest: `sha256:${"0".repeat(64)}`,
    minimumAccuracy: "0.9",
  };
  await fleet.apply(
    ...fleet.deviceObjects(9),
    await releaseObject("digits-1.0.0"),
    deploymentObject("digits-1.0.0"),
    // and now the rest of it
    rollout("nobody", "no-such-line", "digits-1.0.0"),
    rollout("empty", "", "digits-1.0.0", { selector: {} }),
    deviceObject("spare-1", "spare"),
    rollout("norelease", "spare", "digits-9.9.9"),
    await releaseObject("digits-noblob", {
      file: "digits/9.9.9/model.onnx",
      digest: `sha256:${"1".repeat(64)}`,
    }),
    await releaseObject("digits-nogolden", { verification: { golden } }),
    deviceObject("heavy-1", "heavy"),
    deviceObject("heavy-2", "heavy", { deviceClass: "jetson-xavier" }),
    await releaseObject("digits-heavy", { variants }),
    rollout("novariant", "heavy", "digits-heavy"),
    deviceObject("refused-1", "refused"),
    deviceObject("alias-1", "alias", { deviceId: "one-and-the-same" }),
    deviceObject("secret-1", "secret", { connectionSecret: { name: "another-team" } }),
    deviceObject("twice-1", "twice"),
    deviceObject("twice-2", "twice"),
    rollout("left", "twice", "digits-1.0.0"),
  );
  await says("edev", "alias-1", "Registered", /^True/);
  await fleet.apply(deviceObject("alias-2", "alias", { deviceId: "one-and-the-same" }));
  await fleet.completed("digits-1.0.0");

  await says(
    "idep",
    "nobody",
    "Ready",
    /^False NoDevices: the selector matches no EdgeDevice in this namespace; check kubectl get edgedevices --show-labels/,
  );
  await says(
    "idep",
    "empty",
    "Ready",
    /^False SelectorEmpty: the selector is empty and selects no devices; add matchLabels/,
  );
  await says(
    "idep",
    "norelease",
    "Ready",
    new RegExp(
      `^False ReleaseMissing: ModelRelease digits-9\\.9\\.9 does not exist in namespace ${fleet.namespace}`,
    ),
  );
  await says(
    "idep",
    "novariant",
    "Ready",
    /^False NoVariant: release digits-heavy has no variant for jetson-nano \(1 device\); add one in a new release, or narrow the selector/,
  );
  await says(
    "mrel",
    "digits-noblob",
    "Available",
    /^False BlobMissing: fp32: the model models\/digits\/9\.9\.9\/model\.onnx is not in the store; upload it/,
  );
  await says(
    "mrel",
    "digits-nogolden",
    "Ready",
    /BlobMissing: fp32: the golden set models\/digits\/nowhere\.npz is not in the store; upload it/,
  );
  await says(
    "edev",
    "refused-1",
    "Registered",
    /^False HubRejected: the hub rejected the request: .*; change the spec or the identity/,
  );
  await says(
    "edev",
    "alias-2",
    "Registered",
    new RegExp(
      `^False OwnedByAnother: the identity belongs to EdgeDevice ${fleet.namespace}/alias-1 and was not changed`,
    ),
  );
  await says(
    "edev",
    "secret-1",
    "ConnectionSecret",
    /^False SecretConflict: Secret another-team is not owned by this EdgeDevice and was not changed; delete it or choose another name/,
  );
  expect(await events("EdgeDevice", "alias-2")).toContain("OwnedByAnother");
  expect(JSON.parse(await kubectl("get", "secret", "another-team", "-o", "json")).data).toEqual({
    a: "Yg==",
  });
  await says("edev", "alias-1", "Registered", /^True/);
  expect(await pointersOf("heavy-")).toEqual([]);

  // What was refused is tried again once somebody has done what the message says.
  await mend("refused");
  await kubectl("label", "edev", "refused-1", "again=yes");
  await says("edev", "refused-1", "Registered", /^True/);
  await fleet.apply(await releaseObject("digits-9.9.9"));
  await completed("norelease", "digits-9.9.9");
});

test("two deployments that select the same devices both say so, and the devices stay as they are", async () => {
  await completed("left", "digits-1.0.0");
  const file = "digits/2.0.0/model.onnx";
  await fleet.apply(await releaseObject("digits-2.0.0", { file }), rollout("right", "twice", "digits-2.0.0"));
  await says(
    "idep",
    "left",
    "Conflict",
    /^True Conflict: another deployment selects devices for module inference as well: right \(2 devices\)/,
  );
  await says(
    "idep",
    "right",
    "Conflict",
    /^True Conflict: another deployment selects devices for module inference as well: left \(2 devices\)/,
  );
  await says(
    "edev",
    "twice-1",
    "Conflict",
    /^True SelectedTwice: left and right select this device for module inference; the device keeps what it runs/,
  );
  await says("idep", "right", "Ready", /^False/);
  await says("mrel", "digits-2.0.0", "Verified", /^True/);
  expect(await pointersOf("twice-")).toEqual(["digits-1.0.0", "digits-1.0.0"]);
  await fleet.kubectl("delete", "idep", "right", "--timeout=30s");
  await says("idep", "left", "Conflict", /^no Conflict/);
  await says("edev", "twice-1", "Conflict", /^no Conflict/);
  expect(await pointersOf("twice-")).toEqual(["digits-1.0.0", "digits-1.0.0"]);
});

// ── requests of people

test("pause stops it, promote sends it on, abort takes it back, retry tries again; each token once", async () => {
  const annotate = (request: string, token: string) =>
    fleet.kubectl("annotate", "idep", "people", `edgefleet.dev/${request}=${token}`, "--overwrite");
  const devices = [1, 2, 3, 4].map((index) => deviceObject(`people-${index}`, "people"));
  await fleet.apply(...devices, rollout("people", "people", "digits-1.0.0"));
  await completed("people", "digits-1.0.0");

  await fleet.apply(rollout("people", "people", "digits-2.0.0", { strategy: SLOW, more: { paused: true } }));
  await says(
    "idep",
    "people",
    "Ready",
    /^False Paused: digits-2\.0\.0 is waiting, because spec\.paused is true/,
  );
  expect(new Set(await pointersOf("people-"))).toEqual(new Set(["digits-1.0.0"]));
  await fleet.apply(rollout("people", "people", "digits-2.0.0", { strategy: SLOW }));
  await says(
    "idep",
    "people",
    "Ready",
    /StepInProgress: digits-2\.0\.0 at 50 %: 2 of 4 devices exposed; 2 running.*held for 10m/,
  );

  await annotate("abort", "one");
  await says(
    "idep",
    "people",
    "Ready",
    /^False RolledBack: digits-2\.0\.0 is quarantined, and was rolled back to digits-1\.0\.0: aborted on request.*To roll it out again: kubectl .* edgefleet\.dev\/retry=/,
  );
  expect(new Set(await pointersOf("people-"))).toEqual(new Set(["digits-1.0.0"]));
  await annotate("retry", "one");
  await says(
    "idep",
    "people",
    "Ready",
    /StepInProgress: digits-2\.0\.0 at 50 %: 2 of 4 devices exposed; 2 running/,
  );
  await annotate("promote", "one");
  await completed("people", "digits-2.0.0");
  const { status } = await get("idep", "people");
  expect(status?.handledRequests).toEqual({ abort: "one", retry: "one", promote: "one" });
  expect(await events("InferenceDeployment", "people")).toContain("aborted on request");
});

// ── things that are not there

test("a verifier that is gone is named by the releases that wait for it, which go on when it is back", async () => {
  fleet.stack.verifier.kill("SIGKILL");
  await fleet.stack.verifier.ended;
  await fleet.apply(
    await releaseObject("digits-waiting"),
    deviceObject("waiting-1", "waiting"),
    rollout("waiting", "waiting", "digits-waiting"),
  );
  await says(
    "mrel",
    "digits-waiting",
    "Verified",
    /^Unknown VerifierUnavailable: fp32: the verifier is not responding \(.*\); it will be retried automatically/,
  );
  await says("idep", "waiting", "Ready", /^False ReleaseUnverified: digits-waiting is not verified yet/);
  await says("mrel", "digits-1.0.0", "Verified", /^True/);
  await fleet.startVerifier();
  await completed("waiting", "digits-waiting");
});

test("a full hub is told with what fills it, and the rollout begins when there is room", async () => {
  const { port } = fleet.stack.simulator;
  const connectionString = fleet.stack.operatorEnv["EDGEFLEET_HUB_CONNECTION_STRING"] ?? "";
  const ca = await readFile(fleet.stack.operatorEnv["EDGEFLEET_HUB_CA"] ?? "", "utf8");
  const endpoint = { port, ca, connectionString, hostName: fleet.stack.simulator.hostName };
  const registry = connectRegistry(endpoint);
  const room = 100 - (await hub()).configurations.length;
  const foreign = Array.from({ length: room }, (_, index) => `foreign-${index}`);
  const content = { deviceContent: { "properties.desired.other": 1 } };
  for (const id of foreign)
    await registry.addConfiguration({
      id,
      content,
      targetCondition: "deviceId = 'nobody'",
      priority: 2000,
      schemaVersion: "1.0",
    });
  await fleet.apply(deviceObject("full-1", "full"), rollout("full", "full", "digits-1.0.0"));
  await says(
    "idep",
    "full",
    "Ready",
    new RegExp(
      `^False HubFull: .*the hub has 100 of at most 100 configurations, and [12] more (is|are) needed; they belong to others \\(${foreign.length}\\), .*the base deployment \\(1\\)`,
    ),
    30_000,
  );
  expect(await pointersOf("full-")).toEqual([]);
  await fleet.completed("digits-1.0.0");
  for (const id of foreign) await registry.removeConfiguration(id);
  await says("idep", "full", "Ready", /^True Completed/, 90_000);
});

test("wrong keys are reported with the missing permission, and never shown", async () => {
  await fleet.stack.stopOperator("operator");
  const wrong = Buffer.from("this is not the key that it ought to be").toString("base64");
  const withWrong = (name: string, part: string) =>
    (fleet.stack.operatorEnv[name] ?? "").replace(new RegExp(`(${part}=)[^;]+`), `$1${wrong}`);
  const hubEnv = {
    EDGEFLEET_HUB_CONNECTION_STRING: withWrong("EDGEFLEET_HUB_CONNECTION_STRING", "SharedAccessKey"),
  };
  const storeEnv = {
    EDGEFLEET_STORAGE_CONNECTION_STRING: withWrong("EDGEFLEET_STORAGE_CONNECTION_STRING", "AccountKey"),
  };
  const odd: Program = await fleet.startOddOperator("odd", { ...hubEnv, ...storeEnv });
  await fleet.apply(
    deviceObject("denied-1", "denied"),
    await releaseObject("digits-denied", { file: "digits/2.0.0/model-small.onnx" }),
    rollout("denied", "denied", "digits-denied"),
  );
  await says(
    "edev",
    "denied-1",
    "Registered",
    /^False HubDenied: the hub refuses the operator's credential \(.*Registry.*\); grant it permission/,
  );
  await says(
    "mrel",
    "digits-denied",
    "Ready",
    /StoreDenied: fp32: the store refuses the operator's credential \(.*\); grant it permission to read blobs and to sign URLs/,
  );
  await says("idep", "digits", "HubReachable", /^False HubDenied: .*the credential needs/, 30_000);
  await odd.stop();
  const seen = [
    await fleet.kubectl("get", "edev,idep,mrel,events", "-o", "json"),
    await readFile(`${fleet.stack.directory}/odd.log`, "utf8"),
  ].join("\n");
  expect(seen).not.toContain(wrong);
  expect(seen).not.toMatch(/[?&;]sig=[A-Za-z0-9%]/);
  operator = await startOperator();
  await says("edev", "denied-1", "Registered", /^True/, 30_000);
  await completed("denied", "digits-denied");
  await fleet.completed("digits-1.0.0");
});

// ── the end of things

test("devices and deployments can be deleted in the middle of a rollout", async () => {
  const devices = [1, 2, 3, 4, 5, 6].map((index) =>
    deviceObject(`leaving-${index}`, "leaving", index === 1 ? { deletionPolicy: "Retain" } : {}),
  );
  await fleet.apply(...devices, rollout("leaving", "leaving", "digits-1.0.0"));
  await completed("leaving", "digits-1.0.0");
  await fleet.apply(rollout("leaving", "leaving", "digits-2.0.0", { strategy: SLOW }));
  await says("idep", "leaving", "Ready", /at 50 %: 3 of 6 devices exposed; 3 running/);

  await fleet.kubectl("delete", "edev", "leaving-1", "leaving-2", "--timeout=30s");
  await says("idep", "leaving", "Ready", /of 4 devices exposed/);
  const left = (await hub()).identities.filter(({ deviceId }) => deviceId.startsWith("leaving-"));
  expect(left.map(({ deviceId }) => deviceId)).not.toContain("leaving-2");
  const retained = left.find(({ deviceId }) => deviceId === "leaving-1");
  expect(retained).toMatchObject({ tags: {}, pointers: [] });

  await fleet.kubectl("delete", "idep", "leaving", "--timeout=60s");
  expect((await hub()).configurations.filter((id) => id.includes("-leaving-"))).toEqual([]);
  await eventually("no pointer is left", async () => (await pointersOf("leaving-")).length === 0, {
    within: 20_000,
  });
});

test("a deletion that cannot reach the hub says what is left, and ends when the hub is back", async () => {
  await fault("gone", { status: 503 });
  await fleet.kubectl("delete", "idep", "people", "--wait=false");
  await fleet.kubectl("delete", "edev", "spare-1", "--wait=false");
  await says(
    "idep",
    "people",
    "Ready",
    /^False Deleting: being deleted; nothing can be removed from the hub now: .*503/,
  );
  await says(
    "edev",
    "spare-1",
    "Ready",
    /^False HubUnavailable: the deletion is waiting for the hub: .*503.*remove the finalizer edgefleet\.dev\/hub manually/,
  );
  await mend("gone");
  await fleet.kubectl("wait", "--for=delete", "idep/people", "edev/spare-1", "--timeout=60s");
  expect((await hub()).configurations.filter((id) => id.includes("-people-"))).toEqual([]);
  expect(await pointersOf("people-")).toEqual([]);
});

test("a namespace that is deleted while everything runs ends cleanly", async () => {
  await fleet.apply(deploymentObject("digits-2.0.0", { strategy: SLOW }));
  await says("idep", "digits", "Ready", /at 50 %: [45] of 9 devices exposed/);
  // More than twenty identities at once wait for a person.
  const soon = new Date(Date.now() + 600_000).toISOString();
  const allow = `edgefleet.dev/allow-deletions-until=${soon}`;
  await fleet.kubectl("-n", fleet.namespace, "annotate", "--overwrite", "edgedevices", "--all", allow);
  await fleet.kubectl("delete", "namespace", fleet.namespace, "--timeout=120s");
  const { configurations, identities } = await hub();
  expect(configurations).toEqual([]);
  expect(identities.map(({ deviceId }) => deviceId)).toEqual(["leaving-1"]);
  expect(await Promise.race([operator.ended, "runs"])).toBe("runs");
});
