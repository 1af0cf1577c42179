import { networkInterfaces } from "node:os";
import { expect, test } from "vitest";
import { serverNames, withoutPort } from "./server-names.ts";

test("a server is known by the hub's name, as this machine, and by the address that it serves on", () => {
  expect(serverNames("Sim.example", "127.0.0.1")).toEqual(["sim.example", "localhost", "127.0.0.1", "::1"]);
  expect(serverNames("sim.example", "192.0.2.7")).toContain("192.0.2.7");
  const own = Object.values(networkInterfaces()).flatMap((list = []) => list);
  expect(own.length).toBeGreaterThan(0);
  const known = serverNames("sim.example", "0.0.0.0");
  for (const { address } of own) expect(known).toContain(address.replace(/%.*$/, ""));
  expect(known).not.toContain("0.0.0.0");
});

test.each([
  ["Sim.example:8883", "sim.example"],
  ["127.0.0.1", "127.0.0.1"],
  ["[::1]:8883", "::1"],
  ["[::1]", "::1"],
  ["::1", "::1"],
])("%s without its port is %s", (host, name) => {
  expect(withoutPort(host)).toBe(name);
});
