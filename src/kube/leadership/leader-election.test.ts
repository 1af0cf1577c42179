import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { lease } from "../../../test/builders/lease.ts";
import { createFakeRuntime, type FakeRuntime } from "../../../test/fakes/fake-runtime.ts";
import { err, ok } from "../../base/result.ts";
import {
  type Clock,
  elapsed,
  type Instant,
  instant,
  type Millis,
  millis,
  minutes,
  seconds,
} from "../../base/time.ts";
import { leadAlone, whileLeading } from "./leader-election.ts";
import { LEASE_TIMING, type Lease } from "./lease.ts";
import type { LeaseStore } from "./lease-store.ts";

const never = new AbortController().signal;
const timing = LEASE_TIMING;

// ── a Lease on a server in memory, with slow and lossy connections

type Weather = {
  readonly before: number;
  readonly after: number;
  readonly lost: "request" | "answer" | null;
};
const CALM: Weather = { before: 5, after: 5, lost: null };

function createServer(clock: Clock, weather: () => Weather = () => CALM) {
  let stored: Lease | null = null;
  let version = 0;

  function connect(local: Clock): LeaseStore {
    /** The server does its part even when the caller has given up. */
    async function exchange<T>(serve: () => T, signal: AbortSignal) {
      const { before, after, lost } = weather();
      const gone = err({ kind: "unavailable" as const, message: "no answer" });
      const served = (async () => {
        await clock.sleep(millis(before), never);
        if (lost === "request") return gone;
        const answer = serve();
        await clock.sleep(millis(after), never);
        return lost === "answer" ? gone : answer;
      })();
      const answered = new AbortController();
      const longest = local.sleep(minutes(600), AbortSignal.any([signal, answered.signal])).then(() => gone);
      return Promise.race([served, longest]).finally(() => answered.abort());
    }
    return {
      read: (signal) => exchange(() => ok(stored), signal),
      write: (next, expected, signal) =>
        exchange(() => {
          if ((stored?.version ?? null) !== expected)
            return err({ kind: "conflict" as const, message: "changed" });
          version += 1;
          stored = { ...next, version: String(version) };
          return ok(stored);
        }, signal),
    };
  }
  return { connect, stored: () => stored };
}

type Pause = { readonly from: number; readonly to: number };

/** A machine of its own: its wall clock may be wrong, and it may stand still for a while. */
function createMachine(runtime: FakeRuntime, offset: number, pauses: readonly Pause[]) {
  const start = runtime.clock.now();
  const pausedAt = (at: Instant) => pauses.find(({ from, to }) => at - start >= from && at - start < to);
  const clock: Clock = {
    now: () => instant(runtime.clock.now() + offset),
    sleep: async (delay, signal) => {
      await runtime.clock.sleep(delay, signal);
      for (
        let pause = pausedAt(runtime.clock.now());
        pause !== undefined;
        pause = pausedAt(runtime.clock.now())
      )
        await runtime.clock.sleep(millis(start + pause.to - runtime.clock.now()), never);
    },
  };
  return { clock, isPaused: () => pausedAt(runtime.clock.now()) !== undefined };
}

function createCandidate(
  runtime: FakeRuntime,
  me: string,
  server: ReturnType<typeof createServer>,
  machine: ReturnType<typeof createMachine> = createMachine(runtime, 0, []),
  tidyUp: Millis = millis(0),
) {
  const stop = new AbortController();
  let working = false;
  let bodies = 0;
  const terms: { readonly from: Instant; to: Instant | null }[] = [];
  const body = async (signal: AbortSignal) => {
    bodies += 1;
    expect(bodies).toBe(1); // never two bodies in one process
    const term: { readonly from: Instant; to: Instant | null } = { from: runtime.clock.now(), to: null };
    terms.push(term);
    working = true;
    signal.addEventListener("abort", () => {
      working = false;
      term.to = runtime.clock.now();
    });
    await machine.clock.sleep(minutes(6000), signal);
    await machine.clock.sleep(tidyUp, never);
    working = false;
    bodies -= 1;
  };
  const ended = whileLeading(
    { store: server.connect(machine.clock), me, timing },
    { ...runtime, clock: machine.clock },
    stop.signal,
    body,
  );
  return { me, stop, ended, terms, leads: () => working && !machine.isPaused() };
}

test("a process without an election is measured as the leader while it works", async () => {
  const { meter } = createFakeRuntime();
  const leader = () => meter.value("edgefleet_leader");
  await leadAlone({ meter }, never, async () => expect(leader()).toBe(1));
  expect(leader()).toBe(0);
});

