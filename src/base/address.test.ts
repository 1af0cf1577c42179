import { expect, test } from "vitest";
import { formatAddress, parseAddress } from "./address.ts";

test.each([
  ["127.0.0.1:8080", "127.0.0.1", 8080],
  ["localhost:0", "localhost", 0],
  ["[::]:8080", "::", 8080],
  ["[::1]:65535", "::1", 65_535],
  ["[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", 1],
  [":8080", "", 8080],
])("%s is the host %j and the port %i, and is written back the same", (written, host, port) => {
  expect(parseAddress(written)).toEqual({ ok: true, value: { host, port } });
  expect(formatAddress({ host, port })).toBe(written);
});

test.each([
  "",
  "8080",
  "::1:8080",
  "a:65536",
  "a:-1",
  "a:b",
  "[a]:1",
  "a b:1",
  "http://a:1",
  "[::]",
  "a:1/x",
])("%j is refused with the form that is understood", (written) => {
  const parsed = parseAddress(written);
  expect(parsed.ok ? null : parsed.error).toContain(`"${written}" is not host:port; write it like`);
});
