import { execFile, execFileSync, spawn } from "node:child_process";
import { createServer } from "node:http";
import { connect } from "node:net";
import { expect, test } from "vitest";

test.each<[string, () => unknown]>([
  ["listens", () => createServer().listen(0)],
  ["connects", () => connect(1, "127.0.0.1")],
  ["starts a process", () => spawn(process.execPath)],
  ["starts a process and takes its output", () => execFile(process.execPath, () => undefined)],
  ["starts a process and waits for it", () => execFileSync(process.execPath)],
])("a unit test that %s is refused, with the name that its file needs", (_what, act) => {
  expect(act).toThrow("*.integration.test.ts");
});

test("nor can a unit test fetch anything", async () => {
  await expect(fetch("http://127.0.0.1:12345/")).rejects.toMatchObject({
    cause: { message: expect.stringContaining("*.integration.test.ts") },
  });
});