describe("an election", () => {
  test("is won by one candidate, which stays leader while nothing fails", async () => {
    const runtime = createFakeRuntime();
    const server = createServer(runtime.clock);
    const a = createCandidate(runtime, "a", server);
    const b = createCandidate(runtime, "b", server);
    await runtime.clock.advance(minutes(10));
    expect([a.leads(), b.leads()].filter(Boolean).length).toBe(1);
    expect(a.terms.length + b.terms.length).toBe(1);
    expect(server.stored()?.transitions).toBe(0);
    expect(elapsed(server.stored()?.acquiredAt ?? runtime.clock.now(), runtime.clock.now())).toBeGreaterThan(
      minutes(9),
    );
    expect(elapsed(server.stored()?.renewedAt ?? instant(0), runtime.clock.now())).toBeLessThan(2500);
    a.stop.abort();
    b.stop.abort();
    await runtime.clock.advance(seconds(5));
    await Promise.all([a.ended, b.ended]);
    expect(runtime.meter.value("edgefleet_leader")).toBe(0);
  });

  test("passes to the next within 20 s when the leader dies", async () => {
    const runtime = createFakeRuntime();
    const server = createServer(runtime.clock);
    const dies = createMachine(runtime, 0, [{ from: 61_000, to: Number.MAX_SAFE_INTEGER }]);
    const a = createCandidate(runtime, "a", server, dies);
    await runtime.clock.advance(seconds(1));
    const b = createCandidate(runtime, "b", server);
    await runtime.clock.advance(seconds(60));
    expect(server.stored()?.holder).toBe("a");
    expect(b.terms.length).toBe(0);
    await runtime.clock.advance(seconds(13));
    expect(b.leads()).toBe(false); // not before the Lease has run out
    await runtime.clock.advance(seconds(7));
    expect(b.leads()).toBe(true);
    expect(server.stored()).toMatchObject({ holder: "b", transitions: 1 });
    expect(a.leads()).toBe(false);
  });

  test("passes to the next at once when the leader is stopped, once its work has ended and not before", async () => {
    const runtime = createFakeRuntime();
    const server = createServer(runtime.clock);
    const a = createCandidate(runtime, "a", server, createMachine(runtime, 0, []), seconds(30));
    await runtime.clock.advance(seconds(1));
    const b = createCandidate(runtime, "b", server);
    await runtime.clock.advance(seconds(10));
    a.stop.abort();
    await runtime.clock.advance(seconds(29));
    expect(a.leads()).toBe(false);
    expect(server.stored()?.holder).toBe("a"); // it is still tidying up, and holds the Lease
    await runtime.clock.advance(seconds(4));
    await a.ended;
    expect(b.leads()).toBe(true);
  });

  test("is over for a leader that cannot renew in time, before another candidate can win it", async () => {
    const runtime = createFakeRuntime();
    let cut = false;
    const server = createServer(runtime.clock, () => (cut ? { ...CALM, lost: "request" } : CALM));
    const a = createCandidate(runtime, "a", server);
    await runtime.clock.advance(seconds(31));
    cut = true;
    await runtime.clock.advance(seconds(8));
    expect(a.leads()).toBe(true); // a short outage is no reason
    await runtime.clock.advance(seconds(2));
    expect(a.leads()).toBe(false);
    expect(runtime.log.lines().filter(({ message }) => message === "no longer leading").length).toBe(1);
    cut = false;
    await runtime.clock.advance(seconds(5));
    expect(a.leads()).toBe(true); // it leads again without help
    expect(a.terms.length).toBe(2);
  });

  test("survives an answer that is lost: the Lease is ours under a newer version", async () => {
    const runtime = createFakeRuntime();
    let lose = false;
    const server = createServer(runtime.clock, () => {
      const lost = lose ? "answer" : null;
      lose = false;
      return { ...CALM, lost };
    });
    const a = createCandidate(runtime, "a", server);
    await runtime.clock.advance(seconds(9));
    lose = true;
    await runtime.clock.advance(minutes(2));
    expect(a.leads()).toBe(true);
    expect(a.terms.length).toBe(1);
  });

  test.each<[string, readonly Partial<Weather>[]]>([
    // The calls are: read, acquire, first renewal (2 s), and so on; after them every request is lost.
    ["a renewal was sent, not from when its slow answer came", [{}, {}, { after: 7000 }]],
    [
      "the last proven renewal was sent, not from when the Lease was looked at",
      [{}, {}, { lost: "answer" }, {}, {}],
    ],
  ])("is proven from when %s", async (_what, script) => {
    const runtime = createFakeRuntime();
    let calls = 0;
    const server = createServer(runtime.clock, () => {
      calls += 1;
      return { ...CALM, ...(script[calls - 1] ?? { lost: "request" }) };
    });
    const a = createCandidate(runtime, "a", server);
    await runtime.clock.advance(millis(9900));
    expect(a.leads()).toBe(true);
    await runtime.clock.advance(millis(2500));
    expect(a.leads()).toBe(false);
  });

  test("is not won by an answer that came too late to prove anything", async () => {
    const runtime = createFakeRuntime();
    const calm = createServer(runtime.clock).connect(runtime.clock);
    const slow: LeaseStore = {
      read: calm.read,
      write: async (next, expected) => {
        await runtime.clock.sleep(seconds(11), never); // deaf to its signal
        return calm.write(next, expected, never);
      },
    };
    let led = false;
    const stop = new AbortController();
    const ended = whileLeading({ store: slow, me: "a", timing }, runtime, stop.signal, async () => {
      led = true;
    });
    await runtime.clock.advance(minutes(1));
    expect(led).toBe(false);
    stop.abort();
    await runtime.clock.advance(minutes(1));
    await ended;
  });

  test("is lost at once to a process that took it by force", async () => {
    const runtime = createFakeRuntime();
    const server = createServer(runtime.clock);
    const a = createCandidate(runtime, "a", server);
    await runtime.clock.advance(seconds(9));
    const usurper = server.connect(runtime.clock);
    const taken = usurper.write({ ...lease({ holder: "x" }) }, server.stored()?.version ?? null, never);
    await runtime.clock.advance(seconds(4));
    expect((await taken).ok).toBe(true);
    expect(a.leads()).toBe(false);
  });

  test("ends with its body, and releases the Lease, also when the body throws", async () => {
    const runtime = createFakeRuntime();
    const server = createServer(runtime.clock);
    const election = { store: server.connect(runtime.clock), me: "a", timing };
    const failed = whileLeading(election, runtime, never, async () => {
      await runtime.clock.sleep(seconds(5), never);
      throw new Error("a part failed");
    });
    const failure = expect(failed).rejects.toThrow("a part failed");
    await runtime.clock.advance(seconds(10));
    await failure;
    expect(server.stored()?.holder).toBeNull();
    expect(runtime.clock.next()).toBeNull(); // nothing is left running
  });

  test("can be stopped while it waits", async () => {
    const runtime = createFakeRuntime();
    const server = createServer(runtime.clock);
    createCandidate(runtime, "a", server);
    await runtime.clock.advance(seconds(1));
    const b = createCandidate(runtime, "b", server);
    await runtime.clock.advance(seconds(5));
    b.stop.abort();
    await runtime.clock.settle();
    await b.ended;
    expect(server.stored()?.holder).toBe("a");
  });
});

