import { call } from "./api.js";
import { badge, byId, count, element, show, since } from "./dom.js";

// The fleet in numbers, and its devices a page at a time.

const ROWS = 25;
const TYPING = 200;

/** Devices by state, release, site and class. A press on one lists them. */
export function showFleet({ total, states, ...groups }, choose) {
  byId("device-count").textContent = count(total);
  const present = Object.entries(states).filter(([, many]) => many > 0);
  show(byId("state-bar"), present, () =>
    present.map(([state, many]) => {
      const part = element("span", { class: `state-${state}` });
      part.style.flexGrow = String(many);
      return part;
    }),
  );
  show(byId("states"), states, () =>
    Object.entries(states).map(([state, many]) =>
      element(
        "button",
        { type: "button", "data-key": state, class: "chip", onclick: () => choose({ state, words: "" }) },
        element("span", { class: `swatch state-${state}` }),
        state,
        element("strong", { class: "figure" }, count(many)),
      ),
    ),
  );
  show(byId("groups"), groups, () =>
    [
      ["Releases", groups.releases],
      ["Sites", groups.sites],
      ["Classes", groups.classes],
    ]
      .filter(([, { distinct }]) => distinct > 0)
      .map(([title, group]) => groupOf(title, group, total, choose)),
  );
}

function groupOf(title, { distinct, largest }, total, choose) {
  const more = distinct - largest.length;
  return element(
    "div",
    { class: "group" },
    element("h3", {}, title),
    element(
      "ul",
      {},
      largest.map(({ name, count: many }) =>
        element(
          "li",
          {},
          element(
            "button",
            {
              type: "button",
              class: "plain name",
              "data-key": `${title} ${name}`,
              onclick: () => choose({ state: "", words: name }),
            },
            name,
          ),
          element("meter", { min: 0, max: Math.max(1, total), value: many, "aria-hidden": "true" }),
          element("span", { class: "figure" }, count(many)),
        ),
      ),
      more > 0 ? element("li", { class: "quiet" }, `and ${count(more)} more`) : null,
    ),
  );
}

/** The table with its search. `open` is called with the id of a device. */
export function createDeviceTable(states, { open, complain }) {
  const words = byId("words");
  const state = byId("state");
  let offset = 0;
  let asked = 0;
  let typing;
  state.append(...states.map((name) => element("option", { value: name }, name)));

  async function refresh() {
    const turn = ++asked;
    const query = new URLSearchParams({ offset, limit: ROWS });
    if (words.value.trim() !== "") query.set("search", words.value.trim());
    if (state.value !== "") query.set("state", state.value);
    const [page, { now }] = await Promise.all([
      call("GET", `/sim/devices?${query}`),
      call("GET", "/sim/clock"),
    ]);
    // An answer that was overtaken by a later one is not shown.
    if (turn !== asked) return;
    if (page.devices.length === 0 && offset > 0) {
      offset = 0;
      return await refresh();
    }
    showPage(page, now);
  }

  function showPage({ total, devices }, now) {
    const rows = devices.map((device) => ({ ...device, heard: since(device.heartbeatAt, now) }));
    show(byId("devices"), rows, () =>
      rows.length === 0
        ? element("tr", {}, element("td", { colspan: 6, class: "quiet empty" }, "No device is like that."))
        : rows.map(rowOf),
    );
    const last = offset + devices.length;
    byId("range").textContent =
      total === 0 ? "0 devices" : `${count(offset + 1)}–${count(last)} of ${count(total)}`;
    byId("previous").disabled = offset === 0;
    byId("next").disabled = last >= total;
  }

  function rowOf({ deviceId, state: now, release, error, deviceClass, site, heard, iotEdge }) {
    const name = element(
      "button",
      { type: "button", class: "plain name", "data-key": deviceId, onclick: () => open(deviceId) },
      deviceId,
    );
    return element(
      "tr",
      {},
      element("td", {}, name, iotEdge ? element("span", { class: "mark", title: "IoT Edge device" }, "edge") : null),
      element("td", {}, badge(now), error === null ? null : element("span", { class: "small quiet" }, ` ${error}`)),
      element("td", { class: "code" }, release ?? "–"),
      element("td", { class: "minor" }, deviceClass ?? "–"),
      element("td", { class: "minor" }, site ?? "–"),
      element("td", { class: "number" }, heard),
    );
  }

  function restart() {
    offset = 0;
    refresh().catch(complain);
  }

  words.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(restart, TYPING);
  });
  state.addEventListener("change", restart);
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    restart();
  });
  byId("previous").addEventListener("click", () => {
    offset = Math.max(0, offset - ROWS);
    refresh().catch(complain);
  });
  byId("next").addEventListener("click", () => {
    offset += ROWS;
    refresh().catch(complain);
  });

  return {
    refresh,
    choose: (chosen) => {
      words.value = chosen.words;
      state.value = chosen.state;
      restart();
      byId("fleet").scrollIntoView({ block: "start" });
      byId("fleet").focus({ preventScroll: true });
    },
  };
}
