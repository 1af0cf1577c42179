import fc from "fast-check";
import { expect, test } from "vitest";
import { releaseSpec, variant } from "../../test/builders/releases.ts";
import { Crash, createCalls, type Mishap } from "../../test/fakes/calls.ts";
import { createReleaseWorld } from "../../test/fakes/release-world.ts";
import { modelReleaseStatusSchema, type VariantStatus } from "../api/model-release.ts";
import { parse } from "../api/parse.ts";
import { objectKey } from "../api/resource.ts";
import { canonicalJson } from "../base/digest.ts";
import { type Duration, millis } from "../base/time.ts";
import type { VerifyReport } from "../verification/verification.ts";

// Whatever happens in whatever order: what holds of verdicts all the time.

const KEY = objectKey("plant-a", "resnet50-2.1.0");
const VARIANTS = [variant("fp32"), variant("int8", { deviceClasses: ["jetson-nano"] })];

type Event =
  | { readonly kind: "pass" | "restart" | "forget" | "upload" | "lose" }
  | { readonly kind: "ask" | "version"; readonly token: string }
  | {
      readonly kind: "answer";
      readonly which: number;
      readonly how: "passed" | "failed" | "error" | "denied";
    }
  | { readonly kind: "time"; readonly minutes: number }
  | { readonly kind: "mishap"; readonly mishap: Mishap };

const AWAY = { kind: "unavailable", message: "away" } as const;
const eventArbitrary: fc.Arbitrary<Event> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("pass" as const) }) },
  fc.record({
    kind: fc.constantFrom("restart" as const, "forget" as const, "upload" as const, "lose" as const),
  }),
  fc.record({ kind: fc.constant("ask" as const), token: fc.constantFrom("a", "b", "c") }),
  fc.record({ kind: fc.constant("version" as const), token: fc.constantFrom("1.0.0", "1.1.0") }),
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("answer" as const),
      which: fc.nat(1),
      how: fc.constantFrom("passed" as const, "failed" as const, "error" as const, "denied" as const),
    }),
  },
  fc.record({ kind: fc.constant("time" as const), minutes: fc.constantFrom(0.2, 1, 15, 70, 60 * 24) }),
  fc.record({
    kind: fc.constant("mishap" as const),
    mishap: fc.constantFrom<Mishap>(
      { kind: "crash", when: "before" },
      { kind: "crash", when: "after" },
      { kind: "lost" },
      { kind: "fault", fault: AWAY },
      { kind: "fault", fault: { kind: "conflict", message: "changed" } },
    ),
  }),
);

function reportOf(how: Extract<Event, { kind: "answer" }>["how"], verifierVersion: string): VerifyReport {
  const checks = [{ name: "Digest", outcome: "Passed" }] as const;
  switch (how) {
    case "passed":
      return { kind: "passed", checks, verifierVersion };
    case "failed":
      return { kind: "failed", reason: "LatencyTooHigh", message: "slow", checks, verifierVersion };
    case "error":
      return { kind: "error", reason: "VerificationError", message: "no space left" };
    case "denied":
      return { kind: "error", reason: "StoreDenied", message: "403" };
  }
}

const stands = ({ verdict }: VariantStatus) => verdict === "Passed" || verdict === "Failed";

async function live(events: readonly Event[]) {
  const calls = createCalls();
  const world = createReleaseWorld(calls);
  let version = "1.0.0";
  const { golden } = releaseSpec().verification!;
  world.create({
    variants: VARIANTS,
    verification: {
      timeout: "5m" as Duration,
      golden: golden!,
      variantParity: { reference: "fp32", minimumAgreement: "0.9" },
      reverify: { every: "24h" as Duration },
    },
  });
  let before: readonly VariantStatus[] = [];

  async function pass(): Promise<void> {
    await world.clock.advance(millis(1)); // no two verdicts within one moment
    try {
      await world.pass();
    } catch (thrown) {
      if (!(thrown instanceof Crash)) throw thrown;
      world.restart();
    }
    check();
  }

  function check(): void {
    const status = world.releases.get(KEY)?.status ?? {};
    expect(parse(modelReleaseStatusSchema, status)).toMatchObject({ ok: true });
    const variants = status.variants ?? [];
    for (const had of before.filter(stands)) {
      const has = variants.find(({ name }) => name === had.name);
      // A verdict gives way to a verdict only.
      expect(has !== undefined && stands(has), JSON.stringify([had, has])).toBe(true);
      if (has?.verifiedAt === had.verifiedAt) expect(has?.verdict).toBe(had.verdict);
    }
    const ready = status.conditions?.find(({ type }) => type === "Ready")?.status;
    const verdicts = variants.map(({ verdict }) => verdict);
    if (verdicts.length === 2 && verdicts.every((verdict) => verdict === "Passed"))
      expect(ready).toBe("True");
    if (verdicts.includes("Failed")) expect(ready).not.toBe("True");
    for (const { digest } of VARIANTS)
      expect(
        world.verifier.running().filter(({ model }) => model.digest === digest).length,
      ).toBeLessThanOrEqual(2);
    before = variants;
  }

  for (const event of events) {
    switch (event.kind) {
      case "pass":
        await pass();
        break;
      case "restart":
        world.restart();
        break;
      case "forget":
        world.verifier.forget();
        break;
      case "lose":
        world.blobs.remove(VARIANTS[0]!.blob);
        break;
      case "upload":
        world.blobs.upload(VARIANTS[0]!.blob, Buffer.from("fp32"));
        break;
      case "ask":
        world.releases.edit(KEY, { annotations: { "edgefleet.dev/reverify": event.token } });
        break;
      case "version":
        version = event.token;
        world.verifier.setVersion(version);
        break;
      case "answer":
        world.verifier.answer(VARIANTS[event.which]!.digest, reportOf(event.how, version));
        break;
      case "time":
        await world.clock.advance(millis(event.minutes * 60_000));
        break;
      case "mishap":
        calls.clear();
        calls.spoil(0, event.mishap);
        await pass();
        break;
    }
  }

  // Then all is well again, and it comes to rest: both variants judged by the newest question, nothing under way.
  calls.heal();
  world.blobs.upload(VARIANTS[0]!.blob, Buffer.from("fp32"));
  world.restart();
  for (let count = 0; count < 12; count += 1) {
    for (const { digest } of VARIANTS) world.verifier.answer(digest, reportOf("passed", version));
    await pass();
    await world.clock.advance(millis(700_000));
  }
  const rested = canonicalJson(world.releases.get(KEY));
  await pass();
  expect(canonicalJson(world.releases.get(KEY))).toBe(rested);
  return world;
}

test("verdicts give way to verdicts only, statuses fit the schema, and in the end all is judged and at rest", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(eventArbitrary, { maxLength: 40 }), async (events) => {
      const world = await live(events);
      const { variants = [], conditions = [] } = world.status();
      expect(variants.map(({ verdict }) => verdict).every((verdict) => verdict !== "Pending")).toBe(true);
      for (const one of variants) {
        expect(stands(one)).toBe(true);
        expect(one).not.toHaveProperty("reverification");
        expect(one.report !== undefined || one.reportError !== undefined).toBe(true);
      }
      expect(conditions.map(({ type }) => type)).not.toContain("Reconciling");
      expect(world.verifier.running()).toEqual([]);
    }),
    { numRuns: 80 },
  );
});
