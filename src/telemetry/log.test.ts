import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { redact } from "../base/redact.ts";
import { createLog } from "./log.ts";

// Invented, in the shapes of real ones.
const KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQ=";
const SIG = "Zm9vYmFyYmF6%2Bquux%3D";
const JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbnlib2R5In0.c2lnbmF0dXJl";

describe("redact", () => {
  test.each([
    [
      `HostName=h.azure-devices.net;SharedAccessKeyName=iothubowner;SharedAccessKey=${KEY}`,
      "HostName=h.azure-devices.net;SharedAccessKeyName=iothubowner;SharedAccessKey=[redacted]",
    ],
    [
      `DefaultEndpointsProtocol=https;AccountName=models;AccountKey=${KEY};EndpointSuffix=core.windows.net`,
      "DefaultEndpointsProtocol=https;AccountName=models;AccountKey=[redacted];EndpointSuffix=core.windows.net",
    ],
    [
      `GET https://models.blob.core.windows.net/m/a.onnx?sv=2025-11-05&sig=${SIG}&se=2026-01-01 failed`,
      "GET https://models.blob.core.windows.net/m/a.onnx?sv=2025-11-05&sig=[redacted]&se=2026-01-01 failed",
    ],
    [`next=https%3A%2F%2Fx%3Fsig%3D${SIG}`, "next=https%3A%2F%2Fx%3Fsig%3D[redacted]"],
    [
      `authorization: SharedAccessSignature sr=h&sig=${SIG}&se=1&skn=iothubowner`,
      "authorization: SharedAccessSignature [redacted]",
    ],
    [
      `BlobEndpoint=https://x;SharedAccessSignature=sv=1&sig=${SIG}`,
      "BlobEndpoint=https://x;SharedAccessSignature=[redacted]",
    ],
    ["Authorization: Bearer abcdefgh12345678", "Authorization: Bearer [redacted]"],
    [`token ${JWT} expired`, "token [redacted] expired"],
    [
      `{"primaryKey":"${KEY}","secondaryKey": "${KEY}"}`,
      '{"primaryKey":"[redacted]","secondaryKey": "[redacted]"}',
    ],
    ["password=hunter22", "password=[redacted]"],
  ])("hides the secret in %s", (text, clear) => {
    expect(redact(text)).toBe(clear);
    expect(redact(clear)).toBe(clear);
  });

  test.each([
    "reconciled plant-a/cam-0042",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "the SharedAccessKeyName is iothubowner",
    "design=2 assigned=3",
    "the Bearer of bad news",
  ])("leaves %s unchanged", (text) => {
    expect(redact(text)).toBe(text);
  });

  test("never lets a key of a connection string through, wherever it stands", () => {
    const base64 = fc.base64String({ minLength: 12, maxLength: 60 }).filter((text) => !text.startsWith("["));
    fc.assert(
      fc.property(base64, fc.string(), fc.string(), (key, before, after) => {
        for (const name of ["SharedAccessKey", "AccountKey"])
          expect(redact(`${before} ${name}=${key};${after}`)).toContain(`${name}=[redacted];`);
      }),
    );
  });
});

describe("the log", () => {
  function capture(level: Parameters<typeof createLog>[0] = "debug") {
    const lines: Record<string, unknown>[] = [];
    const log = createLog(level, { write: (line) => lines.push(JSON.parse(line)) });
    return { log, lines };
  }

  test("writes one JSON object an entry: level, time, message and fields, also those of its parents", () => {
    const { log, lines } = capture();
    log.with({ controller: "devices" }).with({ key: "a/b" }).info("reconciled", { seconds: 2 });
    expect(lines).toEqual([
      {
        level: "info",
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
        controller: "devices",
        key: "a/b",
        seconds: 2,
        message: "reconciled",
      },
    ]);
  });

  test("leaves out what is below its level", () => {
    const { log, lines } = capture("warn");
    log.debug("no");
    log.info("no");
    log.warn("yes");
    log.error("yes", new Error("x"));
    expect(lines.map(({ message }) => message)).toEqual(["yes", "yes"]);
  });

  test("redacts fields, fields of children, and the text of errors", () => {
    const { log, lines } = capture();
    log.with({ url: `https://x/?sig=${SIG}` }).warn("w", { cause: `SharedAccessKey=${KEY}` });
    log.error("e", new Error(`SharedAccessKey=${KEY}`, { cause: new Error(`sig=${SIG}`) }));
    log.error("e", `AccountKey=${KEY}`);
    log.error("e", { detail: `AccountKey=${KEY}` });
    const text = JSON.stringify(lines);
    expect(text).not.toContain(KEY);
    expect(text).not.toContain(SIG);
    expect(text).toContain("[redacted]");
  });

  test("writes the text, the stack and the causes of an error, and none of its other properties", () => {
    const { log, lines } = capture();
    const vendor = Object.assign(new Error("gone", { cause: new TypeError("reset") }), {
      response: { headers: { authorization: "anything" } },
    });
    log.error("call failed", vendor);
    expect(lines[0]).toMatchObject({
      error: "Error: gone ← TypeError: reset",
      stack: expect.stringContaining("log.test.ts"),
    });
    expect(JSON.stringify(lines)).not.toContain("authorization");
  });

  test("can write any cause, a circular one too", () => {
    const { log, lines } = capture();
    const circular: Record<string, unknown> = {};
    circular["self"] = circular;
    log.error("e", circular);
    log.error("e", undefined);
    expect(lines.length).toBe(2);
  });
});
