import type { Result } from "./result.ts";
import type { Millis } from "./time.ts";

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
