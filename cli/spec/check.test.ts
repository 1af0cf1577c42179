import type { TSchema } from "typebox";
import { describe, expect, test } from "vitest";
import { modelReleaseSpecSchema } from "../../src/api/model-release.ts";
import { verificationSchema } from "../../src/api/verification-spec.ts";
import { BROKEN_SPECS, REPEATED_ITEMS, soundSpec } from "../../test/builders/broken-specs.ts";
import type { Json } from "../json-pointer.ts";
import { problemsIn, sentence, withDefaults } from "./check.ts";
import { RULES } from "./rules.ts";

const check = (spec: Json) => problemsIn(modelReleaseSpecSchema, withDefaults(modelReleaseSpecSchema, spec));

describe("the rules of the CRD", () => {
  const written = rulesIn(modelReleaseSpecSchema);
  /** Of two objects, one after the other: no file can break it. */
  const immutable = "a ModelRelease is immutable; create a new one for a new version";

  test("are all known here, and no others", () => {
    expect(Object.keys(RULES).sort()).toEqual([...written].sort());
  });

  test("are each broken by a spec below", () => {
    const broken = new Set([immutable, ...BROKEN_SPECS.map(({ rule }) => rule)]);
    expect([...broken].sort()).toEqual([...written].sort());
  });

  test("leave a sound spec alone", () => {
    expect(check(soundSpec)).toEqual([]);
  });

  test.each(BROKEN_SPECS)("$rule", ({ spec, pointer, rule }) => {
    const problems = check(spec);
    expect(problems).toHaveLength(1);
    const [problem] = problems;
    expect(problem?.pointer).toBe(pointer);
    expect(rule.endsWith(problem?.message ?? "nothing")).toBe(true);
  });
});

test.each(REPEATED_ITEMS)(
  "what may be there once and is there twice is refused: $what",
  ({ spec, pointer, message }) => {
    expect(check(spec)).toEqual([{ pointer, message }]);
  },
);

test("defaults come where something was left out or left empty, and nowhere else", () => {
  const filled = withDefaults(verificationSchema, {
    latency: { p95: "20ms", samples: null },
    throughput: null,
    determinism: { runs: 5 },
    memory: { maximum: "64Mi" },
  });
  expect(filled).toEqual({
    timeout: "5m",
    latency: { p95: "20ms", warmup: 10, samples: 200, batchSize: 1, threads: 1 },
    determinism: { runs: 5 },
    memory: { maximum: "64Mi" },
  });
});

test("a decimal without quotes is reported with the quotes it needs", () => {
  const problems = problemsIn(verificationSchema, {
    timeout: "1m",
    parity: { with: "previous", minimumAgreement: 0.95 },
  });
  expect(problems).toEqual([
    { pointer: "/parity/minimumAgreement", message: 'must be in quotes, as a decimal: "0.95"' },
  ]);
});

test.each<[string, Json, Json, string]>([
  ["/latency/p95", { p95: 20 }, null, "must be a duration with its unit: 20ms"],
  ["/latency/p95", { p95: "20" }, null, "must be a duration such as 90s, 10m or 1h30m: here 20ms?"],
  ["/timeout", { p95: "1s" }, "20", "must be a duration such as 90s, 10m or 1h30m: here 20s?"],
  ["/timeout", { p95: "1s" }, 1.5, "must be a duration with its unit: 1.5s"],
  ["/timeout", { p95: "1s" }, true, "must be a string, and YAML reads true here: put it in quotes"],
])("%s says which unit may be meant", (pointer, latency, timeout, message) => {
  const checks = withDefaults(verificationSchema, { latency, timeout });
  expect(problemsIn(verificationSchema, checks)).toEqual([{ pointer, message }]);
});

test.each<[Json, string]>([
  [1e-7, 'must be in quotes, as a decimal: "0.0000001"'],
  [1.5e3 + 0.5, 'must be in quotes, as a decimal: "1500.5"'],
  ["1e-3", 'write a whole number, or quote the decimal, without % or exponent: 200 or "0.05": here "0.001"'],
  ["2.5E2", 'write a whole number, or quote the decimal, without % or exponent: 200 or "0.05": here "250"'],
])("the decimal %j is suggested without its exponent", (minimumPerSecond, message) => {
  const checks = withDefaults(verificationSchema, { throughput: { minimumPerSecond } });
  expect(problemsIn(verificationSchema, checks)).toEqual([
    { pointer: "/throughput/minimumPerSecond", message },
  ]);
});

test.each([
  ["64MB", ": here 64Mi?"],
  ["2 gib", ": here 2Gi?"],
  ["64.5Mi", ", such as 64Mi"],
])("the size %j is reported with the one that was probably meant", (maximum, hint) => {
  expect(problemsIn(verificationSchema, { timeout: "1m", memory: { maximum } })).toEqual([
    { pointer: "/memory/maximum", message: `must be a number of bytes, or a size with Ki, Mi or Gi${hint}` },
  ]);
});

test("a misspelt field is reported with the intended one, at any depth", () => {
  const spec = { ...soundSpec, verification: { golden: {}, latency: { p95: "1s", sample: 3 } }, wersion: 1 };
  expect(check(spec)).toEqual(
    expect.arrayContaining([
      { pointer: "/verification/latency/sample", message: "is not a field; did you mean samples?" },
      { pointer: "/wersion", message: "is not a field; did you mean version?" },
      { pointer: "/verification/golden", message: "needs blob, digest" },
    ]),
  );
});

test("all mistakes are reported, however many there are", () => {
  const tensor = { name: "", type: "float", shape: 1 };
  const problems = check({
    ...soundSpec,
    verification: { signature: { inputs: Array(8).fill(tensor), outputs: [] } },
  });
  expect(problems).toHaveLength(24);
});

test("a field that every object inherits is no field", () => {
  const spec = JSON.parse('{"__proto__": 1, "constructor": 2, "toString": 3}') as Json;
  expect(problemsIn(verificationSchema, spec).map(({ pointer }) => pointer)).toEqual(
    expect.arrayContaining(["/__proto__", "/constructor", "/toString"]),
  );
});

test("a problem is a sentence about its place", () => {
  expect(sentence("--p95", "must be >= 1")).toBe("--p95 must be >= 1");
  expect(sentence("--p95", "write a duration")).toBe("--p95: write a duration");
});

function rulesIn(schema: TSchema): ReadonlySet<string> {
  const found = new Set<string>();
  JSON.stringify(schema, (key, value: unknown) => {
    if (key === "x-kubernetes-validations")
      for (const { message } of value as readonly { readonly message: string }[]) found.add(message);
    return value;
  });
  return found;
}
