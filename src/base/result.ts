import type { Millis } from "./time.ts";

/** Expected failure is a value; a throw is a bug. */
export type Result<T, E> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: E };

/**
 * Every way an outside system can let us down, named by what the caller must do about it:
 * wait that long, try again later, read again, ask a person for rights, ask a person for another input.
 */
export type Fault =
  | { readonly kind: "throttled"; readonly retryAfter: Millis; readonly message: string }
  | { readonly kind: "unavailable"; readonly message: string }
  | { readonly kind: "conflict"; readonly message: string }
  | { readonly kind: "denied"; readonly message: string }
  | { readonly kind: "rejected"; readonly message: string };

export type Attempt<T> = Promise<Result<T, Fault>>;

export function ok<T>(value: T): { readonly ok: true; readonly value: T } {
  return { ok: true, value };
}

export function err<E>(error: E): { readonly ok: false; readonly error: E } {
  return { ok: false, error };
}

/** The end of a switch that lists every member of a union: the compiler refuses a forgotten one. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`);
}
