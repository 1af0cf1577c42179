export function devices(count: number): string {
  return count === 1 ? "1 device" : `${count} devices`;
}
