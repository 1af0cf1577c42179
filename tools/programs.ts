import { join } from "node:path";

/** What each program of the product begins with. The child process of the verifier is a program of its own. */
export const PROGRAMS = {
  operator: "src/operator.ts",
  verifier: "src/verifier.ts",
  "verifier-child": "src/verifier/child/main.ts",
  simulator: "simulator/main.ts",
  edgefleet: "cli/main.ts",
} as const;

/**
 * The file that Node runs.
 * @param bundles the folder that `tools/build.ts` has written; left out: the source.
 */
export function programFile(name: keyof typeof PROGRAMS, bundles?: string): string {
  return bundles === undefined
    ? join(import.meta.dirname, "..", PROGRAMS[name])
    : join(bundles, `${name}.js`);
}
