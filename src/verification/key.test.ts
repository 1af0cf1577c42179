import { describe, expect, test } from "vitest";
import type { Digest } from "../base/digest.ts";
import type { Duration } from "../base/time.ts";
import { keyOf } from "./key.ts";
import type { VerifyRequest } from "./verification.ts";

const MODEL = `sha256:${"1".repeat(64)}`;
const GOLDEN = `sha256:${"2".repeat(64)}` as Digest;
const REQUEST: VerifyRequest = {
  tenant: "plant-a",
  parity: null,
  variantParity: null,
  model: { url: "https://store/models/a.onnx?sig=abc", digest: MODEL, sizeBytes: 10 },
  golden: { url: "https://store/models/a.npz?sig=abc", digest: GOLDEN, sizeBytes: 10 },
  checks: {
    timeout: "5m" as Duration,
    golden: { blob: { container: "models", path: "a.npz" }, digest: GOLDEN, minimumAccuracy: "0.9" },
  },
};
const { checks } = REQUEST;
const key = keyOf(REQUEST, "v1");

describe("the key of a request", () => {
  test("differs for each round, and is the same within one", () => {
    const rounds = [null, "2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z"];
    const keys = rounds.map((round) => keyOf({ ...REQUEST, round }, "v1"));
    expect(new Set(keys).size).toBe(3);
    expect(keys[0]).toBe(key);
  });

  test("is a path segment", () => {
    expect(key).toMatch(/^[0-9a-f]{64}$/);
  });

  test.each<[string, VerifyRequest]>([
    ["another url", { ...REQUEST, model: { ...REQUEST.model, url: "https://store/models/a.onnx?sig=def" } }],
    [
      "a golden set that was moved",
      {
        ...REQUEST,
        checks: { ...checks, golden: { ...checks.golden!, blob: { container: "other", path: "b.npz" } } },
      },
    ],
    [
      "fields in another order",
      {
        checks: { golden: checks.golden!, timeout: checks.timeout },
        variantParity: null,
        parity: null,
        golden: REQUEST.golden,
        model: REQUEST.model,
        tenant: REQUEST.tenant,
      },
    ],
    ["another tenant", { ...REQUEST, tenant: "plant-b" }],
    [
      "another time to ask again",
      { ...REQUEST, checks: { ...checks, reverify: { every: "24h" as Duration } } },
    ],
  ])("is the same with %s", (_what, request) => {
    expect(keyOf(request, "v1")).toBe(key);
  });

  test.each<[string, VerifyRequest, string]>([
    ["another model", { ...REQUEST, model: { ...REQUEST.model, digest: GOLDEN } }, "v1"],
    ["another golden set", { ...REQUEST, golden: { ...REQUEST.golden!, digest: MODEL } }, "v1"],
    [
      "another bound",
      { ...REQUEST, checks: { ...checks, golden: { ...checks.golden!, minimumAccuracy: "0.91" } } },
      "v1",
    ],
    ["another model to compare with", { ...REQUEST, parity: { ...REQUEST.model, name: "v0" } }, "v1"],
    [
      "another variant to compare with",
      { ...REQUEST, variantParity: { ...REQUEST.model, name: "fp32" } },
      "v1",
    ],
    ["another timeout", { ...REQUEST, checks: { ...checks, timeout: "6m" as Duration } }, "v1"],
    ["no golden set", { ...REQUEST, golden: null, checks: { timeout: checks.timeout } }, "v1"],
    ["another verifier", REQUEST, "v2"],
  ])("is another with %s", (_what, request, version) => {
    expect(keyOf(request, version)).not.toBe(key);
  });

  test("is another for another blob, and for another state of it, whatever its digest", () => {
    const blob = { container: "models", path: "a.onnx", etag: "1" };
    const keys = [
      blob,
      { ...blob, path: "b.onnx" },
      { ...blob, container: "others" },
      { ...blob, etag: "2" },
    ].map((one) => keyOf({ ...REQUEST, model: { digest: MODEL, blob: one } }, "v1"));
    expect(new Set([key, ...keys]).size).toBe(5);
    expect(keyOf({ ...REQUEST, model: { digest: MODEL, blob: { ...blob } } }, "v1")).toBe(keys[0]);
  });
});
