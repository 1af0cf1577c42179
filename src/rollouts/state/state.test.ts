import fc from "fast-check";
import { expect, test } from "vitest";
import { PHASES, ROLLBACK_REASONS } from "../../api/inference-deployment.ts";
import { type Instant, instant, timestampOf } from "../../base/time.ts";
import { fieldsOf, type RolloutState, stateOf } from "./state.ts";

const at: fc.Arbitrary<Instant> = fc.integer({ min: 0, max: 4e12 }).map(instant);
const reference = fc.record({
  release: fc.string({ minLength: 1 }),
  digests: fc.array(fc.string(), { maxLength: 3 }),
});
const because = fc.record({
  reason: fc.constantFrom(...ROLLBACK_REASONS),
  message: fc.string(),
  release: fc.string(),
  at,
});
const token = fc.option(fc.string({ minLength: 1 }));
const kept = {
  quarantined: fc.array(fc.record({ release: fc.string(), reason: fc.string(), at }), { maxLength: 3 }),
  handled: fc.record({ abort: token, promote: token, retry: token }),
  history: fc.array(
    fc.record({ at: at.map(timestampOf), phase: fc.constantFrom(...PHASES), message: fc.string() }),
    { maxLength: 3 },
  ),
};
const stable = fc.option(reference);
const exposure = fc.array(
  fc.record(
    { site: fc.string(), deviceClass: fc.string(), threshold: fc.nat(1_000_000), devices: fc.nat() },
    { requiredKeys: ["threshold", "devices"] },
  ),
  { maxLength: 3 },
);
const exposed = {
  ...kept,
  stable,
  candidate: reference,
  step: fc.record({
    index: fc.nat(20),
    percent: fc.integer({ min: 1, max: 100 }),
    startedAt: at,
    waitingSince: at,
    convergedAt: fc.option(at),
    passingSince: fc.option(at),
    pausedAt: fc.option(at),
    lastUnplacedAt: fc.option(at),
    lastObservedAt: at,
    acceptedMissing: fc.nat(),
  }),
  startedAt: at,
  exposure,
  previousExposure: exposure,
  configuredAt: fc.option(at),
};
const phase = <const P extends string>(name: P) => fc.constant(name);

const state: fc.Arbitrary<RolloutState> = fc.oneof(
  fc.record({ ...kept, phase: phase("Pending"), stable, candidate: fc.option(reference) }),
  fc.record({ ...exposed, phase: phase("Progressing") }),
  fc.record({
    ...exposed,
    phase: phase("Holding"),
    holdReason: fc.string(),
    bakingSince: fc.option(at),
    breach: fc.option(because),
  }),
  fc.record({
    ...exposed,
    phase: phase("Frozen"),
    frozenSince: at,
    bakingSince: fc.option(at),
    breach: fc.option(because),
  }),
  fc.record({ ...exposed, phase: phase("Baking"), bakingSince: at }),
  fc.record({ ...kept, phase: phase("Completed"), stable: reference }),
  fc.record({ ...kept, phase: phase("RollingBack"), stable, candidate: reference, exposure, because }),
  fc.record({ ...kept, phase: phase("RolledBack"), stable, because }),
);

test("what is written to status is read back as it was", () => {
  fc.assert(
    fc.property(state, (written) => {
      const stored = JSON.parse(JSON.stringify(fieldsOf(written)));
      expect(stateOf(stored, instant(0))).toEqual(written);
    }),
    { numRuns: 2000 },
  );
});

test("a status that means nothing is no state, and is never taken for progress", () => {
  const now = instant(1_000_000);
  expect(stateOf(null, now)).toBeNull();
  expect(stateOf({}, now)).toBeNull();
  expect(stateOf({ phase: "Sideways" as "Pending" }, now)).toBeNull();
  expect(stateOf({ phase: "Completed" }, now)).toBeNull();
  expect(stateOf({ phase: "Progressing" }, now)).toBeNull();
  expect(stateOf({ phase: "RolledBack" }, now)).toBeNull();
  const candidate = { release: "v2", digests: [] };
  expect(stateOf({ phase: "Baking", candidate }, now)).toMatchObject({ phase: "Pending", candidate });
  expect(stateOf({ phase: "RollingBack", candidate }, now)).toMatchObject({
    phase: "RollingBack",
    candidate,
  });
});

test("a time that cannot be read counts as now: waiting starts over", () => {
  const now = instant(1_000_000);
  const startedAt = "yesterday" as ReturnType<typeof timestampOf>;
  const read = stateOf(
    {
      phase: "Progressing",
      candidate: { release: "v2", digests: [] },
      step: { index: 0, percent: 5, startedAt },
    },
    now,
  );
  expect(read).toMatchObject({ step: { startedAt: now } });
});
