import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { chartTool } from "../../tools/go/chart-tools.ts";
import { makeReleaseFiles, notesOf, versionProblems } from "../../tools/release-files.ts";
import { preparePython } from "../python/environment.ts";

// What a release is made of, and the workflows that make it.

const ROOT = join(import.meta.dirname, "..", "..");
const run = promisify(execFile);
let out: string;

beforeAll(async () => {
  out = await mkdtemp(join(tmpdir(), "edgefleet-release-"));
  await makeReleaseFiles(out);
}, 900_000);
afterAll(() => rm(out, { recursive: true, force: true }));

test("the files of a release are all there, and their checksums are right", async () => {
  const { version } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
  expect((await readdir(out)).sort()).toEqual([
    "NOTES.md",
    "SHA256SUMS",
    "crds.yaml",
    `edge-fleet-operator-${version}.tgz`,
    "sbom.cdx.json",
  ]);
  const lines = (await readFile(join(out, "SHA256SUMS"), "utf8")).trim().split("\n");
  expect(lines).toHaveLength(4);
  for (const line of lines) {
    const [digest, file = ""] = line.split("  ");
    expect(
      createHash("sha256")
        .update(await readFile(join(out, file)))
        .digest("hex"),
      file,
    ).toBe(digest);
  }
});

test("crds.yaml has every definition, as one file for kubectl", async () => {
  const documents = parseAllDocuments(await readFile(join(out, "crds.yaml"), "utf8"));
  const names = documents.map((document) => document.toJS().spec.names.kind);
  expect(names.sort()).toEqual(["EdgeDevice", "InferenceDeployment", "ModelRelease"]);
});

test("a tag that differs from a version is reported with the file, before anything is published", async () => {
  expect(await versionProblems("v99.0.0")).toEqual([
    expect.stringMatching(/^package\.json has version .*, not 99\.0\.0$/),
    expect.stringMatching(/^Chart\.yaml has version .*, not 99\.0\.0$/),
    expect.stringMatching(/^Chart\.yaml has appVersion .*, not 99\.0\.0$/),
    'CHANGELOG.md has no section "## 99.0.0"',
  ]);
  expect(await versionProblems("main")).toEqual(["the tag main is not vX.Y.Z"]);
});

test("the notes of a release are its section of the changelog", () => {
  const changelog =
    "# Changelog\n\n## Unreleased\n\nnext\n\n## 1.2.0 (2026-12-01)\n\n### A\n\n- b\n\n## 1.1.0\n\nold\n";
  expect(notesOf(changelog, "1.2.0")).toBe("### A\n\n- b\n");
  expect(notesOf(changelog, "1.2")).toBeNull();
});

test("actionlint finds nothing in the workflows", async () => {
  const files = (await readdir(join(ROOT, ".github/workflows"))).map((file) =>
    join(ROOT, ".github/workflows", file),
  );
  expect(files.length).toBeGreaterThan(1);
  await run(await chartTool("actionlint"), files);
}, 900_000);

test("zizmor finds nothing in the workflows", async () => {
  const requirements = join(import.meta.dirname, "python/requirements.txt");
  const { python } = await preparePython({ requirements, whose: "the workflows" });
  const zizmor = join(python, "..", "zizmor");
  await run(zizmor, ["--offline", "--no-progress", join(ROOT, ".github/workflows")]);
}, 300_000);
