import { RestError } from "@azure/storage-blob";
import { expect, test } from "vitest";
import { storeFault } from "./azure-faults.ts";

type Answer = { readonly status: number; readonly headers?: Readonly<Record<string, string>> };

function answered({ status, headers = {} }: Answer): RestError {
  // Of a response only status and headers are read here; a Map answers `get` as the SDK's headers do.
  const response = { status, headers: new Map(Object.entries(headers)), bodyAsText: "sig=s3cret" };
  return new RestError("Server failed: sig=s3cret", { statusCode: status, response: response as never });
}

test.each([
  { status: 400, kind: "rejected" },
  { status: 401, kind: "denied" },
  { status: 403, kind: "denied" },
  { status: 408, kind: "unavailable" },
  { status: 409, kind: "conflict" },
  { status: 412, kind: "conflict" },
  { status: 416, kind: "rejected" },
  { status: 500, kind: "unavailable" },
  { status: 502, kind: "unavailable" },
  { status: 503, kind: "unavailable" },
])("an answer of $status is $kind", ({ status, kind }) => {
  expect(storeFault("asking", answered({ status }))).toMatchObject({ kind });
});

test("an answer of 404 is no fault", () => {
  expect(storeFault("asking", answered({ status: 404 }))).toBeNull();
});

test.each([
  { status: 429, headers: { "retry-after": "12" }, retryAfter: 12_000 },
  { status: 429, headers: {}, retryAfter: 5000 },
  { status: 429, headers: { "retry-after": "Sun, 06 Nov 2044 08:49:37 GMT" }, retryAfter: 5000 },
  { status: 503, headers: { "retry-after": "3" }, retryAfter: 3000 },
  { status: 503, headers: { "x-ms-error-code": "ServerBusy" }, retryAfter: 5000 },
])("an answer of $status with $headers throttles for $retryAfter ms", ({ status, headers, retryAfter }) => {
  expect(storeFault("asking", answered({ status, headers }))).toMatchObject({
    kind: "throttled",
    retryAfter,
  });
});

test("the message names what was done, the status and the service's code, and nothing of the URL", () => {
  const fault = storeFault(
    "reading the blob's properties",
    answered({ status: 403, headers: { "x-ms-error-code": "AuthorizationPermissionMismatch" } }),
  );
  expect(fault?.message).toBe("reading the blob's properties: 403 AuthorizationPermissionMismatch");
});

test("a code that is not one word is left out", () => {
  const fault = storeFault(
    "asking",
    answered({ status: 403, headers: { "x-ms-error-code": "bad sig=s3cret" } }),
  );
  expect(fault?.message).toBe("asking: 403");
});

test("a connection that fails is unavailable, with the system's code", () => {
  const thrown = new RestError("connect ECONNREFUSED 127.0.0.1:1", { code: "ECONNREFUSED" });
  expect(storeFault("asking", thrown)).toEqual({ kind: "unavailable", message: "asking: ECONNREFUSED" });
});

test.each([
  { name: "CredentialUnavailableError", statusCode: undefined, kind: "denied" },
  { name: "AggregateAuthenticationError", statusCode: undefined, kind: "denied" },
  { name: "AuthenticationError", statusCode: 400, kind: "denied" },
  { name: "AuthenticationError", statusCode: 503, kind: "unavailable" },
])("$name with status $statusCode is $kind", ({ name, statusCode, kind }) => {
  const thrown = Object.assign(new Error("client secret s3cret is wrong"), { name, statusCode });
  const fault = storeFault("asking", thrown);
  expect(fault).toMatchObject({ kind });
  expect(JSON.stringify(fault)).not.toContain("s3cret");
});
