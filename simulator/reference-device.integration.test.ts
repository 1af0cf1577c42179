import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { InferenceReport, ModelPointer } from "../src/api/device-contract.ts";
import type { JsonObject } from "./base/json.ts";
import { createSimulator, type Endpoint, type Simulator } from "./simulator.ts";

const ROOT = join(import.meta.dirname, "..");
const KEY = Buffer.from("the key of the reference device").toString("base64");

const started = new Set<ChildProcess>();
afterEach(() => {
  for (const child of started) child.kill("SIGKILL");
  started.clear();
});

let simulator: Simulator;
let endpoint: Endpoint;
let directory: string;
let files: { readonly url: (version: string) => string; readonly close: () => void };

beforeAll(async () => {
  simulator = createSimulator({ throttling: false, autoStart: false });
  endpoint = await simulator.start();
  directory = await mkdtemp(join(tmpdir(), "edgefleet-reference-"));
  await writeFile(join(directory, "ca.crt"), endpoint.ca);
  const server = createServer(async (request, response) => {
    const [path = ""] = (request.url ?? "").split("?");
    const body = path.startsWith("/digits/")
      ? await readFile(join(ROOT, "examples/models/files", path))
      : null;
    response.writeHead(body === null ? 404 : 200).end(body ?? "");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  files = {
    url: (version) => `http://127.0.0.1:${port}/digits/${version}/model.onnx?sig=secret`,
    close: () => server.close(),
  };
});
afterAll(async () => {
  files.close();
  await simulator.stop();
  await rm(directory, { recursive: true, force: true });
});

async function pointerTo(version: string, more: Partial<ModelPointer> = {}): Promise<ModelPointer> {
  const bytes = await readFile(join(ROOT, "examples/models/files/digits", version, "model.onnx"));
  return {
    contract: 1,
    deployment: "a.digits",
    release: `a.digits-${version}`,
    name: "digits",
    version,
    variant: "fp32",
    digest: `sha256:${createHash("sha256").update(bytes).digest("hex")}`,
    sizeBytes: bytes.length,
    url: files.url(version),
    executionProvider: "cpu",
    config: { numThreads: 1 },
    ...more,
  };
}

function startDevice(
  id: string,
  args: readonly string[],
  module = "",
  around: readonly [string, string] = ["", ""],
) {
  const { hub } = simulator;
  const key = { authentication: { type: "sas", symmetricKey: { primaryKey: KEY, secondaryKey: KEY } } };
  hub.registry.putDevice(id, { ...key, capabilities: { iotEdge: false } }, null);
  if (module !== "") hub.registry.putModule(id, module, key, null);
  const who = `DeviceId=${id}${module === "" ? "" : `;ModuleId=${module}`}`;
  const written = `HostName=${endpoint.hostName};GatewayHostName=127.0.0.1:${endpoint.mqttPort};${who};SharedAccessKey=${KEY}`;
  const twin = module === "" ? id : `${id}/${module}`;
  const models = join(directory, id);
  const child: ChildProcess = spawn(
    process.execPath,
    ["simulator/reference-device.ts", "--ca", join(directory, "ca.crt"), "--directory", models, ...args],
    { cwd: ROOT, env: { ...process.env, DEVICE_CONNECTION_STRING: `${around[0]}${written}${around[1]}` } },
  );
  started.add(child);
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
  const point = (model: ModelPointer | null) =>
    hub.twins.patch(twin, { tags: null, desired: { model: model as unknown as JsonObject } }, null);
  const report = () =>
    hub.twins.get(twin)?.reported.value["inference"] as unknown as InferenceReport | undefined;
  /** Resolves with the first report that is as it should be. */
  const until = (fits: (report: InferenceReport) => boolean) =>
    new Promise<InferenceReport>((resolve) => {
      const look = () => {
        const now = report();
        if (now !== undefined && fits(now)) resolve(now);
      };
      hub.twins.onWrite(({ key: written_ }) => {
        if (written_ === twin) look();
      });
      look();
    });
  const stop = async () => {
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    const [code] = (await ended) as [number | null];
    return { code, output };
  };
  return { point, report, until, stop, models };
}

test("a real device downloads, checks, runs and reports a model, keeps it when the next one is wrong, and leaks no secret", async () => {
  const device = startDevice("cam-real", [
    "--run",
    "--report-interval",
    "400ms",
    "--inference-interval",
    "20ms",
  ]);
  const first = await pointerTo("1.0.0");
  device.point(first);
  const measured = await device.until(({ window }) => window !== undefined);
  expect(measured).toMatchObject({
    contract: 1,
    active: { release: "a.digits-1.0.0", digest: first.digest, variant: "fp32" },
    update: { state: "Running" },
    window: { release: "a.digits-1.0.0", errors: 0 },
  });
  const { inferences, latencyMilliseconds } = measured.window!;
  expect(inferences).toBeGreaterThan(0);
  expect(latencyMilliseconds.p50).toBeGreaterThan(0);
  expect(latencyMilliseconds.p99).toBeGreaterThanOrEqual(latencyMilliseconds.p50);

  // The bytes of another model under a promise that they do not keep.
  device.point(await pointerTo("2.0.0", { url: files.url("1.0.0") }));
  const refused = await device.until(({ update }) => update?.state === "Failed");
  expect(refused).toMatchObject({
    active: { release: "a.digits-1.0.0" },
    update: { release: "a.digits-2.0.0", error: { code: "DigestMismatch" } },
  });

  device.point(
    await pointerTo("2.1.0", { url: `${files.url("1.0.0").split("/digits")[0]}/gone?sig=secret` }),
  );
  await device.until(({ update }) => update?.error?.code === "DownloadFailed404");

  // A new url is another try after a failed download.
  device.point(await pointerTo("2.1.0"));
  await device.until(({ active }) => active?.release === "a.digits-2.1.0");
  expect((await readdir(device.models)).filter((name) => name.endsWith(".onnx"))).toHaveLength(2);

  device.point(null);
  await device.until(({ active, update }) => active === undefined && update === undefined);
  const { code, output } = await device.stop();
  expect(code).toBe(0);
  expect(output).toContain("DigestMismatch");
  expect(output).not.toContain("secret");
  expect(output).not.toContain(KEY);
  expect(JSON.stringify(simulator.hub.twins.get("cam-real")?.reported.value)).not.toContain("sig=");
});

test("what a file or a Secret has around the connection string is no part of it", async () => {
  const around = ["\uFEFF", "\r\n"] as const;
  const device = startDevice("cam-newline", ["--report-interval", "200ms"], "", around);
  expect((await device.until(({ heartbeatAt }) => heartbeatAt !== "")).contract).toBe(1);
  expect((await device.stop()).code).toBe(0);
});

test("a module does the same in its own twin, and without --run it measures nothing", async () => {
  const device = startDevice("edge-real", ["--report-interval", "200ms"], "inference");
  device.point(await pointerTo("1.0.0"));
  await device.until(({ active }) => active !== undefined);
  const before = device.report()?.heartbeatAt ?? "";
  const later = await device.until(
    ({ heartbeatAt, restarts }) => heartbeatAt > before && restarts !== undefined,
  );
  expect(later.window).toBeUndefined();
  expect((await device.stop()).code).toBe(0);
});
