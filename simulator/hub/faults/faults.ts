import { globMatcher } from "../../base/glob.ts";
import type { Random } from "../../base/random.ts";
import { drawSpread, type Spread } from "../../base/spread.ts";
import type { OperationClass } from "../limits/throttle.ts";

/** How much of a body comes: half of it and then the end of the connection, or half of it and then nothing for ever. */
export const PARTIAL_BODIES = ["cut", "silent"] as const;
/** A page of a proxy, an object without its fields, or no content at all. */
export const MALFORMED_BODIES = ["html", "emptyObject", "noContent"] as const;
/** `change`: another client really wrote in between · `answer`: the hub merely says so */
export const CONFLICTS = ["change", "answer"] as const;
/** What comes of new connections: they are reset, or nothing ever answers. */
export const UNREACHABLE = ["refuse", "blackHole"] as const;
export type Unreachable = (typeof UNREACHABLE)[number];

/** What a fault does, with what only its kind has. Times are milliseconds. */
export type FaultEffect =
  /** Answers with that status and does nothing (or does it first, with `when: "after"`). */
  | { readonly kind: "status"; readonly status: number; readonly retryAfterSeconds: number | null }
  /** `hang` never answers, `reset` breaks the connection. `outage` does so too, and cuts off the devices it matches. */
  | { readonly kind: "hang" | "reset" | "outage" }
  /** Waits, then continues. */
  | { readonly kind: "latency"; readonly milliseconds: Spread }
  | { readonly kind: "slowBody"; readonly bytesPerSecond: number }
  | { readonly kind: "partialBody"; readonly variant: (typeof PARTIAL_BODIES)[number] }
  /** Answers with success and nothing that a client can use. */
  | { readonly kind: "malformed"; readonly variant: (typeof MALFORMED_BODIES)[number] }
  /** A write under an etag loses. */
  | { readonly kind: "conflict"; readonly variant: (typeof CONFLICTS)[number] }
  /** Queries see nothing that is newer. */
  | { readonly kind: "stale"; readonly milliseconds: number }
  /** A device's report is acknowledged and dropped. */
  | { readonly kind: "lostReport" }
  /** The hub's clock is ahead; negative: behind. */
  | { readonly kind: "clockSkew"; readonly milliseconds: number }
  /** Every connection breaks, and nothing is accepted until it ends; devices come back within `reconnectWithin`. */
  | { readonly kind: "restart"; readonly reconnectWithin: number }
  | {
      readonly kind: "regionalOutage";
      readonly variant: Unreachable;
      readonly reconnectWithin: number;
    };

export type FaultKind = FaultEffect["kind"];

export type FaultRule = FaultEffect & {
  readonly id: string;
  /** Classes (`twinWrite`), operations (`twin.patch`), or `*` for all of the service's. */
  readonly operations: readonly string[];
  /** Glob of device ids; requests that name no device are matched by `*` only. */
  readonly devices: string;
  /** Share of requests, 0 to 100. */
  readonly percent: number;
  readonly when: "before" | "after";
  /** Milliseconds since the epoch; `null`: until it is deleted. */
  readonly expiresAt: number | null;
  /** How many requests it still serves; `null`: any number. */
  readonly remaining: number | null;
};

/** A rule that applies to a request; `delay`, in milliseconds, was drawn for this one where the rule is of kind latency. */
export type AppliedFault = { readonly rule: FaultRule; readonly delay: number };

export type Request = {
  readonly operation: OperationClass;
  readonly name: string;
  readonly device: string | null;
  /** Whether it names the etag that it expects. */
  readonly conditional: boolean;
};

/** What devices do over their own links: faults apply to it only where an operation is named. */
export const DEVICE_OPERATIONS = ["device.connect", "device.getTwin", "device.report"] as const;
export type DeviceOperation = (typeof DEVICE_OPERATIONS)[number];

export type Faults = {
  /** Adds a rule, or replaces the one of the same id. */
  readonly put: (rule: FaultRule) => void;
  readonly list: () => readonly FaultRule[];
  readonly remove: (id: string) => boolean;
  readonly clear: () => void;
  /** An id for a rule that was given none. */
  readonly freshId: () => string;
  /** Draws from this generator from now on. */
  readonly reseed: (random: Random) => void;
  /** Called with every rule that was put. */
  readonly onPut: (listener: (rule: FaultRule) => void) => void;
  /** The rules that apply to a request, in the order in which they were added; each counts one use. */
  readonly faultsFor: (request: Request) => readonly AppliedFault[];
  /** The rule, of kind status or reset, that applies to what a device does; `null`: none does. */
  readonly deviceFaultFor: (operation: DeviceOperation, device: string) => FaultRule | null;
  /** Whether this report of a device is lost on its way; the rule counts one use. */
  readonly losesReport: (device: string) => boolean;
  /** Largest `milliseconds` of the rules of kind stale; 0 without one. */
  readonly staleness: () => number;
  /** By how many milliseconds the hub's clock is off; the rule that was put last counts. */
  readonly skew: () => number;
  /** What happens to new connections; `null`: the hub can be reached. */
  readonly unreachable: () => Unreachable | null;
  /** Whether an outage cuts this device off. */
  readonly cutsOff: (device: string) => boolean;
  /** Milliseconds until a device whose link was cut is back. `share` is its place among the others, 0 to 1. */
  readonly returnsIn: (share: number) => number;
};

