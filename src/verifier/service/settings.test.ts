import { expect, test } from "vitest";
import { parseSettings } from "./settings.ts";

test("settings are flags with defaults", () => {
  expect(parseSettings(["--socket", "/tmp/v.sock", "--memory-limit=512Mi"])).toEqual({
    kind: "settings",
    settings: {
      socket: "/tmp/v.sock",
      workdir: "/var/lib/edgefleet-verifier",
      memoryBytes: 512 * 2 ** 20,
      cacheDir: "/var/lib/edgefleet-verifier/blobs",
      cacheBytes: 4 * 2 ** 30,
      probes: null,
    },
  });
  expect(parseSettings([])).toMatchObject({ settings: { memoryBytes: 2 * 2 ** 30 } });
  const more = ["--cache-size", "0", "--cache-dir=/cache", "--probe-address", "[::1]:0"];
  expect(parseSettings(more)).toMatchObject({
    settings: { cacheBytes: 0, cacheDir: "/cache", probes: { host: "::1", port: 0 } },
  });
});

test("all mistakes are reported at once", () => {
  const args = [
    "--socket",
    "relative.sock",
    "--workdir",
    "w",
    "--memory-limit",
    "64Mi",
    "--cache-size=lots",
    "--cache-dir=c",
    "--probe-address=8081",
    "--sockt=x",
    "extra",
  ];
  expect(parseSettings(args)).toEqual({
    kind: "mistakes",
    mistakes: [
      "--sockt is not known; did you mean --socket?",
      '"extra" is not understood; see --help',
      '--socket: "relative.sock" is not an absolute path of at most 100 characters',
      '--workdir: "w" is not an absolute path',
      '--memory-limit: "64Mi" is not a size of at least 128Mi, such as 512Mi or 2Gi',
      '--cache-size: "lots" is not a size, such as 512Mi or 8Gi, or 0',
      '--cache-dir: "c" is not an absolute path',
      '--probe-address: "8081" is not host:port; write it like 127.0.0.1:8080, [::1]:8080 or :8080',
    ],
  });
  expect(parseSettings(["--workdir=/a", "--cache-dir=/a"])).toMatchObject({
    mistakes: ['--cache-dir: "/a" is the workdir; give it one of its own'],
  });
  expect(parseSettings(["--probe-address=a:65536"])).toMatchObject({ kind: "mistakes" });
  expect(parseSettings(["--workdir"])).toMatchObject({ mistakes: ["--workdir needs a value: VALUE"] });
});

test("help names every setting", () => {
  const parsed = parseSettings(["--help", "--unknown"]);
  expect(parsed).toMatchObject({
    kind: "help",
    text: expect.stringMatching(
      /--socket.*--workdir.*--memory-limit.*--cache-size.*--cache-dir.*--probe-address/s,
    ),
  });
});
