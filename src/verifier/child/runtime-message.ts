/**
 * A message of ONNX Runtime without what means nothing to the owner of the model: places in its sources, and the C++
 * signature that follows each of them.
 */
export function cleanMessage(message: string): string {
  return message
    .replaceAll(SOURCE_PLACE, "")
    .replaceAll(SIGNATURE, "")
    .replaceAll(/\s{2,}/g, " ")
    .trim();
}

/** `/onnxruntime_src/onnxruntime/core/…/reshape_helper.h:47 ` */
const SOURCE_PLACE = /(?:\/[\w.+-]+)+\.(?:cc|cpp|h|hpp|cu):\d+\s?/g;
/** `void onnxruntime::ReshapeHelper::ReshapeHelper(const TensorShape&, bool) const [with T = float] ` */
const SIGNATURE =
  /(?:\b(?:void|bool|auto|[\w:]{0,60}Status) )?\bonnxruntime::[\w:~<>]+\((?:[^()]|\([^()]*\))*\)(?: const)?(?:::<lambda\([^)]*\)>)?(?: \[with [^\]]*\])? ?/g;
