import { call } from "./api.js";
import { byId, element, show } from "./dom.js";

// What is broken just now, with a way to mend it and a way to break more.

const COMMON = [
  { name: "Outage for 2 minutes", fault: { kind: "outage", until: "2m" } },
  { name: "429 for 30 seconds", fault: { kind: "status", status: 429, until: "30s" } },
  { name: "503 for 1 minute", fault: { kind: "status", status: 503, until: "1m" } },
  { name: "500 ms latency for 1 minute", fault: { kind: "latency", milliseconds: 500, until: "1m" } },
  { name: "Lost answers for 1 minute", fault: { kind: "reset", when: "after", until: "1m" } },
  { name: "Lost reports for 1 minute", fault: { kind: "lostReport", until: "1m" } },
  { name: "Restart of the hub, 20 seconds", fault: { kind: "restart", milliseconds: "20s" } },
];

export function createFaults({ operations, changed, complain }) {
  const kind = byId("fault-kind");
  const operation = byId("fault-operations");
  const devices = byId("fault-devices");
  const percent = byId("fault-percent");
  kind.append(...COMMON.map(({ name }, index) => element("option", { value: index }, name)));
  operation.append(
    element("option", { value: "*" }, "all"),
    ...operations.map((name) => element("option", { value: name }, name)),
  );

  byId("add-fault").addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = COMMON[Number(kind.value)] ?? COMMON[0];
    // Not every kind can be narrowed down: what says "all" is left out, and the hub names what it does not know.
    const fault = { ...chosen.fault };
    if (operation.value !== "*") fault.operations = [operation.value];
    if (!["", "*"].includes(devices.value.trim())) fault.devices = devices.value.trim();
    if (percent.value !== "100") fault.percent = Number(percent.value);
    call("POST", "/sim/faults", fault).then(changed, complain);
  });
  byId("end-all").addEventListener("click", () => {
    call("DELETE", "/sim/faults").then(changed, complain);
  });

  return {
    show: (faults, now) => {
      byId("end-all").hidden = faults.length < 2;
      const rows = faults.map((fault) => ({ id: fault.id, kind: fault.kind, text: textOf(fault, now) }));
      show(byId("faults"), rows, () =>
        rows.length === 0
          ? element("li", { class: "quiet" }, "None: the hub does what it should.")
          : rows.map((row) => rowOf(row)),
      );
    },
  };

  function rowOf({ id, kind: name, text }) {
    const end = () => call("DELETE", `/sim/faults/${encodeURIComponent(id)}`).then(changed, complain);
    return element(
      "li",
      {},
      element(
        "div",
        {},
        element("strong", {}, name),
        element("span", { class: "code small" }, ` ${id}`),
        element("div", { class: "small quiet" }, text),
      ),
      element("button", { type: "button", "data-key": id, "aria-label": `End ${id}`, onclick: end }, "End"),
    );
  }
}

function textOf(fault, now) {
  const { status, milliseconds, bytesPerSecond, variant } = fault;
  const { operations, devices, percent, when, expiresAt, remaining } = fault;
  return [
    status === undefined ? null : String(status),
    milliseconds === undefined ? null : waitOf(milliseconds),
    bytesPerSecond === undefined ? null : `${bytesPerSecond} bytes/s`,
    variant ?? null,
    operations.includes("*") ? null : operations.join(", "),
    devices === "*" ? null : `devices ${devices}`,
    percent === 100 ? null : `${percent} %`,
    when === "after" ? "after the deed" : null,
    lengthOf(expiresAt, remaining, now),
  ]
    .filter((part) => part !== null)
    .join(" · ");
}

/** A number of milliseconds, or a spread such as `{p50: 80, p95: 400}`. */
function waitOf(milliseconds) {
  const parts =
    typeof milliseconds === "number"
      ? [String(milliseconds)]
      : Object.entries(milliseconds).map(([name, value]) => `${name} ${value}`);
  return `${parts.join(", ")} ms`;
}

function lengthOf(expiresAt, remaining, now) {
  if (remaining !== null) return `${remaining} more requests`;
  if (expiresAt === null) return "until it is ended";
  const seconds = Math.max(0, Math.round((Date.parse(expiresAt) - Date.parse(now)) / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} left`;
}
