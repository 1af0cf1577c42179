import { expect, test } from "vitest";
import { redact } from "./redact.ts";

test("signatures, keys and passwords are hidden wherever they are, and nothing else is", () => {
  const written = {
    model: {
      url: "https://store/models/a.onnx?sv=2025&sig=abc%2Fd%3D&se=9",
      digest: "sha256:00",
      sizeBytes: 7,
    },
    registryCredentials: { plant: { username: "u", password: "p4ss", address: "registry" } },
    env: ["HostName=h;DeviceId=d;SharedAccessKey=a2V5", "SIG=lower&sig=x", "design=sigma", null, true],
    connectionString: { value: "x" },
    token: null,
  };
  expect(redact(written)).toEqual({
    model: {
      url: "https://store/models/a.onnx?sv=2025&sig=(hidden)&se=9",
      digest: "sha256:00",
      sizeBytes: 7,
    },
    registryCredentials: { plant: { username: "u", password: "(hidden)", address: "registry" } },
    env: [
      "HostName=h;DeviceId=d;SharedAccessKey=(hidden)",
      "SIG=(hidden)&sig=(hidden)",
      "design=sigma",
      null,
      true,
    ],
    connectionString: "(hidden)",
    token: null,
  });
});
