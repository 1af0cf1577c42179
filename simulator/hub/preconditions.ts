import { type Answer, ok, refuse } from "./errors.ts";

/** `null`: no If-Match was sent. */
export type IfMatch = { readonly any: boolean; readonly etag: string } | null;

/**
 * Strict on purpose: the value must be quoted, `"*"` too. What the real hub makes of an unquoted one is not known,
 * and a client that relies on it would be found out late.
 */
export function parseIfMatch(header: string | undefined): Answer<IfMatch> {
  if (header === undefined) return ok(null);
  const quoted = /^"([^"]*)"$/.exec(header);
  if (quoted === null)
    return refuse("ArgumentInvalid", `If-Match must be a quoted etag or "*", but it is ${header}`);
  const etag = quoted[1] ?? "";
  return ok({ any: etag === "*", etag });
}

/** 412 where the etag is another one. */
export function checkEtag(ifMatch: IfMatch, etag: string): Answer<void> {
  if (ifMatch === null || ifMatch.any || ifMatch.etag === etag) return ok(undefined);
  return refuse("PreconditionFailed", `Precondition failed: the etag is "${etag}", not "${ifMatch.etag}"`);
}
