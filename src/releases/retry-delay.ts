import { type Millis, millis } from "../base/time.ts";

const FIRST_RETRY = 10_000;

const LAST_RETRY = 600_000;

/** How long to wait after so many attempts in a row that broke off: 10 s, 20 s, … 10 min. */
export function retryDelay(attempts: number): Millis {
  return millis(Math.min(LAST_RETRY, FIRST_RETRY * 2 ** Math.min(attempts - 1, 10)));
}
