import type { Terminal } from "./terminal.ts";

export const EXIT = { passed: 0, failed: 1, usage: 2, environment: 3 } as const;

/** Reports every mistake in flags and files; returns the exit status. */
export function reportUsageErrors(
  problems: readonly string[],
  terminal: Terminal,
  command: "verify" | "release" | "release new",
): number {
  for (const problem of problems) terminal.err(`${problem}\n`);
  terminal.err(`see edgefleet ${command} --help\n`);
  return EXIT.usage;
}
