import { type JsonValue, ownValue, parseJson } from "../../base/json.ts";
import { type Answer, ok, refuse } from "../../hub/errors.ts";
import type { Hub } from "../../hub/hub.ts";
import { parseIfMatch } from "../../hub/preconditions.ts";
import { type HttpRequest, headerOf, urlOf } from "../transport/http-message.ts";
import { routeConfigurations } from "./configuration-routes.ts";
import { routeDevices } from "./identity-routes.ts";
import { routeJobs } from "./job-routes.ts";
import type { Asked, Room, RoutedOperation } from "./operation.ts";
import { routeStatistics } from "./statistics-routes.ts";
import { routeTwins } from "./twin-routes.ts";

/** Versions of the API whose requests look like the ones that are served here. */
const API_VERSION = /^20(1[89]|2[0-9])-[0-9]{2}-[0-9]{2}(-preview)?$/;

const ROOMS: Readonly<Record<string, Room>> = {
  devices: routeDevices,
  twins: routeTwins,
  configurations: routeConfigurations,
  jobs: routeJobs,
  statistics: routeStatistics,
};

/** Finds out what is asked for. A refusal means that nothing here answers to that. */
export function routeServiceRequest(hub: Hub, request: HttpRequest): Answer<RoutedOperation> {
  const url = urlOf(request);
  if (url === null) return refuse("ArgumentInvalid", "The target of the request is not a path");
  const version = url.searchParams.get("api-version");
  if (version === null || !API_VERSION.test(version))
    return refuse("InvalidProtocolVersion", `api-version ${version ?? "(none)"} is not supported`);
  const segments = segmentsOf(url.pathname);
  if (segments === null)
    return refuse("ArgumentInvalid", "The path is not encoded as it must be, or has a slash in an id");
  const body = parseBody(request);
  if (!body.ok) return body;
  const ifMatch = parseIfMatch(headerOf(request, "if-match"), hub.options.undocumented["unquoted-etags"]);
  if (!ifMatch.ok) return ifMatch;
  const asked: Asked = {
    hub,
    request,
    url,
    ifMatch: ifMatch.value,
    body: body.value,
    method: request.method,
  };
  const [room, ...rest] = segments;
  const found = room === undefined ? null : (ownValue(ROOMS, room)?.(asked, rest) ?? null);
  const conditional = ifMatch.value !== null && !ifMatch.value.any;
  if (found !== null) return ok({ ...found, conditional });
  return refuse("ResourceNotFound", `${request.method} ${url.pathname} is not served by this simulator`);
}

function segmentsOf(path: string): readonly string[] | null {
  try {
    const segments = path
      .split("/")
      .filter((segment) => segment !== "")
      .map(decodeURIComponent);
    // A slash in an id would make one of `device` and `module` in the keys of twins.
    return segments.some((segment) => segment.includes("/")) ? null : segments;
  } catch {
    return null;
  }
}

function parseBody(request: HttpRequest): Answer<JsonValue | undefined> {
  if (request.body === "") return ok(undefined);
  const parsed = parseJson(request.body);
  return parsed.ok ? parsed : refuse("IotHubFormatError", `The body is ${parsed.problem}`);
}
