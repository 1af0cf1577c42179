// The other end of tools/stack/exit-guard.ts: a program of its own.
import { rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

/** A process group, by the id of its leader, or a directory. */
export type Resource =
  | { readonly kind: "group"; readonly pid: number }
  | { readonly kind: "directory"; readonly path: string };

const GRACE_MILLISECONDS = 2000;
const POLL_MILLISECONDS = 50;

if (import.meta.main) {
  const resources = new Map<string, Resource>();
  for await (const line of createInterface({ input: process.stdin })) {
    const { verb, ...resource } = JSON.parse(line) as { readonly verb: "guard" | "release" } & Resource;
    if (verb === "guard") resources.set(JSON.stringify(resource), resource);
    else resources.delete(JSON.stringify(resource));
  }
  // The pipe has ended: the process that held it has exited.
  await endAll([...resources.values()]);
}

async function endAll(resources: readonly Resource[]): Promise<void> {
  const groups = resources.flatMap((resource) => (resource.kind === "group" ? [resource.pid] : []));
  for (const pid of groups) signalGroup(pid, "SIGTERM");
  for (let waited = 0; waited < GRACE_MILLISECONDS && groups.some(isAlive); waited += POLL_MILLISECONDS)
    await sleep(POLL_MILLISECONDS);
  for (const pid of groups) signalGroup(pid, "SIGKILL");
  for (const resource of resources)
    if (resource.kind === "directory")
      rmSync(resource.path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}

function isAlive(pid: number): boolean {
  return signalGroup(pid, 0);
}

function signalGroup(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-pid, signal);
  } catch {
    return false; // gone already
  }
}
