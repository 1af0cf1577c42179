import type { Resource } from "../../src/api/resource.ts";
import type { Kstatus } from "./kstatus.ts";
import type { Health, Recorded } from "./recorded.ts";

export type Expected = readonly [reason: string | null, kstatus: Kstatus, health: Health];

/** One object before it is written as the API server gives it, and what GitOps tools must make of it. */
export type Case = {
  readonly name: string;
  readonly kind: Recorded["kind"];
  readonly resource: Resource<unknown, unknown>;
  readonly expected: Expected;
};

export const CURRENT = (reason: string): Expected => [reason, "Current", "Healthy"];
export const MOVING = (reason: string): Expected => [reason, "InProgress", "Progressing"];
export const STUCK = (reason: string): Expected => [reason, "Failed", "Degraded"];
export const LEAVING = (reason: string): Expected => [reason, "Terminating", "Progressing"];
/** The operator has not seen it yet. */
export const UNSEEN: Expected = [null, "InProgress", "Progressing"];
