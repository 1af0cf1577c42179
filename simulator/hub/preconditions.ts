import { type Answer, ok, refuse } from "./errors.ts";
import type { Undocumented } from "./undocumented.ts";

/** `null`: no If-Match was sent. */
export type IfMatch = { readonly any: boolean; readonly etag: string } | null;

/**
 * A bare `*`, or an etag in quotes. By default any other header is taken for none: an etag without quotes makes an
 * update of a configuration a creation (409), and one of a twin unconditional. Source: what users of the SDKs reported
 * when these did not quote (azure-iot-hub-python#2, azure-iot-sdk-python#716, azure-iot-sdk-node#606).
 */
export function parseIfMatch(
  header: string | undefined,
  unquoted: Undocumented["unquoted-etags"],
): Answer<IfMatch> {
  if (header === undefined) return ok(null);
  const bare = header.trim();
  const quoted = bare === "*" ? "*" : /^"([^"]*)"$/.exec(bare)?.[1];
  if (quoted === undefined && unquoted === "refused")
    return refuse("ArgumentInvalid", `If-Match must be * or an etag in quotes, not ${bare}`);
  const etag = quoted ?? (unquoted === "compared" ? bare : undefined);
  return ok(etag === undefined ? null : { any: etag === "*", etag });
}

/** 412 where the etag is another one. */
export function checkEtag(ifMatch: IfMatch, etag: string): Answer<void> {
  if (ifMatch === null || ifMatch.any || ifMatch.etag === etag) return ok(undefined);
  return refuse("PreconditionFailed", `Precondition failed: the etag is "${etag}", not "${ifMatch.etag}"`);
}
