import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { SourceMap } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { digestOf } from "../../src/base/digest.ts";
import { build } from "../../tools/build.ts";
import { programFile } from "../../tools/programs.ts";
import { deploymentObject, type Fleet, releaseObject, startFleet } from "./fleet.ts";

// The programs as they are in the image: one file each, with nothing of the checkout's node_modules in reach.

const ROOT = join(import.meta.dirname, "../..");
const FILES = join(ROOT, "examples/models/files");
const run = promisify(execFile);

let bundles: string;
let fleet: Fleet;

beforeAll(async () => {
  bundles = await mkdtemp(join(tmpdir(), "edgefleet-bundles-"));
  await build(bundles, process.arch);
  fleet = await startFleet("bundles", { bundles });
  await fleet.startOperator();
});
afterAll(async () => {
  await fleet?.stop();
  await rm(bundles, { recursive: true, force: true });
});

const release = async (name: string, file: string) => {
  const path = "digits/golden.npz";
  const digest = digestOf(await readFile(join(FILES, path)));
  const golden = { blob: { container: "models", path }, digest, minimumAccuracy: "0.9" };
  return await releaseObject(name, { file, verification: { golden } });
};

test("the bundles verify a release, roll it out in steps, and reject one that is not accurate", async () => {
  await fleet.apply(
    ...fleet.deviceObjects(12),
    await release("digits-1.0.0", "digits/1.0.0/model.onnx"),
    deploymentObject("digits-1.0.0"),
  );
  await fleet.completed("digits-1.0.0");
  await fleet.apply(
    await release("digits-2.0.0", "digits/2.0.0/model.onnx"),
    deploymentObject("digits-2.0.0"),
  );
  await fleet.completed("digits-2.0.0");
  const { status } = await fleet.release("digits-2.0.0");
  expect(status?.conditions?.find(({ type }) => type === "Verified")?.status).toBe("True");
  await fleet.apply(await release("digits-3.0.0", "digits/3.0.0/model.onnx"));
  await fleet.kubectl("wait", "--for=condition=Verified=False", "mrel/digits-3.0.0", "--timeout=60s");
});

test("the bundle of edgefleet verifies a file, and describes what a release file gets wrong", async () => {
  const edgefleet = (...args: readonly string[]) =>
    run(process.execPath, [programFile("edgefleet", bundles), ...args], { cwd: bundles }).then(
      ({ stdout }) => ({ code: 0, text: stdout }),
      ({ code, stdout, stderr }) => ({ code, text: `${stdout}${stderr}` }),
    );
  const model = join(FILES, "digits/1.0.0/model.onnx");
  expect(await edgefleet("verify", model)).toMatchObject({ code: 0 });
  const wrong = await edgefleet("verify", model, "--timeout", "soon");
  expect(wrong.code).toBe(2);
  expect(wrong.text).toContain("--timeout must be a duration such as 90s, 10m or 1h30m");
});

test("the simulator's bundle serves its page", async () => {
  const { port } = fleet.stack.simulator;
  const ca = fleet.stack.operatorEnv["EDGEFLEET_HUB_CA"] ?? "";
  const { stdout } = await run("curl", ["--silent", "--cacert", ca, `https://127.0.0.1:${port}/`]);
  expect(stdout).toContain("<!doctype html>");
});

test("a position in a bundle leads to its line of the source", async () => {
  const text = "function reconcileRollout(";
  const bundle = (await readFile(programFile("operator", bundles), "utf8")).split("\n");
  const line = bundle.findIndex((each) => each.includes(text));
  const map = new SourceMap(
    JSON.parse(await readFile(`${programFile("operator", bundles)}.map`, "utf8")) as never,
  );
  const entry = map.findEntry(line, bundle[line]?.indexOf(text) ?? -1);
  expect(entry).toMatchObject({ originalSource: expect.stringMatching(/src\/rollouts\/reconcile\.ts$/) });
  const source = (await readFile(join(ROOT, "src/rollouts/reconcile.ts"), "utf8")).split("\n");
  expect(source["originalLine" in entry ? entry.originalLine : -1]).toContain("function reconcileRollout");
});
