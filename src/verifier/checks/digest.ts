import { join, relative as relativePath } from "node:path";
import { REASONS } from "../../api/reasons.ts";
import type { VerifyRequest } from "../../verification/verification.ts";
import { error, judged, type Run, type Step } from "./check.ts";
import { failed, type Judgement, passed } from "./judgement.ts";

// Digest: the files are the ones that the release names.

export async function checkDigest(run: Run): Promise<Step> {
  const { model, golden } = run.request;
  const tooLarge = oversized(run.request, run.deps.memoryBytes);
  if (tooLarge !== null) return tooLarge;
  const files: Bytes[] = [];
  for (const [what, from, name] of [
    ["model", model, "model.onnx"],
    ["golden", golden, "golden"],
  ] as const) {
    if (from === null) continue;
    const shown = what === "golden" ? "golden set" : what;
    const got = await run.deps.fetch(from, join(run.directory, name), run.signal);
    if (!got.ok) return error(got.error.reason, `downloading the ${shown}: ${got.error.message}`);
    run.files.set(what, relativePath(run.session.cwd, got.value.path));
    files.push({ what: shown, expected: from.digest, got: got.value.digest });
  }
  return judged(judgeDigests(files));
}

function oversized({ model, golden }: VerifyRequest, memoryBytes: number): Step | null {
  const over = (bytes: number) =>
    `${bytes} bytes, more than the ${memoryBytes} bytes of memory it may use; it was not downloaded`;
  if (model.sizeBytes > memoryBytes)
    return judged(
      failed("Digest", REASONS.OutOfMemory, { message: `the model is ${over(model.sizeBytes)}` }),
    );
  if (golden !== null && golden.sizeBytes > memoryBytes)
    return judged(
      failed("Digest", REASONS.GoldenUnreadable, { message: `the golden set is ${over(golden.sizeBytes)}` }),
    );
  return null;
}

type Bytes = { readonly what: string; readonly expected: string; readonly got: string };

/** `files`: the model and, where there is one, the golden set. */
export function judgeDigests(files: readonly Bytes[]): Judgement {
  const wrong = files.filter(({ expected, got }) => expected !== got);
  const [first] = wrong;
  if (first === undefined) return passed("Digest", { measured: files[0]?.got ?? "" });
  return failed("Digest", REASONS.DigestMismatch, {
    measured: first.got,
    bound: first.expected,
    message: wrong
      .map(({ what, expected, got }) => `the ${what} has digest ${got}, the release specifies ${expected}`)
      .join("; "),
  });
}
