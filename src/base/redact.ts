import { cut } from "./text.ts";

const HIDDEN = "[redacted]";

/**
 * What looks like a secret, whatever put it into a text: the values of connection strings, SAS tokens and their
 * signatures (also percent-encoded), bearer tokens, JSON Web Tokens and keys in JSON.
 */
const SECRETS: readonly (readonly [RegExp, string])[] = [
  [/\b(SharedAccessSignature)(\s+|\s*[=:]\s*)(?!\[)[^\s"'<>;,]+/gi, `$1$2${HIDDEN}`],
  [
    /\b(SharedAccessKey|AccountKey|(?:primary|secondary)_?key|password|client_?secret)("?\s*[=:]\s*"?)(?!\[)[^\s"'<>;,&]+/gi,
    `$1$2${HIDDEN}`,
  ],
  [/(?<=^|[^A-Za-z0-9]|%[0-9A-F]{2})(sig)(=|%3D)(?!\[)[^\s"'<>;,&]+/gi, `$1$2${HIDDEN}`],
  [/\b(Bearer|Basic)(\s+)(?!\[)[A-Za-z0-9+/=._~-]{8,}/gi, `$1$2${HIDDEN}`],
  [/\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/g, HIDDEN],
];

/** The text without what looks like a secret. Redacting twice changes nothing more. */
export function redact(text: string): string {
  let clear = text;
  for (const [pattern, replacement] of SECRETS) clear = clear.replace(pattern, replacement);
  return clear;
}

/**
 * Text from outside (a device's report, a hub's or a sidecar's words) as it may be shown in an object or an event: without
 * secrets, without the queries of URLs (a SAS lives there), at most `limit` characters.
 */
export function redacted(text: string, limit = 512): string {
  const safe = redact(text.replace(/([a-z][a-z0-9+.-]*:\/\/[^\s?"'<>]+)\?[^\s"'<>]*/gi, "$1?…"));
  return cut(safe, limit);
}
