import { init } from "echarts";
import type { Dashboard, Panel, Query, Unit } from "./panel.ts";

/** A series as a panel draws it. */
export type Line = {
  readonly name: string;
  /** Seconds since the start of the picture, and the value; NaN where there is none. */
  readonly points: readonly (readonly [number, number])[];
};

type Drawn = { readonly panel: Panel; readonly lines: readonly Line[]; readonly box: Box };
type Box = { readonly left: number; readonly top: number; readonly width: number; readonly height: number };

const WIDTH = 960;
const GAP = 20;
const SIZES = {
  number: { columns: 5, height: 70 },
  lines: { columns: 3, height: 230 },
  areas: { columns: 3, height: 230 },
};
/** The most lines of a panel: pictures are small, and the greatest tell the story. */
const MOST_LINES = 8;
const LEGEND_LINE = 22;

/** A dashboard as one SVG, drawn from what its queries have found. */
export async function drawDashboard(
  { rows }: Dashboard,
  find: (query: Query) => Promise<readonly Line[]>,
): Promise<string> {
  const drawn: Drawn[] = [];
  let top = GAP / 2;
  for (const { panels } of rows) {
    const [first] = panels;
    if (first === undefined) continue;
    const { columns, height } = SIZES[first.shape];
    const width = (WIDTH - GAP) / columns;
    for (const [index, panel] of panels.entries()) {
      const found = (await Promise.all(panel.queries.map(find))).flat();
      const row = Math.floor(index / columns);
      const box = { left: GAP / 2 + (index % columns) * width, top: top + row * height, width, height };
      drawn.push({ panel, lines: greatest(found), box });
    }
    top += Math.ceil(panels.length / columns) * height;
  }
  return svgOf(drawn, top + GAP / 2);
}

function svgOf(drawn: readonly Drawn[], height: number): string {
  const plots = drawn.filter(({ panel }) => panel.shape !== "number");
  const chart = init(null, null, { renderer: "svg", ssr: true, width: WIDTH, height });
  chart.setOption({
    animation: false,
    backgroundColor: "#ffffff",
    textStyle: { fontFamily: "sans-serif" },
    title: drawn.map(titleOf),
    legend: plots.map(({ lines, box }) => ({
      data: lines.map(({ name }) => name),
      left: box.left,
      top: box.top + 22,
      width: box.width - GAP,
      itemWidth: 8,
      itemHeight: 8,
      itemGap: 14,
      icon: "rect",
      textStyle: { fontSize: 9 },
    })),
    grid: plots.map(({ lines, box }) => ({
      left: box.left + 42,
      top: box.top + 22 + LEGEND_LINE * legendLines(lines, box.width - GAP),
      width: box.width - 42 - GAP,
      height: box.height - 56 - LEGEND_LINE * legendLines(lines, box.width - GAP),
    })),
    xAxis: plots.map((_, gridIndex) => ({
      gridIndex,
      type: "value",
      min: "dataMin",
      max: "dataMax",
      splitLine: { show: false },
      splitNumber: 3,
      axisLabel: { fontSize: 9, formatter: (value: number) => `${Math.round(value)} s`, hideOverlap: true },
    })),
    yAxis: plots.map(({ panel }, gridIndex) => ({
      gridIndex,
      type: "value",
      min: 0,
      splitNumber: 3,
      axisLabel: { fontSize: 9, formatter: (value: number) => textOf(value, panel.unit) },
    })),
    series: plots.flatMap(({ panel, lines }, index) =>
      lines.map(({ name, points }) => ({
        name,
        type: "line",
        xAxisIndex: index,
        yAxisIndex: index,
        symbol: "none",
        lineStyle: { width: 1.5 },
        ...(panel.shape === "areas" ? { stack: `${index}`, areaStyle: { opacity: 0.25 } } : {}),
        data: points.map(([at, value]) => [at, Number.isFinite(value) ? Number(value.toPrecision(4)) : null]),
      })),
    ),
  });
  try {
    return `${chart.renderToSVGString()}\n`;
  } finally {
    chart.dispose();
  }
}

function titleOf({ panel, lines, box }: Drawn) {
  const last = lines[0]?.points.at(-1)?.[1] ?? Number.NaN;
  return {
    text: panel.title,
    left: box.left,
    top: box.top,
    textStyle: { fontSize: 12, color: "#333333" },
    ...(panel.shape === "number"
      ? { subtext: textOf(last, panel.unit), subtextStyle: { fontSize: 24, color: "#1a6f3c" }, itemGap: 4 }
      : {}),
  };
}

function greatest(lines: readonly Line[]): readonly Line[] {
  const peak = ({ points }: Line) => Math.max(...points.map(([, value]) => value).filter(Number.isFinite));
  const sorted = lines
    .filter(({ points }) => points.some(([, value]) => Number.isFinite(value)))
    .sort((a, b) => peak(b) - peak(a));
  // What stays at 0 is drawn only where everything does.
  const risen = sorted.filter((line) => peak(line) > 0);
  return (risen.length > 0 ? risen : sorted).slice(0, MOST_LINES);
}

/** How many lines a legend of this width takes. */
function legendLines(lines: readonly Line[], width: number): number {
  let used = 0;
  let count = 1;
  for (const { name } of lines) {
    const own = name.length * 5.5 + 30;
    if (used + own > width && used > 0) {
      count += 1;
      used = 0;
    }
    used += own;
  }
  return count;
}

function textOf(value: number, unit: Unit): string {
  if (!Number.isFinite(value)) return "–";
  const short = (number: number) => String(Number(number.toPrecision(3)));
  switch (unit) {
    case "short":
      return value >= 10_000 ? `${short(value / 1000)} k` : short(Math.round(value * 100) / 100);
    case "percentunit":
      return `${short(value * 100)} %`;
    case "s":
      return `${short(value)} s`;
    case "reqps":
      return `${short(value)}/s`;
    case "bytes":
      return `${short(value / 2 ** 20)} MiB`;
    case "binBps":
      return `${short(value / 2 ** 10)} KiB/s`;
  }
}
