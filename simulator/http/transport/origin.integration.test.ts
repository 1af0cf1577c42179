import { request } from "node:https";
import { afterEach, expect, test } from "vitest";
import { createSimulator, type Simulator } from "../../simulator.ts";
import { originProblem } from "./origin.ts";

const running: Simulator[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
});

const HOME = { address: "127.0.0.1", hostName: "simhub.azure-devices.net" };

test.each([
  "127.0.0.1:8443",
  "localhost:8443",
  "LOCALHOST",
  "[::1]:8443",
  "simhub.azure-devices.net",
  "SimHub.azure-devices.net:443",
  "192.168.1.5:8443",
])("a request for %s is for this simulator", (host) => {
  expect(originProblem({ headers: { host } }, HOME)).toBeNull();
});

test.each([
  "evil.example:8443",
  "localhost.evil.example",
  "simhub.azure-devices.net.evil.example",
  "127.0.0.1.nip.io",
])("a request for %s comes by a name that a third party has pointed here", (host) => {
  expect(originProblem({ headers: { host } }, HOME)).toContain("is not a name of this simulator");
  expect(originProblem({ headers: { host } }, { ...HOME, address: "0.0.0.0" })).toBeNull();
});

test("a page of another origin is kept out at any address, and its own page is not", () => {
  const from = (origin: string) =>
    originProblem({ headers: { host: "127.0.0.1:8443", origin } }, { ...HOME, address: "0.0.0.0" });
  expect(from("https://127.0.0.1:8443")).toBeNull();
  for (const origin of ["https://evil.example", "null", "http://127.0.0.1:8443", "https://127.0.0.1"])
    expect(from(origin)).toContain("may not call this");
});

test("over the wire: a foreign page changes nothing, and is given no leave to read either", async () => {
  const simulator = createSimulator();
  running.push(simulator);
  const { port, ca } = await simulator.start();
  const call = (method: string, path: string, headers: Readonly<Record<string, string>>, body = "") =>
    new Promise<{ status: number; headers: Readonly<Record<string, unknown>>; text: string }>(
      (resolve, reject) => {
        const sent = request(
          { host: "127.0.0.1", servername: "localhost", port, ca, method, path, headers },
          (response) => {
            let text = "";
            response.setEncoding("utf8").on("data", (chunk: string) => {
              text += chunk;
            });
            response.on("end", () =>
              resolve({ status: response.statusCode ?? 0, headers: response.headers, text }),
            );
          },
        );
        sent.on("error", reject).end(body);
      },
    );
  const outage = JSON.stringify({ kind: "outage" });
  const foreign = { origin: "https://evil.example", "content-type": "text/plain" };
  expect((await call("POST", "/sim/faults", foreign, outage)).status).toBe(403);
  expect((await call("POST", "/sim/faults", { host: "evil.example" }, outage)).status).toBe(403);
  expect(simulator.hub.faults.list()).toEqual([]);
  const asked = await call("OPTIONS", "/sim/faults", { "access-control-request-method": "POST" });
  expect([asked.status, asked.headers["allow"]]).toEqual([405, "GET, HEAD, POST, DELETE"]);
  expect(Object.keys(asked.headers).filter((name) => name.startsWith("access-control"))).toEqual([]);
  const head = await call("HEAD", "/sim/health", {});
  const whole = await call("GET", "/sim/health", {});
  expect([head.status, head.text, Number(head.headers["content-length"]) > 50]).toEqual([200, "", true]);
  expect(whole.headers["x-content-type-options"]).toBe("nosniff");
  const large = await call("POST", "/sim/faults", {}, " ".repeat(1024 * 1024 + 1));
  expect([large.status, JSON.parse(large.text)]).toMatchObject([413, { problems: [expect.any(String)] }]);
});
