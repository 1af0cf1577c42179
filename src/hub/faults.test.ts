import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { redact } from "../base/redact.ts";
import { instant, minutes, seconds } from "../base/time.ts";
import {
  type ErrorAnswer,
  faultOfAnswer,
  faultOfError,
  faultOfShape,
  hubErrorOf,
  isAbsent,
} from "./faults.ts";

const CONTEXT = { operation: "getTwin", right: "ServiceConnect", now: instant(0), random: () => 0.5 };
const TRACKING = "Tracking ID:0123456789abcdef0123456789abcdef-G:3-TimeStamp:08/01/2026 10:11:12";

function answer(
  status: number,
  code: string,
  text = "some text",
  headers: ErrorAnswer["headers"] = {},
): ErrorAnswer {
  const body = JSON.stringify({ Message: `ErrorCode:${code};${text}`, ExceptionMessage: TRACKING });
  return { status, headers, body };
}

describe("errors of the hub", () => {
  test("the older body names the code in its message", () => {
    expect(hubErrorOf(answer(400, "ArgumentInvalid", "bad twin"))).toEqual({
      code: "ArgumentInvalid",
      text: "bad twin",
    });
  });
  test("the newer body holds a message that is JSON itself, with a number for a code", () => {
    const inner = {
      errorCode: 404001,
      trackingId: "abc-G:0-TimeStamp:01/01/2026",
      message: "no such device",
      info: {},
    };
    const body = JSON.stringify({ Message: JSON.stringify(inner), ExceptionMessage: "" });
    expect(hubErrorOf({ headers: {}, body })).toEqual({ code: "DeviceNotFound", text: "no such device" });
  });
  test("the header's code wins over the body's", () => {
    expect(hubErrorOf({ headers: { "iothub-errorcode": "DeviceNotFound" }, body: "" })).toEqual({
      code: "DeviceNotFound",
      text: "",
    });
  });
  test("a tracking id is removed, since every event would differ by it", () => {
    expect(hubErrorOf(answer(500, "ServerError", `went wrong, ${TRACKING}`)).text).toBe("went wrong");
  });
  test.each(["", "<html>sign in</html>", "{", "[]", '{"Message":7}', '{"Message":"{\\"errorCode\\":null}"}'])(
    "no body breaks it: %s",
    (body) => {
      expect(() => hubErrorOf({ headers: {}, body })).not.toThrow();
    },
  );
});

describe("fault of an answer", () => {
  test.each([
    [400, "ArgumentInvalid", "rejected"],
    [401, "IotHubUnauthorizedAccess", "denied"],
    [403, "IotHubSuspended", "denied"],
    [403, "IotHubQuotaExceeded", "throttled"],
    [404, "IotHubNotFound", "unavailable"],
    [408, "DeviceTimeout", "unavailable"],
    [409, "DeviceAlreadyExists", "conflict"],
    [412, "PreconditionFailed", "conflict"],
    [413, "ConfigurationCountLimitExceeded", "rejected"],
    [429, "ThrottlingException", "throttled"],
    [302, "Elsewhere", "unavailable"],
    [500, "ServerError", "unavailable"],
    [503, "ServiceUnavailable", "unavailable"],
  ])("%i %s is %s", (status, code, kind) => {
    const fault = faultOfAnswer(answer(status, code), CONTEXT);
    expect(fault.kind).toBe(kind);
    expect(fault.message).toContain(code);
    expect(fault.message).toContain("some text");
    expect(fault.message).toContain("getTwin");
  });
  test("a full hub is reported as full, with the hub's message", () => {
    const fault = faultOfAnswer(answer(413, "ConfigurationCountLimitExceeded", "maximum is 100"), CONTEXT);
    expect(fault.message).toMatch(/the hub is full.*maximum is 100/);
  });
  test("a body that is too large is not a full hub", () => {
    expect(faultOfAnswer(answer(413, "MessageTooLarge"), CONTEXT).message).not.toContain("the hub is full");
  });
  test("a spent quota is retried after a long pause, and named in the message", () => {
    const fault = faultOfAnswer(answer(403, "IotHubQuotaExceeded"), CONTEXT);
    expect(fault).toMatchObject({ kind: "throttled", retryAfter: minutes(10) });
    expect(fault.message).toContain("quota");
  });
  test("a denial names the missing right", () => {
    expect(faultOfAnswer(answer(401, "IotHubUnauthorizedAccess"), CONTEXT).message).toContain(
      "needs ServiceConnect",
    );
  });
  test.each([
    [{ "retry-after": "42" }, 42_000],
    [{ "retry-after": "Thu, 01 Jan 1970 00:00:30 GMT" }, 30_000],
    [{}, 12_500],
  ])("429 waits as long as %j says", (headers, expected) => {
    const fault = faultOfAnswer(answer(429, "ThrottlingException", "slow down", headers), CONTEXT);
    expect(fault).toMatchObject({ kind: "throttled", retryAfter: expected });
  });
  test("without Retry-After the wait is at least 10 s and differs from caller to caller", () => {
    const waits = [0, 0.3, 0.99].map((n) => faultOfAnswer(answer(429, "X"), { ...CONTEXT, random: () => n }));
    const times = waits.map((fault) => (fault.kind === "throttled" ? fault.retryAfter : 0));
    expect(Math.min(...times)).toBeGreaterThanOrEqual(seconds(10));
    expect(new Set(times).size).toBe(3);
  });
});

