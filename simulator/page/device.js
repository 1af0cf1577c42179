import { call } from "./api.js";
import { badge, byId, count, element, show } from "./dom.js";
import { eventRow } from "./events.js";

// One device, in a dialog. Its id stands behind the # of the address, so that it can be linked to.

export function createDeviceDialog({ complain }) {
  const dialog = byId("device");
  const body = byId("device-body");
  let shown = null;

  async function refresh() {
    const deviceId = shown;
    if (deviceId === null) return;
    const device = await call("GET", `/sim/devices/${encodeURIComponent(deviceId)}`);
    if (shown !== deviceId) return;
    byId("device-title").textContent = device.deviceId;
    show(byId("device-badge"), device.state, badge);
    // What was opened stays open.
    const open = new Set([...body.querySelectorAll("details[open]")].map((one) => one.dataset.name));
    show(body, device, () => contentOf(device, open));
  }

  function follow() {
    const [, written] = /^#device=(.+)$/.exec(location.hash) ?? [];
    const next = written === undefined ? null : decoded(written);
    if (next === shown) return;
    shown = next;
    if (shown === null) dialog.close();
    else
      refresh().then(
        () => {
          if (shown === next && !dialog.open) dialog.showModal();
        },
        (problem) => {
          leave();
          complain(problem);
        },
      );
  }

  function leave() {
    if (location.hash !== "") history.replaceState(null, "", location.pathname);
    shown = null;
  }

  dialog.addEventListener("close", leave);
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  byId("device-close").addEventListener("click", () => dialog.close());
  addEventListener("hashchange", follow);

  return {
    refresh,
    follow,
    open: (deviceId) => {
      location.hash = `device=${encodeURIComponent(deviceId)}`;
    },
  };
}

function decoded(written) {
  try {
    return decodeURIComponent(written);
  } catch {
    return null;
  }
}

function contentOf(device, open) {
  const facts = [
    ["Release", device.release],
    ["Update", device.error === null ? device.update : `${device.update}: ${device.error}`],
    ["Heartbeat", device.heartbeatAt],
    ["Class", device.deviceClass],
    ["Site", device.site],
    ["Identity", `${device.status}, ${device.authenticationType}${device.iotEdge ? ", IoT Edge" : ""}`],
    ["Connected", device.connected ? "yes" : "no"],
    ["Messages waiting", device.messagesWaiting === 0 ? null : count(device.messagesWaiting)],
  ].filter(([, value]) => value !== null);
  return [
    element(
      "dl",
      { class: "facts" },
      facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
    ),
    documentOf("Tags", device.tags, { open: true }),
    ...twinOf("", device, open),
    element("h3", {}, `Modules (${device.modules.length})`),
    device.modules.length === 0
      ? element("p", { class: "quiet" }, "None.")
      : device.modules.map((module) => moduleOf(module, open)),
    element("h3", {}, "Recent events"),
    device.events.length === 0
      ? element("p", { class: "quiet" }, "None is held.")
      : element("ol", { class: "events" }, device.events.map((event) => eventRow(event, null))),
  ].flat();
}

function moduleOf(module, open) {
  const name = `module ${module.moduleId}`;
  return element(
    "details",
    { class: "module", "data-name": name, open: open.has(name) },
    element(
      "summary",
      { "data-key": name },
      module.moduleId,
      element("span", { class: "small quiet" }, module.connected ? " connected" : " not connected"),
    ),
    twinOf(`${module.moduleId} `, module, open),
  );
}

function twinOf(prefix, { desired, reported, configurations }, open) {
  const opened = (title) => ({ open: open.has(`${prefix}${title}`), name: `${prefix}${title}` });
  return [
    documentOf("Desired", desired.value, { ...opened("Desired"), version: desired.version }),
    documentOf("Reported", reported.value, { ...opened("Reported"), version: reported.version }),
    documentOf("Configurations", configurations, opened("Configurations")),
  ];
}

function documentOf(title, value, { open = false, version = null, name = title } = {}) {
  const keys = Object.keys(value).length;
  const about = [version === null ? null : `version ${version}`, keys === 0 ? "empty" : null];
  return element(
    "details",
    { "data-name": name, open },
    element(
      "summary",
      { "data-key": name },
      title,
      element("span", { class: "small quiet" }, ` ${about.filter((part) => part !== null).join(", ")}`),
    ),
    element("pre", { tabindex: 0, "aria-label": `${name} as JSON` }, JSON.stringify(value, null, 2)),
  );
}
