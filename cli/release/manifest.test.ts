import { expect, test } from "vitest";
import { parse } from "yaml";
import type { JsonObject } from "../json-pointer.ts";
import type { ReleaseOptions } from "./flags.ts";
import { manifestText } from "./manifest.ts";

test("every check that is asked for is written, the usual ones in their order", () => {
  const options = { model: "m", version: "1", name: "m-1", namespace: null, container: "models" };
  const verification: JsonObject = { timeout: "5m", unheardOf: { maximum: "12" }, latency: { p95: "1s" } };
  const text = manifestText(options as ReleaseOptions, { variants: [], golden: null, verification });
  const { spec } = parse(text) as { readonly spec: { readonly verification: JsonObject } };
  expect(Object.entries(spec.verification)).toEqual([
    ["latency", { p95: "1s" }],
    ["timeout", "5m"],
    ["unheardOf", { maximum: "12" }],
  ]);
});
