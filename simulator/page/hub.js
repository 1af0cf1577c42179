import { badge, byId, count, element, show } from "./dom.js";

// What the hub has: its budgets, its configurations and jobs, and the behaviours of the simulated devices.

/** A budget that has less than this of what it may have is short. */
const SHORT = 0.2;

export function showBudgets(budgets, quota, throttling) {
  const rows = budgets.map(({ name, left, capacity }) => ({
    name,
    left: Math.floor(left),
    capacity,
    isShort: left < capacity * SHORT,
  }));
  byId("quota").textContent = throttling
    ? `${count(quota.messages)}${quota.limit === null ? "" : ` of ${count(quota.limit)}`} messages today`
    : "not held to them";
  show(byId("budgets"), rows, () =>
    rows.map(({ name, left, capacity, isShort }) =>
      element(
        "li",
        isShort ? { class: "short" } : {},
        element("span", { class: "name" }, name),
        element("meter", { min: 0, max: capacity, value: left, "aria-label": `${name}: ${left} of ${capacity}` }),
        element("span", { class: "figure" }, count(left)),
      ),
    ),
  );
}

export function showConfigurations(configurations) {
  show(byId("configurations"), configurations, () =>
    configurations.length === 0
      ? element("tr", {}, element("td", { colspan: 8, class: "quiet empty" }, "There is no configuration."))
      : configurations.map(({ id, kind, priority, condition, metrics }) => {
          const number = (name) =>
            element("td", { class: "number" }, metrics[name] === undefined ? "–" : count(metrics[name]));
          return element(
            "tr",
            {},
            element("td", { class: "code" }, id),
            element("td", { class: "minor" }, kind),
            element("td", { class: "number" }, String(priority)),
            element("td", { class: "code condition" }, condition === "" ? "(none)" : condition),
            number("targetedCount"),
            number("appliedCount"),
            number("reportedSuccessfulCount"),
            number("reportedFailedCount"),
          );
        }),
  );
}

export function showJobs({ total, newest }) {
  byId("job-count").textContent = total > newest.length ? `${newest.length} of ${count(total)}` : "";
  show(byId("jobs"), newest, () =>
    newest.length === 0
      ? element("li", { class: "quiet" }, "There is no job.")
      : newest.map(({ jobId, type, status, devices, succeeded, failed }) =>
          element(
            "li",
            {},
            element(
              "div",
              {},
              element("strong", { class: "code" }, jobId),
              element("div", { class: "small quiet" }, type),
              element(
                "div",
                { class: "small quiet figure" },
                `${count(succeeded)} of ${count(devices)} devices done${failed > 0 ? `, ${count(failed)} failed` : ""}`,
              ),
            ),
            badge(status),
          ),
        ),
  );
}

export function showBehaviours({ total, first }) {
  byId("behaviour-count").textContent = total > first.length ? `${first.length} of ${count(total)}` : "";
  show(byId("behaviours"), first, () =>
    first.length === 0
      ? element("li", { class: "quiet" }, "None: every device is healthy.")
      : first.map(({ name, match, effects }) =>
          element(
            "li",
            {},
            element(
              "div",
              {},
              element("strong", {}, name ?? "unnamed"),
              element("div", { class: "code small" }, partsOf(match) || "every device"),
              element("div", { class: "code small quiet" }, partsOf(effects)),
            ),
          ),
        ),
  );
}

/** `{site: "a", percent: 10}` → `site a · percent 10`. */
function partsOf(object) {
  return Object.entries(object ?? {})
    .map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join(" · ");
}
