import { expect, test } from "vitest";
import { redacted } from "./redact.ts";

test.each([
  [
    "cannot read https://store.example/models/a.onnx?sv=2026&sig=c2VjcmV0 from here",
    "cannot read https://store.example/models/a.onnx?… from here",
  ],
  [
    "HostName=a.example;DeviceId=b;SharedAccessKey=c2VjcmV0==",
    "HostName=a.example;DeviceId=b;SharedAccessKey=[redacted]",
  ],
  [
    "authorization: SharedAccessSignature sr=a&sig=c2VjcmV0&se=1",
    "authorization: SharedAccessSignature [redacted]",
  ],
  ['{"primaryKey":"c2VjcmV0","etag":"1"}', '{"primaryKey":"[redacted]","etag":"1"}'],
  ["digest differs: sha256:00", "digest differs: sha256:00"],
])("%s is shown without its secrets", (text, shown) => {
  expect(redacted(text)).toBe(shown);
});

test("a long text is cut to the limit", () => {
  expect(redacted("x".repeat(600), 100)).toBe(`${"x".repeat(99)}…`);
});
