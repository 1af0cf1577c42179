// The other end of tools/stack/exit-guard.ts: a program of its own.
import { rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

/** A process group, by the id of its leader, or a directory. */
export type Bond =
  | { readonly kind: "group"; readonly pid: number }
  | { readonly kind: "directory"; readonly path: string };

const GRACE_MILLISECONDS = 2000;
const POLL_MILLISECONDS = 50;

if (import.meta.main) {
  const bonds = new Map<string, Bond>();
  for await (const line of createInterface({ input: process.stdin })) {
    const { verb, ...bond } = JSON.parse(line) as { readonly verb: "bind" | "free" } & Bond;
    if (verb === "bind") bonds.set(JSON.stringify(bond), bond);
    else bonds.delete(JSON.stringify(bond));
  }
  // The pipe has ended: the process that held it is gone.
  await endAll([...bonds.values()]);
}

async function endAll(bonds: readonly Bond[]): Promise<void> {
  const groups = bonds.flatMap((bond) => (bond.kind === "group" ? [bond.pid] : []));
  for (const pid of groups) signalGroup(pid, "SIGTERM");
  for (let waited = 0; waited < GRACE_MILLISECONDS && groups.some(isAlive); waited += POLL_MILLISECONDS)
    await sleep(POLL_MILLISECONDS);
  for (const pid of groups) signalGroup(pid, "SIGKILL");
  for (const bond of bonds)
    if (bond.kind === "directory")
      rmSync(bond.path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
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
