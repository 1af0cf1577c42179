import { isObject, type JsonValue } from "../../base/json.ts";
import type { FeedEvent } from "../../hub/messaging/event-log.ts";
import { redactText } from "./redact.ts";

/** An event in one line. */
export type EventLine = {
  readonly sequenceNumber: number;
  readonly at: string;
  readonly source: string;
  readonly device: string;
  readonly module: string | null;
  readonly text: string;
};

const LONGEST_TEXT = 160;

export function eventLine({ sequenceNumber, annotations, body, properties }: FeedEvent): EventLine {
  const module = annotations["iothub-connection-module-id"];
  const source = String(annotations["iothub-message-source"]);
  const text = source === "Telemetry" ? textOf(body) : textOfNotice(properties["opType"], body);
  return {
    sequenceNumber,
    at: String(annotations["iothub-enqueuedtime"]),
    source,
    device: String(annotations["iothub-connection-device-id"]),
    module: typeof module === "string" ? module : null,
    text,
  };
}

function textOf(body: JsonValue): string {
  const text = redactText(typeof body === "string" ? body : JSON.stringify(body));
  return text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT - 1)}…` : text;
}

/** The operation, and which sections of a twin it wrote with the names that are in them: `updateTwin · reported inference`. */
function textOfNotice(operation: JsonValue | undefined, body: JsonValue): string {
  const written = isObject(body) ? body : {};
  const properties = isObject(written["properties"]) ? written["properties"] : {};
  const sections = {
    tags: written["tags"],
    desired: properties["desired"],
    reported: properties["reported"],
  };
  const parts = Object.entries(sections).flatMap(([name, section]) =>
    isObject(section)
      ? [[name, ...Object.keys(section).filter((key) => !key.startsWith("$"))].join(" ")]
      : [],
  );
  return textOf([String(operation ?? ""), ...parts].filter((part) => part !== "").join(" · "));
}
