import { describe, expect, test } from "vitest";
import { createFakeRuntime } from "../../test/fakes/fake-runtime.ts";
import { millis, minutes, seconds } from "../base/time.ts";
import { type Part, type Plan, runManager } from "./manager.ts";

const never = new AbortController().signal;

function setUp() {
  const runtime = createFakeRuntime();
  const story: string[] = [];
  const stop = new AbortController();

  /** Runs until it is stopped, and takes `delay` to stop. */
  function part(name: string, delay = 0): Part {
    return {
      name,
      run: async (signal) => {
        story.push(`+${name}`);
        await runtime.clock.sleep(minutes(1000), signal);
        await runtime.clock.sleep(millis(delay), never);
        story.push(`-${name}`);
      },
    };
  }

  const plan: Plan = {
    always: [part("probes"), part("cache", 100)],
    ready: async (signal) => {
      await runtime.clock.sleep(seconds(1), signal);
      story.push("ready");
    },
    lead: async (signal, body) => {
      story.push("elected");
      await body(signal);
      story.push("resigned");
    },
    whenLeading: () => [part("devices", 300)],
    drain: seconds(20),
  };
  return { runtime, clock: runtime.clock, story, stop, part, plan };
}

describe("the manager", () => {
  test("starts in order and stops in reverse, one after the other", async () => {
    const { runtime, clock, story, stop, plan } = setUp();
    const ended = runManager(plan, runtime, stop.signal);
    await clock.advance(seconds(2));
    expect(story).toEqual(["+probes", "+cache", "ready", "elected", "+devices"]);
    stop.abort();
    await clock.advance(seconds(1));
    await ended;
    expect(story.slice(5)).toEqual(["-devices", "resigned", "-cache", "-probes"]);
    expect(clock.next()).toBeNull();
  });

  test("can be stopped before it is ready", async () => {
    const { runtime, clock, story, stop, plan } = setUp();
    const ended = runManager(plan, runtime, stop.signal);
    await clock.advance(millis(500));
    stop.abort();
    await clock.advance(seconds(1));
    await ended;
    expect(story).toEqual(["+probes", "+cache", "ready", "-cache", "-probes"]);
  });

  test.each([
    ["throws", async () => Promise.reject(new Error("port in use"))],
    ["ends early", async () => {}],
  ])("stops everything, and fails, when one part %s", async (_how, fail) => {
    const { runtime, clock, story, stop, part, plan } = setUp();
    const failing: Part = {
      name: "failing",
      run: async (signal) => {
        await clock.sleep(seconds(5), signal);
        await fail();
      },
    };
    const ended = runManager({ ...plan, always: [part("cache"), failing] }, runtime, stop.signal);
    const failure = expect(ended).rejects.toThrow(/port in use|failing ended/);
    await clock.advance(seconds(10));
    await failure;
    expect(story).toEqual(["+cache", "ready", "elected", "+devices", "-devices", "resigned", "-cache"]);
  });

  test("stops the other controllers before it releases leadership when one fails", async () => {
    const { runtime, clock, story, stop, part, plan } = setUp();
    const failing: Part = {
      name: "failing",
      run: async (signal) => {
        await clock.sleep(seconds(5), signal);
        throw new Error("broken");
      },
    };
    const ended = runManager(
      { ...plan, whenLeading: () => [part("devices", 300), failing] },
      runtime,
      stop.signal,
    );
    const failure = expect(ended).rejects.toThrow("broken");
    await clock.advance(seconds(10));
    await failure;
    expect(story.slice(5)).toEqual(["-devices", "resigned", "-cache", "-probes"]);
  });

  test("runs the controllers again when leadership comes back, without failing", async () => {
    const { runtime, clock, story, stop, plan } = setUp();
    const lead: Plan["lead"] = async (signal, body) => {
      while (!signal.aborted) {
        const lost = new AbortController();
        const ended = body(AbortSignal.any([signal, lost.signal]));
        await clock.sleep(seconds(10), signal);
        lost.abort();
        await ended;
      }
    };
    const ended = runManager({ ...plan, lead }, runtime, stop.signal);
    await clock.advance(seconds(15));
    expect(story.filter((entry) => entry.endsWith("devices"))).toEqual(["+devices", "-devices", "+devices"]);
    stop.abort();
    await clock.advance(seconds(1));
    await expect(ended).resolves.toBeUndefined();
  });

  test("gives up on parts that do not stop in time, and names them", async () => {
    const { runtime, clock, stop, part, plan } = setUp();
    const ended = runManager(
      { ...plan, whenLeading: () => [part("stubborn", 60_000)] },
      runtime,
      stop.signal,
    );
    await clock.advance(seconds(2));
    stop.abort();
    const failure = expect(ended).rejects.toThrow(/did not stop in time: .*stubborn/);
    await clock.advance(seconds(20));
    await failure;
  });
});
