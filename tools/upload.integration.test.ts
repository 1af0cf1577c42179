import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BlobServiceClient } from "@azure/storage-blob";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { digestOf } from "../src/base/digest.ts";
import { type Azurite, startAzurite } from "./stack/azurite.ts";
import { type Upload, uploadFolder } from "./upload.ts";

let azurite: Azurite;
beforeAll(async () => {
  azurite = await startAzurite();
}, 60_000);
afterAll(() => azurite.stop());

let folder: string;
let upload: Upload;
let container = 0;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "upload-"));
  await mkdir(join(folder, "digits/1.0.0"), { recursive: true });
  await writeFile(join(folder, "digits/1.0.0/model.onnx"), "the model");
  await writeFile(join(folder, "empty"), "");
  container += 1;
  upload = { connectionString: azurite.connectionString, container: `models-${container}`, folder };
  return () => rm(folder, { recursive: true });
});

function blob(path: string) {
  const service = BlobServiceClient.fromConnectionString(azurite.connectionString);
  return service.getContainerClient(upload.container).getBlockBlobClient(path);
}

test("a folder's files become blobs under their paths, with their sha256", async () => {
  const digest = digestOf("the model");
  expect(await uploadFolder(upload)).toMatchObject([
    { path: "digits/1.0.0/model.onnx", digest, sizeBytes: 9, outcome: "uploaded" },
    { path: "empty", sizeBytes: 0, outcome: "uploaded" },
  ]);
  expect((await blob("digits/1.0.0/model.onnx").downloadToBuffer()).toString()).toBe("the model");
  const { metadata } = await blob("digits/1.0.0/model.onnx").getProperties();
  expect(`sha256:${metadata?.["sha256"]}`).toBe(digest);
});

test("uploading again leaves equal blobs alone", async () => {
  await uploadFolder(upload);
  const { etag } = await blob("digits/1.0.0/model.onnx").getProperties();
  expect((await uploadFolder(upload)).map(({ outcome }) => outcome)).toEqual(["unchanged", "unchanged"]);
  expect((await blob("digits/1.0.0/model.onnx").getProperties()).etag).toBe(etag);
});

test("bytes under a path are not changed unless that is asked for", async () => {
  await uploadFolder(upload);
  await writeFile(join(folder, "digits/1.0.0/model.onnx"), "THE MODEL");
  await expect(uploadFolder(upload)).rejects.toThrow("digits/1.0.0/model.onnx is there with other bytes");
  const replaced = await uploadFolder({ ...upload, overwrite: true });
  expect(replaced.map(({ outcome }) => outcome)).toEqual(["replaced", "unchanged"]);
  expect((await blob("digits/1.0.0/model.onnx").downloadToBuffer()).toString()).toBe("THE MODEL");
});
