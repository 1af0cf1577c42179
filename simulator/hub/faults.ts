import { globMatcher } from "../base/glob.ts";
import type { OperationClass } from "./throttle.ts";

export const FAULT_KINDS = ["status", "hang", "reset", "latency", "outage", "stale"] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/**
 * - `status`: answers with that status and does nothing (or does it first, with `when: "after"`)
 * - `hang`: never answers · `reset`: breaks the connection · `latency`: waits, then goes on
 * - `outage`: breaks every connection it matches, and the links of the devices it matches
 * - `stale`: queries see nothing that is newer than `milliseconds`
 */
export type FaultRule = {
  readonly id: string;
  readonly kind: FaultKind;
  /** Classes (`twinWrite`), operations (`twin.patch`), or `*`. */
  readonly operations: readonly string[];
  /** Glob of device ids; requests that name no device are matched by `*` only. */
  readonly devices: string;
  /** Share of requests, 0 to 100. */
  readonly percent: number;
  readonly when: "before" | "after";
  readonly status: number;
  readonly milliseconds: number;
  readonly retryAfterSeconds: number | null;
  /** Milliseconds since the epoch; `null`: until it is deleted. */
  readonly expiresAt: number | null;
  /** How many requests it still serves; `null`: any number. */
  readonly remaining: number | null;
};

export type Request = {
  readonly operation: OperationClass;
  readonly name: string;
  readonly device: string | null;
};

export type Faults = {
  /** Adds a rule, or replaces the one of the same id. */
  readonly put: (rule: FaultRule) => void;
  readonly list: () => readonly FaultRule[];
  readonly remove: (id: string) => boolean;
  readonly clear: () => void;
  /** The rules that strike a request, in the order in which they were added; each is used up by one. */
  readonly strike: (request: Request) => readonly FaultRule[];
  /** Largest `milliseconds` of the rules of kind stale; 0 without one. */
  readonly staleness: () => number;
  /** Whether an outage cuts this device off. */
  readonly cutsOff: (device: string) => boolean;
};

export function createFaults(now: () => number, random: () => number): Faults {
  const rules = new Map<string, { rule: FaultRule; readonly matches: (device: string) => boolean }>();

  function live(): { rule: FaultRule; readonly matches: (device: string) => boolean }[] {
    for (const [id, { rule }] of rules)
      if (rule.remaining === 0 || (rule.expiresAt !== null && rule.expiresAt <= now())) rules.delete(id);
    return [...rules.values()];
  }

  function concerns(
    entry: { readonly rule: FaultRule; readonly matches: (device: string) => boolean },
    request: Request,
  ) {
    const { rule } = entry;
    const named = rule.operations.some(
      (name) => name === "*" || name === request.operation || name === request.name,
    );
    return named && (request.device === null ? rule.devices === "*" : entry.matches(request.device));
  }

  return {
    put: (rule) => {
      rules.set(rule.id, { rule, matches: globMatcher(rule.devices) });
    },
    list: () => live().map((entry) => entry.rule),
    remove: (id) => rules.delete(id),
    clear: () => rules.clear(),
    strike: (request) => {
      if (rules.size === 0) return [];
      const struck: FaultRule[] = [];
      for (const entry of live()) {
        const { rule } = entry;
        if (rule.kind === "stale" || !concerns(entry, request) || random() * 100 >= rule.percent) continue;
        if (rule.remaining !== null) entry.rule = { ...rule, remaining: rule.remaining - 1 };
        struck.push(rule);
      }
      return struck;
    },
    staleness: () =>
      rules.size === 0
        ? 0
        : Math.max(0, ...live().map(({ rule }) => (rule.kind === "stale" ? rule.milliseconds : 0))),
    cutsOff: (device) =>
      rules.size > 0 && live().some(({ rule, matches }) => rule.kind === "outage" && matches(device)),
  };
}
