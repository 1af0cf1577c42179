import type { Fields } from "../../base/fields.ts";
import { isObject, type JsonValue, setKey } from "../../base/json.ts";
import type { PropertyBag } from "./message.ts";

export type Content = { readonly body: Buffer; readonly properties: PropertyBag };

/** Properties of the application and of the system in one bag, as they go over the wire. */
export function readContent(fields: Fields): Content {
  const given: JsonValue = fields.raw("properties") ?? {};
  const properties: Record<string, string | null> = {};
  if (!isObject(given)) fields.addProblem("properties", "must be an object");
  else
    for (const [name, value] of Object.entries(given)) {
      if (typeof value === "string" || value === null) setKey(properties, name, value);
      else fields.addProblem(`properties.${name}`, "must be text or null");
    }
  const system = {
    "$.mid": fields.optionalText("messageId"),
    "$.cid": fields.optionalText("correlationId"),
    "$.ct": fields.optionalText("contentType"),
    "$.ce": fields.optionalText("contentEncoding"),
  };
  for (const [name, value] of Object.entries(system)) if (value !== null) setKey(properties, name, value);
  const content = fields.raw("body") ?? "";
  const text = typeof content === "string" ? content : JSON.stringify(content);
  return { body: Buffer.from(text), properties };
}
