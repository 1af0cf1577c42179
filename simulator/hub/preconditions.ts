import { type Answer, ok, refuse } from "./errors.ts";

/** `null`: no If-Match was sent. */
export type IfMatch = { readonly any: boolean; readonly etag: string } | null;

/**
 * A bare `*`, or an etag in quotes. The hub takes any other header for none: an etag without quotes makes an update of
 * a configuration a creation (409), and one of a twin unconditional. Source: what users of the SDKs reported when
 * these did not quote (azure-iot-hub-python#2, azure-iot-sdk-python#716, azure-iot-sdk-node#606).
 */
export function parseIfMatch(header: string | undefined): IfMatch {
  const etag = header?.trim() === "*" ? "*" : /^\s*"([^"]*)"\s*$/.exec(header ?? "")?.[1];
  return etag === undefined ? null : { any: etag === "*", etag };
}

/** 412 where the etag is another one. */
export function checkEtag(ifMatch: IfMatch, etag: string): Answer<void> {
  if (ifMatch === null || ifMatch.any || ifMatch.etag === etag) return ok(undefined);
  return refuse("PreconditionFailed", `Precondition failed: the etag is "${etag}", not "${ifMatch.etag}"`);
}
