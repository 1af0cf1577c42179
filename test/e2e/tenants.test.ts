import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { connectRegistry } from "../../simulator/testing/service-client.ts";
import { FINALIZER } from "../../src/api/resource.ts";
import { digestOf } from "../../src/base/digest.ts";
import { eventually } from "../../tools/stack/local-stack.ts";
import { uploadFolder } from "../../tools/upload.ts";
import {
  deploymentObject,
  type Fleet,
  type LiveDevice,
  type LiveRelease,
  releaseObject,
  startFleet,
} from "./fleet.ts";

// Two namespaces on one API server, hub and store: team A owns devices and a model, team B attacks them.

const run = promisify(execFile);
const SECRET_MODEL = "team-a/secret.onnx";
const OWN_COPY = "team-b/copy.onnx";

let fleet: Fleet;
let other: string;
let registry: ReturnType<typeof connectRegistry>;
let teamA: string;

const inOther = async (...args: readonly string[]) => {
  const { stdout } = await run(inject("kubectl"), ["--kubeconfig", inject("kubeconfig"), ...args]);
  return stdout;
};
const kubectlB = (...args: readonly string[]) => inOther("-n", other, ...args);
const applyB = async (...items: readonly object[]) => {
  const file = join(fleet.stack.directory, `b-${randomBytes(4).toString("hex")}.json`);
  await writeFile(file, JSON.stringify({ apiVersion: "v1", kind: "List", items }));
  await kubectlB("apply", "-f", file);
};
const readyOf = (object: LiveDevice | LiveRelease) =>
  object.status?.conditions?.find(({ type }) => type === "Ready");
const deviceB = async (name: string) =>
  JSON.parse(await kubectlB("get", "edev", name, "-o", "json")) as LiveDevice;
const releaseB = async (name: string) =>
  JSON.parse(await kubectlB("get", "mrel", name, "-o", "json")) as LiveRelease;
const annotate = (namespace: string, ...annotations: readonly string[]) =>
  inOther("annotate", "--overwrite", "namespace", namespace, ...annotations);

const soon = <T>(what: string, check: () => Promise<T | false>, within = 30_000) =>
  eventually(what, check, { within, every: 250 });

const device = (name: string, spec: object, more: object = {}) => ({
  apiVersion: "edgefleet.dev/v1alpha1",
  kind: "EdgeDevice",
  metadata: { name, ...more },
  spec: { deviceClass: "jetson-nano", ...spec },
});

beforeAll(async () => {
  fleet = await startFleet("tenants");
  teamA = fleet.namespace;
  other = `${teamA}-b`;
  await inOther("create", "namespace", other);
  const files = join(fleet.stack.directory, "upload");
  await mkdir(join(files, "team-a"), { recursive: true });
  await mkdir(join(files, "team-b"), { recursive: true });
  await writeFile(join(files, SECRET_MODEL), "the bytes of team A");
  await writeFile(join(files, OWN_COPY), "garbage of team B");
  const { connectionString } = fleet.stack.azurite;
  await uploadFolder({ connectionString, container: "models", folder: files });
  const { port } = fleet.stack.simulator;
  const ca = await readFile(fleet.stack.operatorEnv["EDGEFLEET_HUB_CA"] ?? "", "utf8");
  const hubString = fleet.stack.operatorEnv["EDGEFLEET_HUB_CONNECTION_STRING"] ?? "";
  registry = connectRegistry({ port, ca, connectionString: hubString });
  await annotate(
    teamA,
    "edgefleet.dev/blob-prefixes=models/digits, models/team-a/",
    `edgefleet.dev/device-ids=${teamA}-cam-*`,
  );
  await annotate(
    other,
    "edgefleet.dev/blob-prefixes=models/team-b/",
    `edgefleet.dev/device-ids=${other}-*,unmanaged-*`,
  );
  await fleet.startOperator("operator", ["--namespaces", `${teamA},${other}`]);
});
afterAll(async () => {
  await fleet.stop();
  for (const kind of ["edev", "idep"])
    for (const one of (await kubectlB("get", kind, "-o", "name").catch(() => "")).split("\n").filter(Boolean))
      await kubectlB("patch", one, "--type=merge", "-p", '{"metadata":{"finalizers":null}}').catch(() => "");
  await inOther("delete", "namespace", other, "--wait=false").catch(() => "");
});

test("team A works as if it were alone", { timeout: 120_000 }, async () => {
  await fleet.apply(
    ...fleet.deviceObjects(3),
    await releaseObject("digits-1.0.0"),
    deploymentObject("digits-1.0.0"),
  );
  await fleet.completed("digits-1.0.0", 90_000);
});

