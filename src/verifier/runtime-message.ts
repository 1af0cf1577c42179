/**
 * A message of ONNX Runtime without what means nothing to whoever has the model: places in its sources, C++ signatures,
 * and its own error codes.
 */
export function cleanMessage(message: string): string {
  return message
    .replaceAll(SOURCE_PLACE, "")
    .replaceAll(
      /\bonnxruntime::(?:[\w:~<>]|\((?=\)))+\((?:[^()]|\([^()]*\))*\)(?: const)?(?: \[with [^\]]*\])? ?/g,
      "",
    )
    .replaceAll(/\s{2,}/g, " ")
    .trim();
}

/** `/onnxruntime_src/onnxruntime/core/…/reshape_helper.h:47 `, and the file alone. */
const SOURCE_PLACE = /(?:\/[\w.+-]+)+\.(?:cc|cpp|h|hpp|cu):\d+\s?/g;
