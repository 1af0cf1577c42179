import { expect, test } from "vitest";
import { cleanMessage } from "./runtime-message.ts";

test.each([
  [
    "/onnxruntime_src/onnxruntime/core/graph/model_load_utils.h:46 void onnxruntime::model_load_utils::ValidateOpsetForDomain(const std::unordered_map<std::basic_string<char>, int>&, const onnxruntime::logging::Logger&, bool, const string&, int) ONNX Runtime only *guarantees* support",
    "ONNX Runtime only *guarantees* support",
  ],
  [
    "Non-zero status code returned while running Reshape node. Name:'' Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:46 onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, onnxruntime::TensorShapeVector&, bool) size != 0 was false.",
    "Non-zero status code returned while running Reshape node. Name:'' Status Message: size != 0 was false.",
  ],
  [
    "Exception during initialization: /onnxruntime_src/onnxruntime/core/providers/cpu/nn/string_normalizer.cc:89 onnxruntime::string_normalizer::Locale::Locale(const string&)::<lambda()> Failed to construct locale",
    "Exception during initialization: Failed to construct locale",
  ],
  ["a message about /models/resnet.onnx", "a message about /models/resnet.onnx"],
])("what means nothing to the owner of a model is left out of %s", (message, clean) => {
  expect(cleanMessage(message)).toBe(clean);
});

test("a long message is cleaned in no time worth the name", () => {
  for (const part of ["/a", "onnxruntime::", "(", "onnxruntime::a("])
    expect(cleanMessage(part.repeat(4096 / part.length))).not.toContain("\n");
});
