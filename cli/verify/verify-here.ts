import { tmpdir } from "node:os";
import { errorCodeOf } from "../../src/base/guards.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import type { VerifyRequest } from "../../src/verification/verification.ts";
import { type Verified, verify } from "../../src/verifier/checks/run.ts";
import type { Sandbox } from "../../src/verifier/process/sandbox.ts";
import { installedVersion } from "../../src/verifier/service/installed-version.ts";
import { fileFault } from "../file-fault.ts";
import type { LocalFiles } from "./local-files.ts";

/**
 * A verification as the sidecar runs it, with files of this machine: the same checks in the same process and sandbox, as
 * far as this machine supports it.
 * @param begin receives the name of each check when it starts.
 */
export async function verifyHere(
  request: VerifyRequest,
  about: {
    readonly files: LocalFiles;
    readonly memoryBytes: number;
    /** What this machine can do, which is tried while files are read. */
    readonly sandbox: Promise<Sandbox>;
    readonly begin: (check: string) => void;
  },
  signal: AbortSignal,
): Promise<Verified> {
  const { files, memoryBytes, begin } = about;
  try {
    const sandbox = await about.sandbox;
    const deps = {
      workdir: tmpdir(),
      memoryBytes,
      sandbox,
      fetch: files.fetch(sandbox.features),
      version: await installedVersion(),
      clock: systemClock(),
    };
    const verified = await verify(request, begin, deps, signal);
    const changed = await files.changed();
    return changed === null ? verified : noVerdict(`${changed} was changed while it was verified`);
  } catch (thrown) {
    // Errors of the system come from the directory of the verification.
    if (errorCodeOf(thrown) === null) throw thrown;
    return noVerdict(`cannot use ${tmpdir()}: ${fileFault(thrown)}`);
  }
}

function noVerdict(message: string): Verified {
  return { report: { kind: "error", reason: "VerificationError", message }, full: null };
}