test("team B learns nothing of a blob of team A, whether it guesses its digest or not", {
  timeout: 60_000,
}, async () => {
  const release = (name: string, path: string, digest: string) =>
    releaseObject(name, { variants: [{ name: "fp32", blob: { container: "models", path }, digest }] });
  await applyB(
    await release("guess", SECRET_MODEL, digestOf("wrong")),
    await release("known", SECRET_MODEL, digestOf("the bytes of team A")),
    await release("absent", "team-a/nothing.onnx", digestOf("wrong")),
  );
  for (const name of ["guess", "known", "absent"]) {
    const live = await soon("it is refused", async () => {
      const found = await releaseB(name);
      return readyOf(found)?.reason === "NotPermitted" && found;
    });
    expect(live.status?.variants).toMatchObject([{ verdict: "Pending", reason: "NotPermitted" }]);
    expect(live.status?.variants?.[0]).not.toHaveProperty("sizeBytes");
    if (name !== "known") expect(JSON.stringify(live.status)).not.toContain(digestOf("the bytes of team A"));
  }
});

test("a blob of team B with the digest of a verified model is not verified by that", {
  timeout: 60_000,
}, async () => {
  const model = (await fleet.release("digits-1.0.0")).status?.variants?.[0]?.digest ?? "";
  const variants = [{ name: "fp32", blob: { container: "models", path: OWN_COPY }, digest: model }];
  const missing = [
    { name: "fp32", blob: { container: "models", path: "team-b/nothing.onnx" }, digest: model },
  ];
  await applyB(
    await releaseObject("copy", { variants }),
    await releaseObject("nothing", { variants: missing }),
  );
  await soon("the copy fails", async () => readyOf(await releaseB("copy"))?.reason === "DigestMismatch");
  await soon("nothing is missing", async () => readyOf(await releaseB("nothing"))?.reason === "BlobMissing");
});

test("team B gets nothing of an identity of team A, and deletes nothing", { timeout: 60_000 }, async () => {
  const target = `${teamA}-cam-0000`;
  const spec = {
    deviceId: target,
    enabled: false,
    deletionPolicy: "Delete",
    connectionSecret: { name: "loot" },
  };
  await applyB(device("thief", spec), device("forger", spec, { finalizers: [FINALIZER] }));
  for (const name of ["thief", "forger"])
    await soon("it is refused", async () => readyOf(await deviceB(name))?.reason === "NotPermitted");
  await kubectlB("delete", "edev", "thief", "forger", "--timeout=30s");
  expect((await registry.get(target)).responseBody.status).toBe("enabled");
  await expect(kubectlB("get", "secret", "loot")).rejects.toThrow(/NotFound/);
});

test("an identity that nobody manages is taken over only where that was granted", {
  timeout: 60_000,
}, async () => {
  await registry.create({ deviceId: "unmanaged-1", capabilities: { iotEdge: true } });
  await applyB(device("adopter", { deviceId: "unmanaged-1", enabled: false }, { finalizers: [FINALIZER] }));
  await soon("it is refused", async () => readyOf(await deviceB("adopter"))?.reason === "NotPermitted");
  expect((await registry.get("unmanaged-1")).responseBody.status).toBe("enabled");
  await annotate(other, "edgefleet.dev/adopt-identities=unmanaged-*");
  await soon("it is adopted", async () => (await deviceB("adopter")).status?.hub?.adopted === true);
  await kubectlB("delete", "edev", "adopter", "--timeout=30s");
  expect((await registry.get("unmanaged-1")).responseBody.deviceId).toBe("unmanaged-1");
});

test("deleting a whole fleet stops until a person allows it", { timeout: 120_000 }, async () => {
  const names = Array.from({ length: 30 }, (_, index) => `${other}-${index}`);
  await applyB(...names.map((name) => device(name, {})));
  await soon(
    "all are registered",
    async () => {
      const { items } = JSON.parse(await kubectlB("get", "edev", "-o", "json")) as { items: LiveDevice[] };
      return items.length === 30 && items.every(({ status }) => (status?.hub?.generationId ?? "") !== "");
    },
    30_000,
  );
  await kubectlB("delete", "edev", "--all", "--wait=false");
  await soon(
    "the rest waits",
    async () => {
      const { items } = JSON.parse(await kubectlB("get", "edev", "-o", "json")) as { items: LiveDevice[] };
      return items.length > 0 && items.every((one) => readyOf(one)?.reason === "DeletionsPaused");
    },
    30_000,
  );
  const left = JSON.parse(await kubectlB("get", "edev", "-o", "json")) as { items: LiveDevice[] };
  expect(left.items.length).toBeGreaterThanOrEqual(10);
  const until = new Date(Date.now() + 3_600_000).toISOString();
  await annotate(other, `edgefleet.dev/allow-deletions-until=${until}`);
  await soon("all are gone", async () => (await kubectlB("get", "edev", "-o", "name")) === "", 60_000);
  await expect(registry.get(names[0]!)).rejects.toThrow();
});
