import { readFileSync, writeFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

// Resident memory of this process, its highest mark included (proc(5) of Linux; getrusage(2) elsewhere).

export type MemoryMark = {
  /** Bytes by which resident memory has been higher since the mark than at the mark. `null`: it cannot be measured. */
  readonly peak: () => number | null;
};

/** Sets a mark: collects garbage, and makes the kernel count the highest resident memory from now on. */
export function markMemory(): MemoryMark {
  collectGarbage();
  const reset = resetPeak();
  const before = reset ? statusOf("VmRSS") : maximum();
  return {
    peak: () => {
      const highest = reset ? statusOf("VmHWM") : maximum();
      return before === null || highest === null ? null : Math.max(0, highest - before);
    },
  };
}

function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  if (typeof collect === "function") collect();
}

function resetPeak(): boolean {
  try {
    writeFileSync("/proc/self/clear_refs", "5");
    return true;
  } catch {
    return false;
  }
}

function statusOf(field: "VmRSS" | "VmHWM"): number | null {
  try {
    const kibibytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(
      readFileSync("/proc/self/status", "utf8"),
    )?.[1];
    return kibibytes === undefined ? null : Number(kibibytes) * 1024;
  } catch {
    return null;
  }
}

/** Kibibytes, whatever the platform: Node makes them so. */
function maximum(): number {
  return process.resourceUsage().maxRSS * 1024;
}
