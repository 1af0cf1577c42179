import { describe, expect, test } from "vitest";
import { createFakeClock } from "../../test/fakes/fake-clock.ts";
import { createFakeLog } from "../../test/fakes/fake-log.ts";
import type { Fault } from "../base/fault.ts";
import { later, seconds } from "../base/time.ts";
import { createHubHealth } from "./health.ts";
import { createThrottle } from "./throttle.ts";

const DOWN: Fault = { kind: "unavailable", message: "the hub answered 503" };
const SLOW: Fault = { kind: "throttled", retryAfter: seconds(10), message: "the hub answered 429" };

function setUp() {
  const clock = createFakeClock();
  const gauges: number[] = [];
  const meter = {
    count: () => {},
    observe: () => {},
    gauge: (name: string, value: number) => {
      if (name === "edgefleet_hub_reachable") gauges.push(value);
    },
  };
  const monitor = createHubHealth({ clock, log: createFakeLog(), meter });
  const turns: boolean[] = [];
  monitor.onChange(() => turns.push(monitor.state().reachable));
  const call = (kind: "query" | "twinRead" | "other", fault: Fault | null) => monitor.begin(kind)(fault);
  return { clock, monitor, turns, gauges, call };
}

describe("health of the hub", () => {
  test("two failed reads in a row are an outage, and one good read ends it", () => {
    const { monitor, turns, gauges, call, clock } = setUp();
    call("query", DOWN);
    expect(monitor.state().reachable).toBe(true);
    call("twinRead", DOWN);
    expect(monitor.state()).toEqual({
      reachable: false,
      canReadTwins: true,
      since: clock.now(),
      twinsSince: clock.now(),
      message: "the hub answered 503",
      kind: "unavailable",
    });
    call("query", null);
    expect(monitor.state()).toEqual({
      reachable: true,
      canReadTwins: true,
      since: clock.now(),
      twinsSince: clock.now(),
      message: "",
    });
    expect(turns).toEqual([false, true]);
    expect(gauges).toEqual([1, 0, 1]);
  });
  test("reports since when, and the hub's last message", async () => {
    const { monitor, call, clock } = setUp();
    call("query", DOWN);
    call("query", DOWN);
    const since = clock.now();
    await clock.advance(seconds(30));
    call("query", SLOW);
    const message = "queries fail (the hub answered 429); twins can be read";
    expect(monitor.state()).toEqual({
      reachable: false,
      canReadTwins: true,
      since,
      twinsSince: since,
      message,
      kind: "throttled",
    });
    expect(since).not.toBe(later(since, seconds(30)));
  });
  test("a successful read in between resets the count", () => {
    const { monitor, call } = setUp();
    for (let n = 0; n < 5; n += 1) {
      call("query", DOWN);
      call("query", null);
    }
    expect(monitor.state().reachable).toBe(true);
  });
  test("queries that fail for good are an outage although twins can be read", () => {
    const { monitor, call } = setUp();
    call("query", SLOW);
    call("twinRead", null);
    call("query", SLOW);
    call("twinRead", null);
    expect(monitor.state().reachable).toBe(false);
    call("query", null);
    expect(monitor.state().reachable).toBe(true);
  });
  test("each kind of read has its own health, and its own beginning", async () => {
    const { monitor, call, clock } = setUp();
    const turns: boolean[] = [];
    monitor.onChange(() => turns.push(monitor.state().canReadTwins));
    const started = clock.now();
    call("query", SLOW);
    call("query", SLOW);
    await clock.advance(seconds(30));
    expect(monitor.state()).toMatchObject({ reachable: false, canReadTwins: true, twinsSince: started });
    call("twinRead", DOWN);
    call("twinRead", DOWN);
    const blind = clock.now();
    expect(monitor.state()).toMatchObject({
      canReadTwins: false,
      since: started,
      twinsSince: blind,
      message: "the hub answered 503",
    });
    await clock.advance(seconds(30));
    call("query", null);
    expect(monitor.state()).toMatchObject({
      reachable: false,
      message: "twins cannot be read (the hub answered 503); queries are answered",
    });
    call("twinRead", null);
    expect(monitor.state()).toMatchObject({
      reachable: true,
      canReadTwins: true,
      since: clock.now(),
      twinsSince: clock.now(),
    });
    // Listeners are called for twins too, although the hub was not reachable before.
    expect(turns).toEqual([true, false, true]);
  });
  test("calls that were in flight together are one failure", () => {
    const { monitor } = setUp();
    const ends = Array.from({ length: 8 }, () => monitor.begin("twinRead"));
    for (const end of ends) end(DOWN);
    expect(monitor.state().reachable).toBe(true);
    monitor.begin("twinRead")(DOWN);
    expect(monitor.state().reachable).toBe(false);
  });
  test("failures of other calls only ask for a probe", () => {
    const { monitor, call } = setUp();
    let probesWanted = 0;
    monitor.onShouldProbe(() => {
      probesWanted += 1;
    });
    call("other", DOWN);
    expect(monitor.shouldProbe()).toBe(false);
    call("other", DOWN);
    expect(monitor.shouldProbe()).toBe(true);
    expect(probesWanted).toBe(1);
    expect(monitor.state().reachable).toBe(true);
    call("twinRead", null);
    expect(monitor.shouldProbe()).toBe(false);
  });
  test("a refusal is an answer: conflicts and rejections count as success", () => {
    const { monitor, call } = setUp();
    call("query", DOWN);
    call("query", { kind: "rejected", message: "bad query" });
    call("query", DOWN);
    expect(monitor.state().reachable).toBe(true);
  });
  test("reads that are denied count, a missing right to write does not", () => {
    const denied: Fault = { kind: "denied", message: "401" };
    const { monitor, call } = setUp();
    for (let n = 0; n < 5; n += 1) call("other", denied);
    expect(monitor.shouldProbe()).toBe(false);
    call("query", denied);
    call("query", denied);
    expect(monitor.state()).toMatchObject({
      reachable: false,
      kind: "denied",
      message: "queries fail (401); twins can be read",
    });
  });
  test("our own budget says nothing, the hub's 429 behind it does", async () => {
    const { monitor, call, clock } = setUp();
    const one = { operations: 1, window: seconds(60) };
    const budgets = { identity: one, twinRead: one, twinWrite: one, query: one, configuration: one };
    const throttle = createThrottle({ clock, budgets, headroom: 1 });
    const signal = new AbortController().signal;
    const refused = async () => {
      const turn = await throttle.take("query", "normal", signal);
      if (!turn.ok) call("query", turn.error);
      return turn.ok;
    };
    expect(await refused()).toBe(true);
    for (let n = 0; n < 3; n += 1) expect(await refused()).toBe(false);
    expect(monitor.state().reachable).toBe(true);
    throttle.drain("query", seconds(120));
    for (let n = 0; n < 2; n += 1) expect(await refused()).toBe(false);
    expect(monitor.state().reachable).toBe(false);
  });
});
