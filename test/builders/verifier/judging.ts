import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Verification } from "../../../src/api/model-release.ts";
import { digestOf } from "../../../src/base/digest.ts";
import { judgeGolden } from "../../../src/verifier/checks/golden.ts";
import type { Judgement } from "../../../src/verifier/checks/judgement.ts";
import { judgeParity, type ParityWanted, paritySections } from "../../../src/verifier/checks/parity.ts";
import { compareAnswers, measureGolden, rememberAnswers } from "../../../src/verifier/child/measure.ts";
import { openModel } from "../../../src/verifier/child/session.ts";
import { goldenSections } from "../../../src/verifier/score/sections.ts";

// The verifier's own measuring and judging, without processes around it.

type Golden = NonNullable<Verification["golden"]>;
export type GoldenBounds = Omit<Golden, "blob" | "digest">;

/** A verdict (`reason` is null where it passed), or why there is none: `because` is what the child process refuses with. */
export type Judged = {
  readonly reason: string | null;
  readonly because: string | null;
  readonly message: string;
  readonly measured: string;
  readonly method: string;
};

export const PLACE = { blob: { container: "models", path: "golden.npz" }, digest: digestOf("") };
const LIMIT = 64 * 2 ** 20;

async function opened<T>(
  bytes: Uint8Array,
  use: (model: Extract<Awaited<ReturnType<typeof openModel>>, { readonly ok: true }>["value"]) => Promise<T>,
): Promise<T> {
  const model = await openModel({ source: bytes, adapted: null }, 1);
  if (!model.ok) throw new Error(model.error.message);
  try {
    return await use(model.value);
  } finally {
    await model.value.release();
  }
}

async function inFile<T>(set: Uint8Array, use: (path: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "judging-"));
  const path = join(directory, "golden");
  try {
    writeFileSync(path, set);
    return await use(path);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

export function judgedGolden(model: Uint8Array, set: Uint8Array, bounds: GoldenBounds): Promise<Judged> {
  const wanted = { ...bounds, ...PLACE };
  return opened(model, (own) =>
    inFile(set, async (path) => {
      const measured = await measureGolden(own, {
        ...{ kind: "golden", path, limit: LIMIT, batchSize: bounds.batchSize ?? null },
        sections: goldenSections(wanted),
        finiteOnly: bounds.nonFinite === "Never",
      });
      return measured.ok
        ? judgedAs(judgeGolden(wanted, measured.value.answer.measured))
        : refused(measured.error.because, measured.error.message);
    }),
  );
}

/** @param set samples; `null`: synthetic ones. */
export async function judgedParity(
  model: Uint8Array,
  other: Uint8Array,
  set: Uint8Array | null,
  bounds: ParityWanted,
): Promise<Judged> {
  const asked = { kind: "remember", limit: LIMIT, batchSize: null } as const;
  const remembered = await opened(other, (reference) =>
    set === null
      ? rememberAnswers(reference, { ...asked, samples: null })
      : inFile(set, (path) => rememberAnswers(reference, { ...asked, samples: { path, limit: LIMIT } })),
  );
  if (!remembered.ok) return refused(remembered.error.because, remembered.error.message);
  return opened(model, async (own) => {
    const question = { kind: "compare", sections: paritySections(bounds) } as const;
    const compared = await compareAnswers(own, remembered.value, question);
    return compared.ok
      ? judgedAs(judgeParity("Parity", bounds, compared.value.measured, "other"))
      : refused(compared.error.because, compared.error.message);
  });
}

function judgedAs({ reason, result }: Judgement): Judged {
  const { message = "", measured = "", method = "" } = result;
  return { reason, because: null, message, measured, method };
}

function refused(because: string, message: string): Judged {
  return { reason: `refused: ${because}`, because, message, measured: "", method: "" };
}
