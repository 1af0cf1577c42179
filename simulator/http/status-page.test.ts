import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createStatusPage } from "./status-page.ts";

const FOLDER = join(import.meta.dirname, "../page");
const serve = createStatusPage({ address: "127.0.0.1", hostName: "simhub.azure-devices.net" });

async function get(url: string, method = "GET", headers: Readonly<Record<string, string>> = {}) {
  const reply = await serve({ method, url, headers: { host: "localhost", ...headers }, body: "" });
  if (reply === null) throw new Error(`${url} is not the page's`);
  return reply;
}

test("every file of the page is served with its type and with nothing allowed that the page does not need", async () => {
  const files = readdirSync(FOLDER).filter((name) => !name.endsWith(".test.ts"));
  expect(files.length).toBeGreaterThan(5);
  const types: Readonly<Record<string, string>> = {
    html: "text/html; charset=utf-8",
    css: "text/css; charset=utf-8",
    js: "text/javascript; charset=utf-8",
    svg: "image/svg+xml",
  };
  for (const name of files) {
    const reply = await get(name === "index.html" ? "/" : `/page/${name}`);
    expect([name, reply.status, reply.headers["Content-Type"]]).toEqual([
      name,
      200,
      types[name.split(".")[1] ?? ""],
    ]);
    expect(reply.body).toBe(readFileSync(join(FOLDER, name), "utf8"));
    expect(reply.headers["X-Content-Type-Options"]).toBe("nosniff");
    const policy = reply.headers["Content-Security-Policy"] ?? "";
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toMatch(/unsafe|data:|https?:|\*/);
  }
});

test("the page names no place but its own, and turns no text into markup", () => {
  for (const name of readdirSync(FOLDER).filter((file) => !file.endsWith(".ts"))) {
    const text = readFileSync(join(FOLDER, name), "utf8").replaceAll("http://www.w3.org/2000/svg", "");
    expect(
      text.match(/https?:\/\/|@import|url\(|style=|innerHTML|outerHTML|insertAdjacent|\beval\b/g) ?? [],
    ).toEqual([]);
  }
});

test("what is not a file of the page, and what may not be done with one, is refused", async () => {
  expect((await get("/page/none.js")).status).toBe(404);
  expect((await get("/page/../http/server.ts").catch((problem: Error) => problem)) instanceof Error).toBe(
    true,
  );
  expect((await get("/page/%2e%2e%2fmain.ts")).status).toBe(404);
  const posted = await get("/", "POST");
  expect([posted.status, posted.headers["Allow"]]).toEqual([405, "GET, HEAD"]);
  expect((await get("/", "HEAD")).status).toBe(200);
  expect((await get("/", "GET", { host: "evil.example" })).status).toBe(403);
  expect(await serve({ method: "GET", url: "/devices/cam-1", headers: {}, body: "" })).toBeNull();
});
