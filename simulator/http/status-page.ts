import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ownValue } from "../base/json.ts";
import { refused } from "./control/control-route.ts";
import type { ControlApi } from "./server.ts";
import { type HttpReply, urlOf } from "./transport/http-message.ts";
import { originProblem, type Place } from "./transport/origin.ts";

// The page at `/` and the files that it is made of, as they lie in simulator/page. It needs no key, for the same reason
// as the control API, of which it shows what it shows.

/** Of the source, or beside the bundle (`tools/build.ts`). */
const FOLDER = join(import.meta.dirname, import.meta.filename.endsWith(".ts") ? "../page" : "page");

const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml",
};

const FILES = [
  "index.html",
  "page.css",
  "icon.svg",
  "main.js",
  "api.js",
  "chart.js",
  "device.js",
  "dom.js",
  "events.js",
  "faults.js",
  "fleet.js",
  "hub.js",
] as const;

/** Nothing is fetched from elsewhere, nothing in the page is code or style, and no text ever becomes markup. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join("; ");

const HEADERS = {
  "Content-Security-Policy": POLICY,
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cache-Control": "no-cache",
};

export function createStatusPage(place: Place): ControlApi {
  const pages = new Map(
    FILES.map((name): [string, HttpReply] => [
      name === "index.html" ? "/" : `/page/${name}`,
      {
        status: 200,
        headers: { ...HEADERS, "Content-Type": ownValue(TYPES, name.split(".").at(-1) ?? "") ?? "" },
        body: readFileSync(join(FOLDER, name), "utf8"),
      },
    ]),
  );

  return (request) => {
    const path = urlOf(request)?.pathname ?? "";
    const page = pages.get(path);
    if (page === undefined && !path.startsWith("/page/")) return null;
    return Promise.resolve(replyTo(request.method, page, originProblem(request, place)));
  };
}

function replyTo(method: string, page: HttpReply | undefined, problem: string | null): HttpReply {
  if (problem !== null) return refused(403, [problem]);
  if (page === undefined) return refused(404, ["there is no such file of the page; the page is at /"]);
  if (method === "GET" || method === "HEAD") return page;
  return refused(405, [`${method} is not possible here; GET, HEAD are`], { Allow: "GET, HEAD" });
}
