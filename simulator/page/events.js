import { element, show } from "./dom.js";

const SOURCES = {
  Telemetry: "telemetry",
  twinChangeEvents: "twin",
  deviceLifecycleEvents: "lifecycle",
  deviceConnectionStateEvents: "connection",
};

export function showEvents(list, events, open) {
  show(list, events, () =>
    events.length === 0
      ? element("li", { class: "quiet" }, "No event yet.")
      : events.map((event) => eventRow(event, open)),
  );
}

/** `open` is called with the id of the device; `null`: it is clear which one is meant. */
export function eventRow({ sequenceNumber, at, source, device, module, text }, open) {
  const who = module === null ? device : `${device}/${module}`;
  const name =
    open === null
      ? module === null
        ? null
        : element("span", { class: "code" }, module)
      : element(
          "button",
          { type: "button", class: "plain name", "data-key": String(sequenceNumber), onclick: () => open(device) },
          who,
        );
  return element(
    "li",
    {},
    element("time", { datetime: at, title: at }, at.slice(11, 19)),
    element("span", { class: "mark" }, SOURCES[source] ?? source),
    name,
    element("span", { class: "text" }, text),
  );
}
