import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { InferenceReport } from "../../api/device-contract.ts";
import { instant, minutes, seconds, timestampOf } from "../../base/time.ts";
import { CLOCK_SKEW, hear, implausibleBecause, LONGEST_WINDOW, MOST_PER_SECOND } from "./plausible.ts";

const NOW = instant(Date.UTC(2026, 0, 10));
const at = (ago: number) => timestampOf(instant(NOW - ago));

type Window = NonNullable<InferenceReport["window"]>;

function windowOf(more: Partial<Window> = {}): Window {
  return {
    release: "plant-a.v2",
    seconds: 60,
    inferences: 600,
    errors: 3,
    framesPerSecond: 10,
    latencyMilliseconds: { p50: 20, p95: 40, p99: 60 },
    endedAt: at(0),
    ...more,
  };
}

function reported(window: Window | undefined, more: Partial<InferenceReport> = {}): InferenceReport {
  return {
    contract: 1,
    active: {
      release: "plant-a.v2",
      digest: "sha256:2",
      variant: "fp32",
      executionProvider: "cuda",
      since: at(minutes(60)),
    },
    ...(window === undefined ? {} : { window }),
    heartbeatAt: at(0),
    ...more,
  };
}

const why = (report: InferenceReport, previous: Window | null = null) =>
  implausibleBecause(report, { heardAt: NOW, previous });
const latency = (p50: number, p95: number, p99: number) => ({ latencyMilliseconds: { p50, p95, p99 } });

describe("what can be", () => {
  test.each<[string, InferenceReport]>([
    ["a device that infers", reported(windowOf())],
    ["a device that says nothing of how it does", reported(undefined)],
    ["a device that infers nothing", reported(windowOf({ inferences: 0, errors: 0, ...latency(0, 0, 0) }))],
    ["inferences that all fail", reported(windowOf({ errors: 600 }))],
    ["as many inferences as there may be", reported(windowOf({ inferences: MOST_PER_SECOND * 60 }))],
    [
      "percentiles of one inference",
      reported(windowOf({ inferences: 1, errors: 0, ...latency(20, 20, 20) })),
    ],
    [
      "a clock that is years behind",
      {
        ...reported(windowOf({ endedAt: "2019-01-01T00:05:00Z" })),
        active: { ...reported(undefined).active!, since: "2019-01-01T00:00:00Z" },
        heartbeatAt: "2019-01-01T00:05:00Z",
      },
    ],
    [
      "a clock that is a little ahead",
      reported(windowOf({ endedAt: at(-CLOCK_SKEW) }), { heartbeatAt: at(-CLOCK_SKEW) }),
    ],
    [
      "an idle camera with the window of last week",
      reported(windowOf({ endedAt: at(minutes(7 * 24 * 60)) })),
    ],
    ["a window from before a restart", reported(windowOf({ endedAt: at(minutes(90)), seconds: 900 }))],
    ["the window of a release that ran before", reported(windowOf({ release: "plant-a.v1", seconds: 7000 }))],
    ["all the time that a device was offline, as one window", reported(windowOf({ seconds: 3600 }))],
    [
      "a device that keeps no date of its start",
      {
        ...reported(windowOf({ seconds: 3600 })),
        active: { ...reported(undefined).active!, since: "" },
      },
    ],
  ])("%s", (_, report) => {
    expect(why(report)).toBeNull();
  });
});

