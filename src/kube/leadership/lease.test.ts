import { describe, expect, test } from "vitest";
import { lease } from "../../../test/builders/lease.ts";
import { instant, millis, seconds } from "../../base/time.ts";
import { decideLease, LEASE_TIMING, observe } from "./lease.ts";

const timing = LEASE_TIMING;

describe("what a candidate does", () => {
  test.each([
    ["acquires where there is no Lease", null, { kind: "acquire" }],
    [
      "acquires what was released",
      { lease: lease({ holder: null }), unrenewedFor: millis(0) },
      { kind: "acquire" },
    ],
    [
      "renews what is its own",
      { lease: lease({ holder: "me" }), unrenewedFor: seconds(99) },
      { kind: "renew" },
    ],
    [
      "waits while another holds it",
      { lease: lease(), unrenewedFor: seconds(3) },
      { kind: "wait", delay: seconds(2) },
    ],
    [
      "waits no longer than it must",
      { lease: lease(), unrenewedFor: millis(14_500) },
      { kind: "wait", delay: millis(500) },
    ],
    [
      "takes over what was not renewed for its holder's duration",
      { lease: lease(), unrenewedFor: seconds(15) },
      { kind: "acquire" },
    ],
    [
      "waits for the holder's duration, not for its own",
      { lease: lease({ duration: seconds(60) }), unrenewedFor: seconds(15) },
      { kind: "wait", delay: seconds(2) },
    ],
  ] as const)("%s", (_what, seen, move) => {
    expect(decideLease("me", seen, timing)).toEqual(move);
  });

  test("measures by its own clock how long the holder has not renewed, without the time it was suspended itself", () => {
    const first = observe(null, lease({ renewedAt: instant(-1e9) }), instant(0), timing);
    expect(first.unrenewedFor).toBe(0); // whatever the other's clock says
    const second = observe(first, lease(), instant(2000), timing);
    expect(second.unrenewedFor).toBe(2000);
    const asleep = observe(second, lease(), instant(3_600_000), timing);
    expect(asleep.unrenewedFor).toBe(6000);
    expect(observe(asleep, lease({ version: "2" }), instant(3_602_000), timing).unrenewedFor).toBe(0);
    expect(observe(asleep, lease(), instant(0), timing).unrenewedFor).toBe(6000); // a clock that was set back
  });
});
