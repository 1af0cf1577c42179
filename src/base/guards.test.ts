import { describe, expect, test } from "vitest";
import { asCode, errorCodeOf, isRecord } from "./guards.ts";

describe("guards", () => {
  test("a record is an object that is neither an array nor null", () => {
    expect(isRecord({})).toBe(true);
    for (const other of [null, undefined, [], "text", 1, () => 1]) expect(isRecord(other)).toBe(false);
  });

  test("a code is one short word", () => {
    expect(asCode("ENOSPC")).toBe("ENOSPC");
    expect(asCode("UND_ERR_BODY_TIMEOUT")).toBe("UND_ERR_BODY_TIMEOUT");
    for (const text of ["", "two words", "https://host/?sig=x", "1E", "E".repeat(65), 20, null])
      expect(asCode(text)).toBeNull();
  });

  test("the code of an error is read from its property `code`", () => {
    expect(errorCodeOf(Object.assign(new Error("disk full"), { code: "ENOSPC" }))).toBe("ENOSPC");
    expect(errorCodeOf({ code: "ECONNRESET" })).toBe("ECONNRESET");
    expect(errorCodeOf(new DOMException("aborted", "AbortError"))).toBeNull();
    for (const other of [new Error("no code"), null, undefined, "ENOSPC"])
      expect(errorCodeOf(other)).toBeNull();
  });
});
