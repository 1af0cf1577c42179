import type { JsonValue } from "../../base/json.ts";

const SECRET_KEYS =
  /password|secret|sharedaccess|primarykey|secondarykey|accountkey|connectionstring|^token$/i;
/** A signature in a URL or a token, a key in a connection string: what follows opens something. */
const SECRET_TEXT = /([?&;\s]|^)(sig|SharedAccessKey|AccountKey|SharedAccessSignature)=[^&;\s"]+/gi;
const HIDDEN = "(hidden)";

/** For display: keys, passwords and signatures are taken out of a document, wherever they are in it. */
export function redact(value: JsonValue): JsonValue {
  if (typeof value === "string") return redactText(value);
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return (value as readonly JsonValue[]).map(redact);
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      key,
      SECRET_KEYS.test(key) && inner !== null ? HIDDEN : redact(inner),
    ]),
  );
}

export function redactText(text: string): string {
  return text.replace(SECRET_TEXT, `$1$2=${HIDDEN}`);
}
