import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { buildSandbox } from "../process/sandbox.ts";
import { installedVersion } from "./installed-version.ts";
import { verifierVersion } from "./version.ts";

test("the version that is installed is the one that a child process has loaded", async () => {
  const workdir = await mkdtemp(join(tmpdir(), "edgefleet-version-"));
  try {
    const place = { workdir, memoryBytes: 2 ** 31, sandbox: await buildSandbox() };
    const loaded = await verifierVersion(place, new AbortController().signal);
    expect(loaded).toEqual({ ok: true, value: await installedVersion() });
  } finally {
    await rm(workdir, { recursive: true, force: true });
  }
});
