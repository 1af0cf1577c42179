import { REASONS } from "../../api/reasons.ts";
import { sideText } from "../onnx/tensor.ts";
import { ask, endText } from "./ask.ts";
import { error, fileOf, judged, type Run, type Step, startProcess, threadsOf } from "./check.ts";
import { passed } from "./judgement.ts";

// Load: ONNX Runtime takes the model.

export async function checkLoad(run: Run): Promise<Step> {
  const started = await startProcess(run);
  if (!started.ok) return error(REASONS.VerificationError, endText(started.error));
  run.child = started.value;
  const path = fileOf(run, "model");
  const loaded = await ask(run, run.child, "Load", { kind: "load", path, threads: threadsOf(run.request) });
  if (!loaded.ok) return loaded.error;
  const { signature, file } = loaded.value;
  const { digest: sha256, sizeBytes } = run.request.model;
  run.model = { digest: sha256, sizeBytes, ...file, ...signature };
  const opsets = file.opsets.map(({ domain, version }) => `${domain === "" ? "" : `${domain} `}${version}`);
  return judged({
    ...passed("Load", {
      measured: `${sideText(signature.inputs)} → ${sideText(signature.outputs)}`,
      method: `opset ${opsets.join(", ")}, IR version ${file.irVersion}, ${file.nodes} nodes of ${file.operators.length} operators, ${file.parameters} parameters`,
    }),
    details: file,
  });
}
