/**
 * Text from outside (a device's report, a hub's or a sidecar's words) as it may be shown in an object or an event:
 * queries of URLs are cut off (a SAS lives there), and so are keys and signatures that stand alone. At most `limit`
 * characters.
 */
export function redacted(text: string, limit = 512): string {
  const safe = text
    .replace(/([a-z][a-z0-9+.-]*:\/\/[^\s?"'<>]+)\?[^\s"'<>]*/gi, "$1?…")
    .replace(/\b(SharedAccessSignature)\s+\S+/gi, "$1 …")
    .replace(
      /\b(SharedAccessKey|AccountKey|primaryKey|secondaryKey|sig)(\s*["']?\s*[=:]\s*["']?)[^\s;&"',}]+/gi,
      "$1$2…",
    );
  return safe.length <= limit ? safe : `${safe.slice(0, limit - 1)}…`;
}
