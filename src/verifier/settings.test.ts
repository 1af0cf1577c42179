import { expect, test } from "vitest";
import { parseSettings } from "./settings.ts";

test("settings are flags with defaults", () => {
  expect(parseSettings(["--socket", "/tmp/v.sock", "--memory-limit=512Mi"])).toEqual({
    kind: "settings",
    settings: { socket: "/tmp/v.sock", workdir: "/var/lib/edgefleet-verifier", memoryBytes: 512 * 2 ** 20 },
  });
  expect(parseSettings([])).toMatchObject({ settings: { memoryBytes: 2 * 2 ** 30 } });
});

test("all mistakes are told at once", () => {
  const args = [
    "--socket",
    "relative.sock",
    "--workdir",
    "w",
    "--memory-limit",
    "64Mi",
    "--sockt=x",
    "extra",
  ];
  expect(parseSettings(args)).toEqual({
    kind: "mistakes",
    mistakes: [
      "--sockt: no such setting, see --help",
      '"extra" is not understood; see --help',
      '--socket: "relative.sock" is not an absolute path of at most 100 characters',
      '--workdir: "w" is not an absolute path',
      '--memory-limit: "64Mi" is not a size of at least 128Mi, such as 512Mi or 2Gi',
    ],
  });
  expect(parseSettings(["--workdir"])).toMatchObject({ mistakes: ["--workdir: needs a value"] });
});

test("help names every setting", () => {
  const parsed = parseSettings(["--help", "--nonsense"]);
  expect(parsed).toMatchObject({
    kind: "help",
    text: expect.stringMatching(/--socket.*--workdir.*--memory-limit/s),
  });
});
