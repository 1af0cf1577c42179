import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { CHILD_ENVIRONMENT } from "./model-process.ts";

const MODEL = join(import.meta.dirname, "../../examples/models/files/digits/1.0.0/model.onnx");
const LOAD = `import ort from "onnxruntime-node"; await ort.InferenceSession.create(${JSON.stringify(MODEL)});`;

async function leftBehind(env: Readonly<Record<string, string>>): Promise<readonly string[]> {
  const directory = await mkdtemp(join(tmpdir(), "edgefleet-test-"));
  try {
    await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", LOAD], {
      cwd: import.meta.dirname,
      env: { ...env, TMPDIR: directory },
    });
    return await readdir(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

test("in the environment of a model's process ONNX Runtime keeps its telemetry to itself and leaves no file", async () => {
  expect(await leftBehind(CHILD_ENVIRONMENT)).toEqual([]);
});

test("without it there are files: the test above can fail", async () => {
  expect(await leftBehind({})).not.toEqual([]);
});