const someWeather: fc.Arbitrary<Weather> = fc.record({
  before: fc.oneof(
    { weight: 5, arbitrary: fc.integer({ min: 0, max: 200 }) },
    fc.integer({ min: 0, max: 20_000 }),
  ),
  after: fc.oneof(
    { weight: 5, arbitrary: fc.integer({ min: 0, max: 200 }) },
    fc.integer({ min: 0, max: 20_000 }),
  ),
  lost: fc.oneof(
    { weight: 6, arbitrary: fc.constant(null) },
    fc.constantFrom("request" as const, "answer" as const),
  ),
});
const somePause: fc.Arbitrary<Pause> = fc
  .record({ from: fc.integer({ min: 0, max: 150_000 }), length: fc.integer({ min: 1, max: 40_000 }) })
  .map(({ from, length }) => ({ from, to: from + length }));
const someMachine = fc.record({
  offset: fc.integer({ min: -86_400_000, max: 86_400_000 }),
  pauses: fc.array(somePause, { maxLength: 3 }),
  joins: fc.integer({ min: 0, max: 30_000 }),
  leaves: fc.option(fc.integer({ min: 30_000, max: 150_000 }), { nil: null }),
});

test("there are never two leaders at once, whatever the network and the machines do, and there is one once they recover", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(someMachine, { minLength: 2, maxLength: 3 }),
      fc.array(someWeather, { minLength: 1, maxLength: 80, size: "max" }),
      async (machines, weathers) => {
        const runtime = createFakeRuntime();
        const started = runtime.clock.now();
        let calls = 0;
        let calm = false;
        const server = createServer(runtime.clock, () => {
          calls += 1;
          return calm ? CALM : (weathers[calls % weathers.length] ?? CALM);
        });
        const candidates: ReturnType<typeof createCandidate>[] = [];
        const plan = machines.flatMap(({ offset, pauses, joins, leaves }, index) => {
          const machine = createMachine(runtime, offset, pauses);
          let candidate: ReturnType<typeof createCandidate> | null = null;
          const join = () => {
            candidate = createCandidate(runtime, `machine-${index}`, server, machine);
            candidates.push(candidate);
          };
          const leave = { at: leaves ?? Number.POSITIVE_INFINITY, run: () => candidate?.stop.abort() };
          return index === 0 ? [{ at: joins, run: join }] : [{ at: joins, run: join }, leave];
        });
        plan.sort((one, other) => one.at - other.at);

        /** Steps from timer to timer, so that no moment is missed. */
        async function runUntil(end: number): Promise<void> {
          for (;;) {
            const due = plan[0]?.at ?? Number.POSITIVE_INFINITY;
            const next = Math.min((runtime.clock.next() ?? Number.POSITIVE_INFINITY) - started, due, end);
            await runtime.clock.advance(millis(Math.max(0, next - elapsed(started, runtime.clock.now()))));
            if (due <= next) plan.shift()?.run();
            await runtime.clock.settle();
            expect(candidates.filter((candidate) => candidate.leads()).length).toBeLessThanOrEqual(1);
            if (next >= end) return;
          }
        }
        await runUntil(200_000);
        calm = true;
        await runUntil(260_000);
        expect(candidates.filter((candidate) => candidate.leads()).length).toBe(1);
        for (const { stop } of candidates) stop.abort();
        await runtime.clock.advance(minutes(2));
        await Promise.all(candidates.map(({ ended }) => ended));
      },
    ),
    { numRuns: 60 },
  );
});
