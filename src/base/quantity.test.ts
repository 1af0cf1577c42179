import { expect, test } from "vitest";
import { bytesOf } from "./quantity.ts";

test.each<[string, number | null]>([
  ["4096", 4096],
  ["1Ki", 1024],
  ["512Mi", 536_870_912],
  ["2Gi", 2_147_483_648],
  ["0Mi", null],
  ["512MB", null],
  ["-1Mi", null],
  ["1.5Gi", null],
  ["", null],
])("%s is %s bytes", (written, bytes) => {
  expect(bytesOf(written)).toBe(bytes);
});
