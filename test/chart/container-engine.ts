import { execFile, spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const ROOT = join(import.meta.dirname, "..", "..");
/** What `npm run image-base` makes where no image can be pulled. */
const LOCAL_BASE = "edge-fleet-base:dev";
const run = promisify(execFile);

/** Why no image can be built here; `null`: a Docker engine answers. */
export function whyNoEngine(): string | null {
  const { status, error } = spawnSync("docker", ["info"], { stdio: "ignore", timeout: 10_000 });
  if (error !== undefined) return "docker is not installed";
  return status === 0 ? null : "no Docker engine answers";
}

export async function docker(...args: readonly string[]): Promise<string> {
  const { stdout } = await run("docker", args, { cwd: ROOT, maxBuffer: 64 * 1024 * 1024 });
  return stdout;
}

/** Builds the image of this checkout, on the Dockerfile's own base or, where it cannot be pulled, on Debian's packages. */
export async function buildImage(tag: string): Promise<void> {
  const labels = ["--build-arg", "REVISION=of-the-test"];
  await docker(
    "build",
    "--network",
    "host",
    "--build-arg",
    `BASE=${await base()}`,
    ...labels,
    "--tag",
    tag,
    ".",
  );
}

async function base(): Promise<string> {
  if (await isHere(LOCAL_BASE)) return LOCAL_BASE;
  const dockerfile = await readFile(join(ROOT, "Dockerfile"), "utf8");
  const own = /^ARG BASE=(.+)$/m.exec(dockerfile)?.[1] ?? "";
  const isPulled = await docker("pull", "--quiet", own).then(
    () => true,
    () => false,
  );
  if (isPulled) return own;
  await run("npm", ["run", "--silent", "image-base"], { cwd: ROOT, maxBuffer: 64 * 1024 * 1024 });
  return LOCAL_BASE;
}

function isHere(image: string): Promise<boolean> {
  return docker("image", "inspect", image).then(
    () => true,
    () => false,
  );
}
