import { describe, expect, test } from "vitest";
import { allFlags, type FlagStyle, flagsHelp, HELP, readFlags } from "./flags.ts";

const GROUPS = {
  Input: {
    file: { value: "FILE", help: "what is read", repeats: true },
    limit: { value: "N", help: "how much of it", short: "l" },
  },
  Other: { quiet: { value: null, help: "no progress", short: "q" }, help: HELP },
} as const;

function read(args: readonly string[], style: FlagStyle = "command") {
  const { values, ...rest } = readFlags(args, allFlags(GROUPS), style);
  return { values: Object.fromEntries(values), ...rest };
}

test("flags have values after a space or an equals sign, short names, and switches have none", () => {
  expect(read(["a", "--file", "x", "--file=y=z", "-l", "3", "-q", "--", "--quiet"])).toEqual({
    values: { file: ["x", "y=z"], limit: ["3"], quiet: [""] },
    positionals: ["a", "--quiet"],
    problems: [],
  });
});

describe("every mistake is reported at once:", () => {
  test.each([
    [["--limt", "3", "a"], ["--limt is not known; did you mean --limit?"], ["a"]],
    [["--limt=3", "a"], ["--limt is not known; did you mean --limit?"], ["a"]],
    [["--quit", "a"], ["--quit is not known; did you mean --quiet?"], ["a"]],
    [["--frobnicate", "3", "--constructor"], ["--frobnicate is not known", "--constructor is not known"], []],
    [
      ["--limit", "--quiet=yes"],
      ["--limit needs a value: N, not the flag --quiet=yes", "--quiet takes no value"],
      [],
    ],
    [["--limit"], ["--limit needs a value: N"], []],
    [["--limit=", "-l", "1", "-l", "2"], ["--limit needs a value: N", "-l is given more than once"], []],
  ])("%j", (args, problems, positionals) => {
    expect(read(args)).toMatchObject({ problems, positionals });
  });
});

test("to a server a flag may be given again, and an empty value is one", () => {
  expect(read(["--limit", "1", "--limit="], "server")).toMatchObject({
    values: { limit: ["1", ""] },
    problems: [],
  });
});

test("the help lists flags by subject, with what stands for their values", () => {
  expect(flagsHelp(GROUPS)).toEqual([
    "Input:",
    "  --file FILE                       what is read",
    "  -l, --limit N                     how much of it",
    "",
    "Other:",
    "  -q, --quiet                       no progress",
    "  -h, --help                        print this and exit",
    "",
  ]);
});
