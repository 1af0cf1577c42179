import type { WatchFault } from "./watch-event.ts";

/** Where a reflector stands. `failures` counts faults since something last went well. */
export type WatchState =
  | { readonly kind: "list"; readonly failures: number }
  | { readonly kind: "watch"; readonly from: string; readonly failures: number };

/** After so many faults in a row without one event between them, what is watched from is not trusted any more. */
const RELIST_AFTER = 5;

/** Pure: a forgotten version is listed again; anything else is tried again from where it was. */
export function afterFault(state: WatchState, fault: WatchFault): WatchState {
  const failures = state.failures + 1;
  if (fault.kind === "expired" || state.kind === "list" || failures % RELIST_AFTER === 0)
    return { kind: "list", failures };
  return { ...state, failures };
}

/**
 * Versions of one resource are decimal numbers that grow with each write (Kubernetes says so since 1.35, and etcd has
 * always made them so). Anything else than a number counts as newer when it is different.
 */
export function isNewer(version: string, than: string): boolean {
  const number = /^[0-9]+$/;
  if (!number.test(version) || !number.test(than)) return version !== than;
  return version.length === than.length ? version > than : version.length > than.length;
}
