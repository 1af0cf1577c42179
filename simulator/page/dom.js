// Everything that comes from the hub is text: elements are made one by one, and nothing is ever parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; a text is a text, whatever is in it. `onclick` and such are listeners. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function drawing(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export function byId(id) {
  return document.getElementById(id);
}

const shown = new WeakMap();

/**
* Fills a container again where what it shows has changed. The focus stays where it is: the element with the
 * same `data-key` gets it back.
 */
export function show(container, what, build) {
  const text = JSON.stringify(what);
  if (shown.get(container) === text) return;
  shown.set(container, text);
  const { activeElement } = document;
  const key = container.contains(activeElement) ? activeElement.dataset.key : undefined;
  container.replaceChildren(...[build(what)].flat());
  if (key === undefined) return;
  const successor = [...container.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key);
  successor?.focus({ preventScroll: true });
}

const NUMBERS = new Intl.NumberFormat("en");

export function count(number) {
  return NUMBERS.format(number);
}

/** `12 s`, `3 min`, `2 h`, `4 d` from one moment to a later one; a dash where one of them is none. */
export function since(written, now) {
  const seconds = (Date.parse(now) - Date.parse(written)) / 1000;
  if (Number.isNaN(seconds)) return "–";
  if (seconds < 0) return "ahead";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return seconds < 86_400 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}

export function badge(state) {
  return element("span", { class: `badge state-${state}` }, state);
}
