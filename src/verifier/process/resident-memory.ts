import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { platform } from "node:os";

// What the operating system says about memory. Everything here is best effort: `null` is "it does not say".

/** Resident memory of a process in bytes. */
export async function residentBytes(pid: number): Promise<number | null> {
  if (platform() === "linux") {
    // Not /proc/<pid>/statm, whose unit is the page, which differs between machines.
    const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(readText(`/proc/${pid}/status`) ?? "")?.[1];
    return kibibytes === undefined ? null : Number(kibibytes) * 1024;
  }
  return new Promise((resolve) => {
    execFile("ps", ["-o", "rss=", "-p", String(pid)], (error, stdout) => {
      const kibibytes = Number(stdout.trim());
      resolve(error === null && kibibytes > 0 ? kibibytes * 1024 : null);
    });
  });
}

/** Processes that the kernel's out-of-memory killer has ended: in this container, or on the machine. */
export function oomKills(): number | null {
  for (const file of ["/sys/fs/cgroup/memory.events", "/proc/vmstat"]) {
    const kills = /^oom_kill (\d+)$/m.exec(readText(file) ?? "")?.[1];
    if (kills !== undefined) return Number(kills);
  }
  return null;
}

/** Makes the kernel choose this process first when memory runs out, so that it is never the sidecar. */
export function preferAsVictim(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, "1000");
  } catch {
    // Not Linux, or the process has ended already.
  }
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}