describe("what cannot be", () => {
  test.each<[string, InferenceReport, string]>([
    ["5e12 inferences", reported(windowOf({ inferences: 5e12 })), "5000000000000 inferences in 60 s"],
    ["more errors than inferences", reported(windowOf({ errors: 601 })), "601 errors of 600 inferences"],
    ["a window of a life", reported(windowOf({ seconds: 1e9 })), "a window of 1000000000 s"],
    ["a negative latency", reported(windowOf(latency(-1, -1, -1))), "p50 is -1"],
    ["a latency of days", reported(windowOf(latency(1, 1, 1e300))), "a latency of"],
    ["no number", reported(windowOf(latency(Number.NaN, 1, 1))), "p50 is NaN"],
    [
      "no end of numbers",
      reported(windowOf({ inferences: Number.POSITIVE_INFINITY })),
      "inferences is Infinity",
    ],
    ["a negative count", reported(windowOf({ errors: -1 })), "errors is -1"],
    ["half an inference", reported(windowOf({ inferences: 10.7 })), "not whole numbers"],
    ["too many frames", reported(windowOf({ framesPerSecond: 1e9 })), "1000000000 frames per second"],
    ["percentiles out of order", reported(windowOf(latency(90, 60, 60))), "p50 90, p95 60, p99 60"],
    ["the upper percentiles out of order", reported(windowOf(latency(9, 60, 50))), "p50 9, p95 60, p99 50"],
    [
      "a heartbeat of 2031",
      reported(windowOf(), { heartbeatAt: "2031-01-01T00:00:00Z" }),
      "dated 2031-01-01",
    ],
    [
      "a heartbeat without a time",
      reported(windowOf(), { heartbeatAt: "now" }),
      "its heartbeat is not a time",
    ],
    [
      "a heartbeat without a time zone",
      reported(windowOf(), { heartbeatAt: "2026-03-01T12:00:00" }),
      "its heartbeat is not a time with its zone, such as 2026-12-01T10:00:00Z",
    ],
    ["a window without an end", reported(windowOf({ endedAt: "" })), "its window has no end"],
    [
      "a window of last year",
      reported(windowOf({ endedAt: at(minutes(365 * 24 * 60)) })),
      "8760h before its heartbeat",
    ],
    ["a window of next year", reported(windowOf({ endedAt: "2027-01-01T00:00:00Z" })), "after the heartbeat"],
    [
      "a window longer than the release has run",
      reported(windowOf({ seconds: 7200 })),
      "a window of 7200 s, 1h after the release started to run",
    ],
  ])("%s", (_, report, words) => {
    expect(why(report)).toContain(words);
  });

  test("a window that reaches back into the one before, unless the clock was set back", () => {
    const previous = windowOf({ endedAt: at(seconds(300)) });
    expect(why(reported(windowOf({ seconds: 300 })), previous)).toBeNull();
    expect(why(reported(windowOf({ seconds: 900 })), previous)).toContain(
      "a window of 900 s, 5m after the previous one",
    );
    expect(why(reported(windowOf({ seconds: 900 })), { ...previous, release: "plant-a.v1" })).toBeNull();
    expect(why(reported(windowOf({ seconds: 900 })), { ...previous, endedAt: at(-seconds(60)) })).toBeNull();
  });

  test("a report that is heard late was dated when it was sent", () => {
    const early = { heardAt: instant(NOW - minutes(10)), previous: null };
    expect(implausibleBecause(reported(windowOf()), early)).toContain("in the future");
  });
});

test("reports of any kind have an answer, and it is short and for people", () => {
  const number = fc.oneof(fc.double(), fc.integer(), fc.constantFrom(0, -1, 1e300, LONGEST_WINDOW));
  const time = fc.oneof(
    fc.string(),
    fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
  );
  fc.assert(
    fc.property(
      fc.array(number, { minLength: 7, maxLength: 7 }),
      time,
      time,
      time,
      (numbers, ended, beat, since) => {
        const [length = 0, inferences = 0, errors = 0, framesPerSecond = 0, p50 = 0, p95 = 0, p99 = 0] =
          numbers;
        const window = windowOf({
          seconds: length,
          inferences,
          errors,
          framesPerSecond,
          ...latency(p50, p95, p99),
          endedAt: ended,
        });
        const report = reported(window, { heartbeatAt: beat });
        const answer = why({ ...report, active: { ...report.active!, since } });
        if (answer === null) {
          expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0);
          expect(errors).toBeLessThanOrEqual(inferences);
        } else expect(answer.length).toBeLessThan(250);
      },
    ),
    { numRuns: 2000 },
  );
});

test("a device is implausible since it began to be, and no longer than it is", () => {
  const bad = (ago: number) =>
    reported(windowOf({ errors: 700, endedAt: at(ago) }), { heartbeatAt: at(ago) });
  const good = reported(windowOf());
  const first = hear(undefined, bad(seconds(120)), NOW, instant(NOW + 1));
  expect(first.implausible).toEqual({ why: "700 errors of 600 inferences", since: NOW + 1 });
  const second = hear(first, bad(seconds(60)), NOW, instant(NOW + 60_000));
  expect(second.implausible?.since).toBe(NOW + 1);
  expect(hear(second, second.report, NOW, instant(NOW + 120_000))).toBe(second);
  const third = hear(second, good, NOW, instant(NOW + 120_000));
  expect(third.implausible).toBeNull();
  expect(hear(third, bad(0), NOW, instant(NOW + 180_000)).implausible?.since).toBe(NOW + 180_000);
});

test("the window before is the one before, however often the same report is read", () => {
  const one = windowOf({ endedAt: at(seconds(120)) });
  const two = windowOf({ endedAt: at(seconds(60)) });
  const long = windowOf({ seconds: 900 });
  let heard = hear(undefined, reported(one), NOW, NOW);
  for (const window of [two, { ...two }, long, { ...long }, { ...long }])
    heard = hear(heard, reported(window), NOW, NOW);
  expect(heard.previous).toEqual(two);
  expect(heard.implausible?.why).toContain("1m after the previous one");
});
