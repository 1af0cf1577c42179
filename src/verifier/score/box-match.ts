/** Four numbers, as they stand in the output. */
export type Box = readonly [number, number, number, number];
export type BoxFormat = "Corners" | "CornerSize" | "CenterSize";

type Corners = {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
};

function cornersOf([a, b, c, d]: Box, format: BoxFormat): Corners {
  if (format === "CornerSize") return { left: a, top: b, right: a + c, bottom: b + d };
  if (format === "CenterSize")
    return { left: a - c / 2, top: b - d / 2, right: a + c / 2, bottom: b + d / 2 };
  return { left: Math.min(a, c), top: Math.min(b, d), right: Math.max(a, c), bottom: Math.max(b, d) };
}

const areaOf = ({ left, top, right, bottom }: Corners) =>
  Math.max(0, right - left) * Math.max(0, bottom - top);

/** Intersection over union; 0 where one of them has no area. */
export function boxIou(one: Box, other: Box, format: BoxFormat): number {
  const [a, b] = [cornersOf(one, format), cornersOf(other, format)];
  const common = areaOf({
    left: Math.max(a.left, b.left),
    top: Math.max(a.top, b.top),
    right: Math.min(a.right, b.right),
    bottom: Math.min(a.bottom, b.bottom),
  });
  const union = areaOf(a) + areaOf(b) - common;
  return union > 0 && Number.isFinite(common) ? common / union : 0;
}

/** Of rows that only fill an output up: a box without area is none. */
export function isBox(box: Box, format: BoxFormat): boolean {
  return areaOf(cornersOf(box, format)) > 0;
}

/**
 * How many boxes of one side have a partner on the other with an intersection over union of at least `threshold`: pairs
 * are made by size of the overlap, each box has one partner.
 */
export function matchedBoxes(
  expected: readonly Box[],
  got: readonly Box[],
  format: BoxFormat,
  threshold: number,
): number {
  const pairs = expected.flatMap((one, row) =>
    got.map((other, column) => ({ row, column, iou: boxIou(one, other, format) })),
  );
  const rows = new Set<number>();
  const columns = new Set<number>();
  for (const { row, column, iou } of pairs.sort((a, b) => b.iou - a.iou)) {
    if (iou < threshold) break;
    if (rows.has(row) || columns.has(column)) continue;
    rows.add(row);
    columns.add(column);
  }
  return rows.size;
}
