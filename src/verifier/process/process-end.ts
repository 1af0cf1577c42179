import { oomKills } from "./resident-memory.ts";

/** Why a child is gone. The first three are facts about the model; `lost` is one about us. */
export type ProcessEnd =
  | { readonly kind: "timedOut" }
  | { readonly kind: "outOfMemory"; readonly message: string }
  | { readonly kind: "crashed"; readonly message: string }
  | { readonly kind: "lost"; readonly message: string }
  | { readonly kind: "cancelled" };

/** What the way in which a process has ended says, where nothing of ours has ended it. */
export function endOf(exit: {
  readonly code: number | null;
  readonly killedBy: NodeJS.Signals | null;
  readonly stderr: string;
  readonly killsBefore: number | null;
}): ProcessEnd {
  const { code, killedBy, stderr, killsBefore } = exit;
  if (/bad_alloc|out of memory/i.test(stderr))
    return { kind: "outOfMemory", message: `the allocator gave up (${killedBy ?? `exit ${code}`})` };
  switch (killedBy) {
    case "SIGXCPU":
      return { kind: "timedOut" };
    case "SIGKILL":
      return (oomKills() ?? 0) > (killsBefore ?? 0)
        ? { kind: "outOfMemory", message: "the kernel's out-of-memory killer ended it" }
        : { kind: "lost", message: "the child process was killed from outside (SIGKILL)" };
    case "SIGTERM":
    case "SIGINT":
    case "SIGHUP":
      return { kind: "lost", message: `the child process was stopped from outside (${killedBy})` };
    case null:
      return { kind: "crashed", message: `its process exited with code ${code}` };
    default:
      return { kind: "crashed", message: `its process was ended by ${killedBy}` };
  }
}

/** Of one that ended before it had seen a model: whatever it was is about us. */
export function lostText(why: ProcessEnd): string {
  return "message" in why
    ? `the child process did not start: ${why.message}`
    : "the child process did not start";
}
