import type { Fault } from "../../base/fault.ts";

/** Besides what every outside system can answer: there is no such object, and that version is forgotten (410). */
export type KubeFault =
  | Fault
  | { readonly kind: "missing"; readonly message: string }
  | { readonly kind: "expired"; readonly message: string };

export type Call = {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Absolute, with its query; every part of it encoded. */
  readonly path: string;
  readonly body?: unknown;
  /** `application/json` when left out. */
  readonly contentType?: string;
};

export const JSON_PATCH = "application/json-patch+json";
/** Owner of the fields that we write. */
export const FIELD_MANAGER = "edge-fleet-operator";
