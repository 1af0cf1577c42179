import { drawing, element, show } from "./dom.js";

// Operations per second by class: what was counted between two looks, over the last minutes.

const SAMPLES = 90;
const WIDTH = 720;
const HEIGHT = 180;
const STRIP = 14;
const LEFT = 44;
/** Classes get their colour by their place in the hub's own order. */
const COLOURS = 8;

/** Keeps samples of `operations` of the overview, and draws them. */
export function createChart(parts) {
  const samples = [];
  let before = null;

  function add(operations, at) {
    const isFirst = before === null || before.operations.since !== operations.since;
    const seconds = isFirst ? 0 : (at - before.at) / 1000;
    if (seconds > 0) {
      samples.push(sampleOf(operations.classes, before.operations.classes, seconds));
      if (samples.length > SAMPLES) samples.shift();
    }
    // Counting has started again at zero: earlier values do not compare.
    before = { operations, at };
    draw(parts, samples, Object.keys(operations.classes));
  }

  return { add };
}

function sampleOf(now, earlier, seconds) {
  const rates = {};
  const sums = { total: 0, throttled: 0, refused: 0, failed: 0 };
  for (const [name, tally] of Object.entries(now)) {
    for (const what of Object.keys(sums)) sums[what] += tally[what] - (earlier[name]?.[what] ?? 0);
    rates[name] = Math.max(0, tally.total - (earlier[name]?.total ?? 0)) / seconds;
  }
  return { rates, ...sums };
}

function draw({ chart, legend, shares }, samples, names) {
  const colourOf = (name) => `series-${names.indexOf(name) % COLOURS}`;
  const used = names.filter((name) => samples.some(({ rates }) => (rates[name] ?? 0) > 0));
  const last = samples.at(-1);
  const total = last === undefined ? 0 : sumOf(last.rates);
  chart.replaceChildren(pictureOf(samples, used, colourOf, total));
  const rows = used.map((name) => ({ name, rate: rateText(last?.rates[name] ?? 0) }));
  show(legend, rows, () =>
    rows.length === 0
      ? element("li", { class: "quiet" }, "Nothing has been asked of the hub for some minutes.")
      : rows.map(({ name, rate }) =>
          element(
            "li",
            {},
            element("span", { class: `swatch ${colourOf(name)}` }),
            element("span", {}, name),
            element("strong", { class: "figure" }, rate),
          ),
        ),
  );
  const all = { total: 0, throttled: 0, refused: 0, failed: 0 };
  for (const sample of samples) for (const what of Object.keys(all)) all[what] += sample[what];
  const share = (many) => (all.total === 0 ? "0 %" : `${((many / all.total) * 100).toFixed(1)} %`);
  shares.textContent = `${rateText(total)}/s · throttled ${share(all.throttled)} · refused ${share(all.refused)} · failed ${share(all.failed)}`;
}

function pictureOf(samples, used, colourOf, total) {
  const most = niceCeiling(Math.max(1, ...samples.map(({ rates }) => sumOf(rates))));
  const step = (WIDTH - LEFT) / (SAMPLES - 1);
  const first = SAMPLES - samples.length;
  const x = (index) => LEFT + (first + index) * step;
  const y = (rate) => HEIGHT - (rate / most) * (HEIGHT - 12);
  const floor = samples.map(() => 0);
  const areas = used.map((name) => {
    const bottom = [...floor];
    samples.forEach(({ rates }, index) => {
      floor[index] += rates[name] ?? 0;
    });
    const up = floor.map((rate, index) => `${x(index).toFixed(1)},${y(rate).toFixed(1)}`);
    const down = bottom.map((rate, index) => `${x(index).toFixed(1)},${y(rate).toFixed(1)}`).reverse();
    return drawing("polygon", { class: colourOf(name), points: [...up, ...down].join(" ") });
  });
  const lines = [0, 0.5, 1].flatMap((part) => [
    drawing("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y(most * part), y2: y(most * part) }),
    drawing("text", { x: LEFT - 8, y: y(most * part) + 4, "text-anchor": "end" }, rateText(most * part)),
  ]);
  const troubles = samples.flatMap((sample, index) => troubleAt(sample, x(index) - step / 2, step));
  return drawing(
    "svg",
    {
      viewBox: `0 0 ${WIDTH} ${HEIGHT + STRIP + 8}`,
      role: "img",
      "aria-label": `${rateText(total)} operations per second now; at most ${rateText(most)} in the picture`,
      "data-samples": samples.length,
    },
    lines,
    areas,
    drawing("rect", { class: "strip", x: LEFT, y: HEIGHT + 6, width: WIDTH - LEFT, height: STRIP, rx: 2 }),
    troubles,
  );
}

/** A column of the strip below: how much of a sample was throttled and how much failed. */
function troubleAt({ total, throttled, failed }, left, width) {
  if (total <= 0) return [];
  let top = HEIGHT + 6 + STRIP;
  return [
    ["failed", failed],
    ["throttled", throttled],
  ].flatMap(([name, many]) => {
    if (many <= 0) return [];
    const height = Math.max(2, (many / total) * STRIP);
    top -= height;
    return drawing("rect", { class: name, x: left, y: Math.max(HEIGHT + 6, top), width, height });
  });
}

function sumOf(rates) {
  return Object.values(rates).reduce((all, rate) => all + rate, 0);
}

/** 1, 2 or 5 of a power of ten. */
function niceCeiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((nice) => nice >= value) ?? value;
}

function rateText(rate) {
  return rate >= 100 || Number.isInteger(rate) ? String(Math.round(rate)) : rate.toFixed(1);
}