describe("absence", () => {
  test("only an error code of the hub proves an absence", () => {
    expect(isAbsent(answer(404, "DeviceNotFound"))).toBe(true);
    expect(isAbsent(answer(404, "ConfigurationNotFound"))).toBe(true);
    expect(isAbsent({ status: 404, headers: {}, body: "<html>404</html>" })).toBe(false);
    expect(isAbsent({ status: 404, headers: {}, body: "" })).toBe(false);
    expect(isAbsent(answer(404, "IotHubNotFound"))).toBe(false);
    expect(isAbsent(answer(410, "DeviceNotFound"))).toBe(false);
  });
});

describe("secrets", () => {
  const KEY = "c2VjcmV0LWtleS1vZi0zMi1ieXRlcy1sb25nLi4uLg==";
  test.each([
    `SharedAccessSignature sr=hub.example&sig=abc%2Bdef%3D&skn=owner&se=1`,
    `HostName=h;SharedAccessKeyName=o;SharedAccessKey=${KEY}`,
    `https://store.example/models/a.onnx?sv=2025&sig=abc%2Bdef%3D&se=2026`,
    `Bearer eyJhbGciOi.abc.def`,
    `{"primaryKey":"${KEY}"}`,
    `DefaultEndpointsProtocol=https;AccountName=a;AccountKey=${KEY};EndpointSuffix=x`,
  ])("are removed from %s", (text) => {
    const clean = redact(`before ${text} after`);
    expect(clean).not.toContain(KEY);
    expect(clean).not.toMatch(/sig=(?!\[redacted\])/);
    expect(clean).not.toContain("abc%2Bdef");
    expect(clean).not.toContain("eyJhbGciOi");
    expect(clean).toContain("before");
    expect(clean).toContain("after");
  });
  test("a network error is reported by its code and message alone", () => {
    const error = Object.assign(new Error("connect refused"), {
      code: "ECONNREFUSED",
      response: { req: "sig=abc" },
    });
    expect(faultOfError(error, "getTwin")).toEqual({
      kind: "unavailable",
      message: "getTwin: no answer from the hub: ECONNREFUSED connect refused",
    });
    const named = Object.assign(new Error("connect ECONNREFUSED 10.0.0.1:443"), { code: "ECONNREFUSED" });
    expect(faultOfError(named, "getTwin").message).toBe(
      "getTwin: no answer from the hub: connect ECONNREFUSED 10.0.0.1:443",
    );
    expect(faultOfError(undefined, "getTwin").kind).toBe("unavailable");
    expect(faultOfShape("getTwin", "a twin").message).toContain("not a twin");
  });
});

test("whatever a hub answers becomes a fault of at most one long line", () => {
  fc.assert(
    fc.property(fc.integer({ min: 300, max: 599 }), fc.string({ maxLength: 3000 }), (status, body) => {
      const fault = faultOfAnswer({ status, headers: {}, body }, CONTEXT);
      expect(fault.message).not.toContain("\n");
      expect(fault.message.length).toBeLessThan(800);
    }),
  );
});
