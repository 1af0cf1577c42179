// Text of bounded length. A character may take two units of a string. The API server replaces half a character, so that
// what was written would never equal what is read.

/** At most the first `limit` units, never half a character, and none where the text came with one. */
export function clip(text: string, limit: number): string {
  const whole = text.toWellFormed();
  if (whole.length <= limit) return whole;
  const last = whole.charCodeAt(limit - 1);
  return whole.slice(0, last >= 0xd800 && last <= 0xdbff ? limit - 1 : limit);
}

/** As `clip`; text that was cut ends in "…". */
export function cut(text: string, limit: number): string {
  return text.length <= limit ? text.toWellFormed() : `${clip(text, limit - 1)}…`;
}
