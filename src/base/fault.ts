import type { Result } from "./result.ts";
import type { Millis } from "./time.ts";

/**
 * Every way an external system can fail, named by what the caller must do about it:
 * wait that long, try again later, read again, get permission from an administrator, get corrected input from the user.
 */
export type Fault =
  | { readonly kind: "throttled"; readonly retryAfter: Millis; readonly message: string }
  | { readonly kind: "unavailable"; readonly message: string }
  | { readonly kind: "conflict"; readonly message: string }
  | { readonly kind: "denied"; readonly message: string }
  | { readonly kind: "rejected"; readonly message: string };

export type Attempt<T> = Promise<Result<T, Fault>>;
