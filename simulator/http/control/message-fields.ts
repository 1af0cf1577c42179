import { Type } from "typebox";
import type { Fields } from "../../base/fields.ts";

const TEXT = Type.Optional(Type.String());

/** What every message may have, wherever it goes. */
export const MESSAGE_SCHEMA = {
  body: Type.Optional(Type.Unknown({ description: "a text is sent as it is, anything else as JSON" })),
  properties: Type.Optional(Type.Record(Type.String(), Type.Union([Type.String(), Type.Null()]))),
  messageId: TEXT,
  correlationId: TEXT,
  contentType: TEXT,
  contentEncoding: TEXT,
};

/** A text that has to be there. */
export function needed(fields: Fields, name: string): string {
  const value = fields.optionalText(name);
  if (value === null || value === "") fields.addProblem(name, "is needed");
  return value ?? "";
}