/** Whether a rule breaks every connection there is. */
export function seversAll({ kind }: FaultRule): boolean {
  return kind === "restart" || kind === "regionalOutage";
}

type Entry = { rule: FaultRule; readonly matches: (device: string) => boolean };

/** Kinds that act on the hub as a whole, not on single requests. */
const WHOLE_HUB: readonly FaultKind[] = ["stale", "lostReport", "clockSkew", "restart", "regionalOutage"];
/** Milliseconds within which a device is back whose link alone was cut. */
const RECONNECT_WITHIN = 5000;

/** Whether a rule is about requests of this kind. */
function concerns(entry: Entry, request: Request): boolean {
  const { rule } = entry;
  if (WHOLE_HUB.includes(rule.kind) || (rule.kind === "conflict" && !request.conditional)) return false;
  const named = rule.operations.some(
    (name) => name === "*" || name === request.operation || name === request.name,
  );
  return named && (request.device === null ? rule.devices === "*" : entry.matches(request.device));
}

export function createFaults(now: () => number, random: Random): Faults {
  const rules = new Map<string, Entry>();
  const listeners: ((rule: FaultRule) => void)[] = [];
  let chance = random;
  let made = 0;

  function live(): readonly Entry[] {
    if (rules.size === 0) return [];
    for (const [id, { rule }] of rules)
      if (rule.remaining === 0 || (rule.expiresAt !== null && rule.expiresAt <= now())) rules.delete(id);
    return [...rules.values()];
  }

  /** Whether the rule applies this time, by its percentage; if so, one use is counted. */
  function applies(entry: Entry): boolean {
    const { rule } = entry;
    if (chance() * 100 >= rule.percent) return false;
    if (rule.remaining !== null) entry.rule = { ...rule, remaining: rule.remaining - 1 };
    return true;
  }

  function severing(): Extract<FaultRule, { readonly kind: "restart" | "regionalOutage" }> | null {
    for (const { rule } of live()) if (rule.kind === "restart" || rule.kind === "regionalOutage") return rule;
    return null;
  }

  function unreachable(): Unreachable | null {
    const rule = severing();
    if (rule === null) return null;
    return rule.kind === "restart" ? "refuse" : rule.variant;
  }

  return {
    put: (rule) => {
      rules.set(rule.id, { rule, matches: globMatcher(rule.devices) });
      for (const listener of listeners) listener(rule);
    },
    list: () => live().map((entry) => entry.rule),
    remove: (id) => rules.delete(id),
    clear: () => rules.clear(),
    freshId: () => {
      made += 1;
      return `fault-${made}`;
    },
    reseed: (next) => {
      chance = next;
    },
    onPut: (listener) => {
      listeners.push(listener);
    },
    faultsFor: (request) =>
      live().flatMap((entry) => {
        const { rule } = entry;
        if (!concerns(entry, request) || !applies(entry)) return [];
        return [{ rule, delay: rule.kind === "latency" ? drawSpread(rule.milliseconds, chance) : 0 }];
      }),
    deviceFaultFor: (operation, device) => {
      for (const entry of live()) {
        const { rule } = entry;
        const meant =
          (rule.kind === "status" || rule.kind === "reset") && rule.operations.includes(operation);
        if (meant && entry.matches(device) && applies(entry)) return rule;
      }
      return null;
    },
    losesReport: (device) =>
      live().some((entry) => entry.rule.kind === "lostReport" && entry.matches(device) && applies(entry)),
    staleness: () =>
      Math.max(0, ...live().map(({ rule }) => (rule.kind === "stale" ? rule.milliseconds : 0))),
    skew: () => live().reduce((skew, { rule }) => (rule.kind === "clockSkew" ? rule.milliseconds : skew), 0),
    unreachable,
    cutsOff: (device) =>
      live().some(({ rule, matches }) => seversAll(rule) || (rule.kind === "outage" && matches(device))),
    returnsIn: (share) => {
      const rule = severing();
      const left = rule?.expiresAt == null ? 0 : rule.expiresAt - now();
      return left + share * (rule?.reconnectWithin ?? RECONNECT_WITHIN);
    },
  };
}
