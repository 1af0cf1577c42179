import { isObject, type JsonObject, type JsonValue } from "../../base/json.ts";
import { type Answer, ok, type Refusal, refuse } from "../errors.ts";
import type { IfMatch } from "../preconditions.ts";
import { twinKey } from "../twins/twin.ts";
import { parseTwinChange, type Twins } from "../twins/twins.ts";
import type { Undocumented } from "../undocumented.ts";
import type { Registry } from "./registry.ts";

export type BulkError = {
  readonly deviceId: string;
  readonly moduleId: string | null;
  readonly errorCode: string;
  readonly errorStatus: string;
  readonly operation: string;
};

export type BulkWarning = {
  readonly deviceId: string;
  readonly warningCode: "DeviceRegisteredWithoutTwin";
  readonly warningStatus: string;
};

export type BulkResult = { readonly errors: readonly BulkError[]; readonly warnings: readonly BulkWarning[] };

/** What came of one entry. `withoutTwin`: the identity was written, and why its twin was not. */
type Outcome = { readonly withoutTwin: Refusal | null };

export type Bulk = {
  /** One to a hundred entries; an empty list of errors is success. */
  readonly apply: (entries: readonly JsonValue[]) => Answer<BulkResult>;
  /** An entry of an import job: without an importMode it creates or updates. */
  readonly importEntry: (entry: JsonObject) => Answer<Outcome>;
};

const BULK_ENTRIES = 100;
const DONE: Answer<Outcome> = ok({ withoutTwin: null });

/** Entries of bulk requests and of import jobs, as the API calls them: ExportImportDevice. */
export function createBulk(registry: Registry, twins: Twins, spelling: Undocumented["bulk-etags"]): Bulk {
  function entryOf(entry: JsonObject, fallback: string): Answer<Outcome> {
    const device = String(entry["id"]);
    const module = typeof entry["moduleId"] === "string" ? entry["moduleId"] : null;
    const mode = String(entry["importMode"] ?? fallback).toLowerCase();
    const isTwin = mode.startsWith("updatetwin");
    const match = matchOf(mode, isTwin ? entry["twinETag"] : etagOf(entry));
    if (!match.ok) return match;
    const ifMatch = match.value;
    const { id: _id, ...body } = entry;
    const put = (wanted: IfMatch): Answer<Outcome> => {
      const written =
        module === null
          ? registry.putDevice(device, { ...body, deviceId: device }, wanted)
          : registry.putModule(device, module, { ...body, deviceId: device }, wanted);
      return written.ok ? ok({ withoutTwin: twinOf(device, module, entry) }) : written;
    };
    switch (mode) {
      case "create":
        return put(null);
      case "createorupdate":
      case "createorupdateifmatchetag":
        return put(registry.get(device, module) === undefined ? null : ifMatch);
      case "update":
      case "updateifmatchetag":
        return put(ifMatch);
      case "delete":
      case "deleteifmatchetag": {
        const removed =
          module === null
            ? registry.removeDevice(device, ifMatch)
            : registry.removeModule(device, module, ifMatch);
        return removed.ok ? DONE : removed;
      }
      case "updatetwin":
      case "updatetwinifmatchetag": {
        const change = parseTwinChange(body);
        if (!change.ok) return change;
        const written = twins.patch(twinKey(device, module), change.value, ifMatch);
        return written.ok ? DONE : written;
      }
      default:
        return refuse("ArgumentInvalid", `importMode ${String(entry["importMode"])} is not known`);
    }
  }

  function etagOf({ eTag, etag }: JsonObject): JsonValue | undefined {
    if (spelling === "either") return eTag ?? etag;
    return spelling === "eTag" ? eTag : etag;
  }

  /** Writes what an entry says of the twin; the refusal where that cannot be: the identity stands all the same. */
  function twinOf(device: string, module: string | null, entry: JsonObject): Refusal | null {
    const change = parseTwinChange(entry);
    if (!change.ok) return change.refusal;
    if (change.value.tags === null && change.value.desired === null) return null;
    const written = twins.patch(twinKey(device, module), change.value, null);
    return written.ok ? null : written.refusal;
  }

  return {
    apply(entries) {
      const checked = checkEntries(entries);
      if (!checked.ok) return checked;
      const errors: BulkError[] = [];
      const warnings: BulkWarning[] = [];
      for (const entry of checked.value) {
        const done = entryOf(entry, "create");
        if (!done.ok) errors.push(errorOf(entry, done.refusal));
        else if (done.value.withoutTwin !== null)
          warnings.push({
            deviceId: String(entry["id"]),
            warningCode: "DeviceRegisteredWithoutTwin",
            warningStatus: done.value.withoutTwin.message,
          });
      }
      return ok({ errors, warnings });
    },
    importEntry: (entry) =>
      typeof entry["id"] === "string"
        ? entryOf(entry, "createOrUpdate")
        : refuse("DeserializationError", "the line has no id"),
  };
}

function checkEntries(entries: readonly JsonValue[]): Answer<readonly JsonObject[]> {
  if (entries.length < 1 || entries.length > BULK_ENTRIES)
    return refuse("ArgumentInvalid", `a bulk operation takes 1 to ${BULK_ENTRIES} entries`);
  const seen = new Set<string>();
  const checked: JsonObject[] = [];
  for (const entry of entries) {
    if (!isObject(entry) || typeof entry["id"] !== "string")
      return refuse("ArgumentInvalid", "every entry of a bulk operation needs an id");
    const key = twinKey(entry["id"], typeof entry["moduleId"] === "string" ? entry["moduleId"] : null);
    if (seen.has(key)) return refuse("DeviceDefinedMultipleTimes", `${key} is in the list twice`);
    seen.add(key);
    checked.push(entry);
  }
  return ok(checked);
}

/** Modes with IfMatchETag in their name compare; the others overwrite. */
function matchOf(mode: string, etag: JsonValue | undefined): Answer<IfMatch> {
  if (!mode.endsWith("ifmatchetag")) return ok({ any: true, etag: "*" });
  if (typeof etag !== "string") return refuse("ArgumentNull", `${mode} needs an etag`);
  const wanted = etag.replace(/^"(.*)"$/, "$1");
  return ok({ any: wanted === "*", etag: wanted });
}

function errorOf(entry: JsonObject, refusal: Refusal): BulkError {
  return {
    deviceId: String(entry["id"]),
    moduleId: typeof entry["moduleId"] === "string" ? entry["moduleId"] : null,
    errorCode: refusal.code,
    errorStatus: refusal.message,
    operation: String(entry["importMode"] ?? "create"),
  };
}
