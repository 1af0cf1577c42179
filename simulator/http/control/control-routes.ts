import { Type } from "typebox";
import { answered, type ControlMethod, type ControlOperation, type ControlRoute } from "./control-route.ts";
import { DEVICE_ROUTES } from "./device-routes.ts";
import { FAULT_ROUTES } from "./fault-routes.ts";
import { FLEET_ROUTES } from "./fleet-routes.ts";
import { MESSAGE_ROUTES } from "./message-routes.ts";
import { openApiDocument } from "./openapi.ts";
import { OVERVIEW_ROUTES } from "./overview-routes.ts";
import { SCENARIO_ROUTES } from "./scenario-routes.ts";
import { WORLD_ROUTES } from "./world-routes.ts";

/** Everything under /sim that answers in JSON. */
export const CONTROL_ROUTES: readonly ControlRoute[] = [
  ...WORLD_ROUTES,
  ...OVERVIEW_ROUTES,
  ...DEVICE_ROUTES,
  ...FAULT_ROUTES,
  ...FLEET_ROUTES,
  ...MESSAGE_ROUTES,
  ...SCENARIO_ROUTES,
  {
    path: "/sim/openapi.json",
    methods: {
      GET: {
        summary: "This API, as an OpenAPI document",
        answer: Type.Object({ openapi: Type.Literal("3.1.0"), paths: Type.Object({}) }),
        handle: () => answered(openApiDocument(CONTROL_ROUTES)),
      },
    },
  },
];

export type FoundRoute = { readonly route: ControlRoute; readonly id: string };

/** The route of a path, written with or without slashes at its end; `null` where there is none. */
export function routeOf(segments: readonly string[]): FoundRoute | null {
  const path = `/${segments.join("/")}`;
  const exact = CONTROL_ROUTES.find((route) => route.path === path);
  if (exact !== undefined) return { route: exact, id: "" };
  const parent = `/${segments.slice(0, -1).join("/")}/{id}`;
  const found = CONTROL_ROUTES.find((route) => route.path === parent);
  return found === undefined ? null : { route: found, id: segments.at(-1) ?? "" };
}

/** The operation of a method as it came over the wire; HEAD is a GET whose body is kept back. */
export function operationOf(route: ControlRoute, method: string): ControlOperation | null {
  const name = method === "HEAD" ? "GET" : method;
  return Object.hasOwn(route.methods, name) ? (route.methods[name as ControlMethod] ?? null) : null;
}

/** As the header Allow has them. */
export function methodsOf(route: ControlRoute): readonly string[] {
  return Object.keys(route.methods).flatMap((name) => (name === "GET" ? ["GET", "HEAD"] : [name]));
}
