import { tmpdir } from "node:os";
import { systemClock } from "../src/runtime/clock.ts";
import type { VerifyRequest } from "../src/verification/verification.ts";
import { buildSandbox } from "../src/verifier/sandbox.ts";
import { type Verified, verify } from "../src/verifier/verify.ts";
import { verifierVersion } from "../src/verifier/version.ts";
import type { LocalFiles } from "./local-files.ts";
import { fileFault } from "./yaml-file.ts";

/**
 * A verification as the sidecar makes it, with files of this machine: the same checks in the same process behind the
 * same walls, as far as this machine has them.
 * @param begin is told the name of each check when it starts.
 */
export async function verifyHere(
  request: VerifyRequest,
  about: {
    readonly files: LocalFiles;
    readonly memoryBytes: number;
    readonly begin: (check: string) => void;
  },
  signal: AbortSignal,
): Promise<Verified> {
  const { files, memoryBytes, begin } = about;
  try {
    const sandbox = await buildSandbox();
    const place = { workdir: tmpdir(), memoryBytes, sandbox };
    const version = await verifierVersion(place, signal);
    if (!version.ok) return noVerdict(version.error);
    const deps = {
      ...place,
      fetch: files.fetch(sandbox.walls),
      version: version.value,
      clock: systemClock(),
    };
    const verified = await verify(request, begin, deps, signal);
    const changed = await files.changed();
    return changed === null ? verified : noVerdict(`${changed} was changed while it was verified`);
  } catch (thrown) {
    // Only the system can be in the way of a directory for the verification.
    if (!(thrown instanceof Error && "code" in thrown)) throw thrown;
    return noVerdict(`cannot use ${tmpdir()}: ${fileFault(thrown)}`);
  }
}

function noVerdict(message: string): Verified {
  return { report: { kind: "error", reason: "VerificationError", message }, full: null };
}
